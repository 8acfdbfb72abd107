"""The report of a training: everything in one file that asks nobody for anything, of one run or of several."""

import re
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from pipelines.provenance.manifest import Key

EVALUATIONS = [
    {"step": 6, "bpb": 3.0, "bpb_clean": None, "docs": 4, "docs_clean": 0,
     "by_part": {"poems/1": {"bpb": 3.1, "docs": 3}, "letters/1": {"bpb": 2.8, "docs": 1}}},
    {"step": 12, "bpb": 2.5, "bpb_clean": None, "docs": 9, "docs_clean": 0,
     "by_part": {"poems/1": {"bpb": 2.6, "docs": 6}, "letters/1": {"bpb": 2.25, "docs": 3}}},
]  # fmt: skip
SPEEDS = {"step": [6, 12], "seconds": [0.5, 0.4], "tokens_per_second": [100.0, 200.0], "data_wait_seconds": [0.0, 0.01],
          "mfu": [0.4, 0.5]}  # fmt: skip


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.names = [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def publish(place, name, *, evaluations=EVALUATIONS, training=None, losses=(5.5, 4.0, 3.25), **facts):
    """A trained run, with the circumstances of its making."""
    mixed = place.store.open("mixture", "demo")

    def make(draft):
        rows = {"step": [1, 6, 12], "loss": list(losses), "lr": [0.1, 0.2, 0.1], "grad_norm": [1.0, 2.0, 0.5]}
        draft.write("losses.arrow", pa.table(rows))
        baselines = {"unigram_bpb": 4.0, "bigram_bpb": 3.0, "trigram_bpb": 2.75}
        draft.write_json("heldout.json", {"evaluations": evaluations, "baselines": baselines, "clean_overlap": 0.5})
        draft.circumstance.update({"training": training or {}})

    found = {"step": 12, "tokens": 768, "parameters": 1234, "heldout_bpb": 2.5, "consumption": "c0ffee"} | facts
    return place.seal(Key("pretrained_model", name), make, [mixed], facts=found)


def written(place, stemma, *arguments):
    said = stemma(place, "report", *arguments)
    path = said.split(": open it in a browser")[0].strip().splitlines()[-1]
    with open(path, encoding="utf-8") as file:
        return file.read()


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_a_report_tells_curves_sources_licences_speed_and_digests(own_library, stemma):
    model = publish(own_library, "demo", training={"device": "NVIDIA H200", "seconds": 7500, "speeds": SPEEDS})
    page = written(own_library, stemma, "demo")
    told = text_of(page)
    for title in ("Training loss", "Held-out text", "by source", "gradient", "Learning rate", "Speed", "utilisation"):
        assert title in told
    for fact in (
        "125 min",
        "NVIDIA H200",
        "50.0%",
        "2.6000",
        "trigram",
        "CC0-1.0",
        "CC-BY-4.0",
        model.digest,
        "c0ffee",
    ):
        assert fact in told, fact
    assert page.count("<svg") == 8


def test_a_report_runs_nothing_and_asks_nobody(own_library, stemma):
    publish(own_library, "demo", training={"speeds": SPEEDS})
    page = written(own_library, stemma, "demo")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(tags.names)
    assert "default-src 'none'" in page
    assert not re.search(r"""(href|src)=|url\(|@import""", page)
    assert "prefers-color-scheme:dark" in page


def test_steps_that_were_skipped_are_listed_with_the_reason(own_library, stemma):
    mixed = own_library.store.open("mixture", "demo")

    def make(draft):
        draft.write(
            "losses.arrow", pa.table({"step": [1, 3], "loss": [5.0, 4.0], "lr": [0.1, 0.1], "grad_norm": [1.0, 1.0]})
        )
        draft.write("skipped.arrow", pa.table({"step": [2], "loss": [99.5], "grad_norm": [1e6], "reason": ["spike"]}))

    own_library.seal(Key("pretrained_model", "demo"), make, [mixed], facts={"step": 3})
    told = text_of(written(own_library, stemma, "demo"))
    assert "Steps that demo skipped" in told
    assert "2 99.5000 1e+06 spike" in told


def test_a_fine_tune_has_a_report_with_the_data_of_its_base(own_library, stemma):
    base = publish(own_library, "demo")

    def make(draft):
        draft.write(
            "losses.arrow", pa.table({"step": [1, 2], "loss": [2.0, 1.0], "lr": [0.1, 0.1], "grad_norm": [1.0, 1.0]})
        )
        draft.write_json("plan.json", base.input("mixture").json("plan.json"))

    own_library.seal(Key("finetuned_model", "demo-source"), make, [base], facts={"step": 2, "parameters": 9})
    page = written(own_library, stemma, "demo-source", "demo")
    told = text_of(page)
    assert "Training of demo-source, demo" in told
    assert "Where the data of demo-source (its base) came from" in told
    assert f"finetuned_model[demo-source] from pretrained_model[demo] {base.digest}" in told


def test_several_runs_share_the_charts_and_only_what_differs_is_told_first(own_library, stemma):
    publish(own_library, "demo")
    publish(own_library, "other", losses=(5.0, 3.5, 3.0), heldout_bpb=2.25)
    page = written(own_library, stemma, "demo", "other", "--by", "tokens")
    assert "Training of demo, other" in page
    legend = re.search(r"<h3>Training loss.*?</h3><div class='keys'>(.*?)</div>", page)
    assert re.findall(r"</i>(\w+)</span>", legend[1]) == ["demo", "other"]
    assert "trigram</text>" not in page, "baselines of several runs would not be told apart"
    assert page.count("Where the data") == 1, "both read the same"
    assert ">tokens</text>" in page


def test_an_artifact_of_before_has_a_report_too(own_library, stemma):
    """No speeds in the ledger, no sources on the way, no plan of its own; and nothing of these is made up."""
    publish(own_library, "demo", evaluations=[{"step": 6, "bpb": 3.0}, {"step": 12, "bpb": 2.5}])
    page = written(own_library, stemma, "demo")
    assert page.count("<svg") == 4
    assert "tokens a second" not in page


def test_names_of_sources_are_text_and_no_markup(own_library, stemma):
    parts = {"<b>/1": {"bpb": 1.0, "docs": 1}}
    publish(own_library, "demo", evaluations=[{"step": s, "bpb": 1.0, "by_part": parts} for s in (6, 12)])
    page = written(own_library, stemma, "demo")
    assert "<b>" not in page
    assert "&lt;b&gt;/1" in page


def test_a_report_goes_where_it_is_told(own_library, stemma, tmp_path):
    publish(own_library, "demo")
    stemma(own_library, "report", "demo", "-o", str(tmp_path / "deep" / "page.html"))
    assert (tmp_path / "deep" / "page.html").read_text().startswith("<!doctype html>")
    stemma(own_library, "report", "demo", "-o", str(tmp_path))
    assert [path.name[:7] for path in tmp_path.glob("*.html")] == ["report-"]  # in a directory, by its own name


def test_a_file_that_cannot_be_written_is_named_without_a_number(own_library, stemma, tmp_path):
    publish(own_library, "demo")
    (tmp_path / "file").write_text("")
    told = " ".join(stemma(own_library, "report", "demo", "-o", str(tmp_path / "file" / "page.html"), code=1).split())
    assert "file exists" in told
    assert "[Errno" not in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("nobody",), "nobody"), (("demo", "--by", "hours"), "there are steps and tokens")],
)
def test_what_does_not_exist_is_told(own_library, stemma, arguments, told):
    assert told in stemma(own_library, "report", *arguments, code=2)


def test_a_model_that_was_not_trained_has_no_report(own_library, stemma):
    base = own_library.store.open("pretrained_model", "demo")
    own_library.seal(Key("compressed_model", "small"), lambda draft: draft.write_json("config.json", {}), [base])
    told = " ".join(stemma(own_library, "report", "small", code=2).split())
    assert "compressed_model[small] has no losses.arrow: it was not trained here" in told


def test_what_was_published_still_verifies_with_a_report_beside_it(own_library, stemma):
    publish(own_library, "demo")
    written(own_library, stemma, "demo")
    stemma(own_library, "audit", "verify")  # exit code 0
