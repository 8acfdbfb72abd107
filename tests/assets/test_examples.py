"""Examples and plots beside a materialization: ten a reason, masked, never markup, and small."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import dagster as dg
import pytest

from assets.examples import CHARACTERS, MOST, chosen_examples, examples, shown_texts, texts_of
from assets.metadata import described
from assets.pictures import INLINE
from pipelines.clean import CLEAN_VERSION, SIGNALS, clean
from pipelines.clean_recipe import docs
from pipelines.ingest import INGEST_VERSION, ingest
from pipelines.profile.signal_counts import bounds
from pipelines.provenance import fates
from pipelines.provenance.fates import FateRows
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
from pipelines.sources import IngestRecipe

SECRETS = {
    "jane@doe.org": "<email>",
    "81.2.69.142": "<ip>",
    "4111 1111 1111 1111": "<credit_card>",
    "GB82 WEST 1234 5698 7654 32": "<iban>",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345": "<secret>",
    "+49 30 901820": "<phone>",
}


def cleaned(root, texts, **fields):
    store = Store(root)
    folder = root / "in"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    recipe = IngestRecipe(reader="jsonl", source="mine", snapshot="1", license="CC0-1.0")
    key = Key("raw_documents", "mine/1")
    raw = build(store, key, INGEST_VERSION, recipe, [], lambda d: ingest(recipe, d, path=folder)).artifact
    rules = docs().model_copy(update={"language": "", **fields})
    key = Key("clean_documents", "mine/1")
    return build(store, key, CLEAN_VERSION, rules, [raw], lambda d: clean(raw, rules, d)).artifact


def told(artifact, room=20_000) -> str:
    return examples(artifact, bounds(artifact), room)


def cells(markdown: str) -> list[str]:
    """Texts of the rows, without the fences of code."""
    rows = [re.split(r"(?<!\\)\|", line) for line in markdown.splitlines() if line.startswith("| ")]
    return [row[2].strip().strip("`").strip() for row in rows if row[1].strip() != "measured"]


def test_ten_of_every_reason_are_shown_with_what_was_measured(tmp_path):
    artifact = cleaned(tmp_path, [f"Too short {n}." for n in range(15)] + ["\x07"])
    shown = told(artifact)
    assert shown.count("Too short") == MOST
    assert "**`too_short`** (`num_words < 20`), 15 documents" in shown
    assert "**`empty`** (`num_chars < 1`), 1 documents" in shown
    assert shown.index("too_short") < shown.index("empty"), "the commonest reason comes first"
    assert "| 3 | `Too short" in shown


def test_the_examples_are_the_same_every_time_and_of_the_smallest_ids(tmp_path):
    artifact = cleaned(tmp_path, [f"Too short {n}." for n in range(40)])
    ids = sorted(artifact.table(fates.FILE)["doc_id"].to_pylist())
    assert [example.doc_id for example in chosen_examples(artifact)["too_short"]] == ids[:MOST]
    assert told(artifact) == told(artifact)


def test_examples_are_chosen_over_all_batches(tmp_path):
    artifact = cleaned(tmp_path, [f"Too short {n}." for n in range(8300)])
    ids = sorted(artifact.table(fates.FILE)["doc_id"].to_pylist())
    assert [example.doc_id for example in chosen_examples(artifact)["too_short"]] == ids[:MOST]


@pytest.mark.parametrize("value", SECRETS)
def test_what_names_a_person_is_masked_whatever_the_recipe_masks(tmp_path, value):
    switches = {f"mask_{rule}": False for rule in ("email", "secret", "crypto", "iban", "credit_card", "ip", "phone")}
    artifact = cleaned(tmp_path, [f"Write to {value} now."], **switches)
    shown = told(artifact)
    assert cells(shown) == [f"Write to {SECRETS[value]} now."]
    assert value not in json.dumps(str(described(artifact)))


def test_a_value_across_the_cut_is_masked_before_it_is_cut():
    text = "x" * (CHARACTERS - 8) + " jane@doe.org is here"
    assert shown_texts([text])[0].endswith(" <email…")


def test_a_value_that_a_control_character_breaks_is_masked_too():
    assert shown_texts(["Write to ja\x07ne@doe.org or joe\ufeff@doe.org now."]) == ["Write to <email> or <email> now."]


def test_long_texts_are_shortened_to_one_line():
    (shown,) = shown_texts(["one\n\n\ttwo  three " * 100])
    assert len(shown) == CHARACTERS
    assert shown.startswith("one two three one")
    assert shown.endswith("…")


def test_what_cannot_be_seen_is_written_out():
    assert shown_texts(["a\u202eb\u200bc\U000e0041d\u2028e\x1b[31m"]) == [r"a\u202eb\u200bc\ue0041d e[31m"]


@pytest.mark.parametrize(
    "text",
    ["a | b", "`tick` ``two``", "<img src=x onerror=alert(1)>", "[x](javascript:1)", "| --- |", "# head\n* item"],
)
def test_markup_stays_in_its_cell_as_code(tmp_path, text):
    (row,) = [line for line in told(cleaned(tmp_path, [text])).splitlines() if "| text |" not in line and "`" in line][
        1:
    ]
    parts = re.split(r"(?<!\\)\|", row)
    assert len(parts) == 4, "a cell of its own"
    cell = parts[2].strip()
    fence = re.match("`+", cell).group()
    inside = cell.removeprefix(fence).removesuffix(fence)
    assert fence not in re.findall("`+", inside)
    assert inside.strip().replace("\\|", "|") == " ".join(text.split())


def test_many_reasons_share_the_room_fairly(tmp_path):
    artifact = cleaned(tmp_path, [f"Too short {n}." for n in range(12)] + ["\x07" * n for n in range(1, 12)])
    few = told(artifact, 400)
    assert 0 < few.count("Too short") < MOST
    assert "`empty`" in few
    assert len(few) <= 400
    assert told(artifact, 10) == ""


def test_a_source_without_drops_has_no_examples(tmp_path):
    artifact = cleaned(
        tmp_path, ["The function returns the mean of the values that have been given to it with care, " * 3]
    )
    assert told(artifact) == ""
    assert "examples" not in described(artifact)


def test_only_the_beginning_of_a_text_is_read(tmp_path):
    artifact = cleaned(tmp_path, ["é" * 100])
    (found,) = texts_of(artifact.inputs("raw_documents"), artifact.table(fates.FILE)["doc_id"].to_pylist(), 7).values()
    assert found == "é" * 7


@pytest.fixture(scope="module")
def worst(tmp_path_factory):
    """Every reason many times, in long texts of characters that take most room."""
    store = Store(tmp_path_factory.mktemp("worst"))
    artifact = cleaned(store.files.local_root / "a", ["語𝒳" * 400 + str(n) for n in range(64)])
    reasons = [bound.reason for bound in bounds(artifact)]
    rows = FateRows()
    for n, doc_id in enumerate(artifact.table(fates.FILE)["doc_id"].to_pylist()):
        rows.add(doc_id, fates.DROPPED, reasons[n % len(reasons)], 1234.5678)
    raw = artifact.input("raw_documents")

    def make(draft):
        draft.write(fates.FILE, rows.table())
        draft.write(SIGNALS, artifact.table(SIGNALS))
        return draft.seal(counts=fates.counted(rows.table()))

    return build(artifact.store, Key("clean_documents", "mine/2"), "1", docs(), [raw], make).artifact


def test_the_metadata_of_one_materialization_stays_small(worst):
    from dagster._serdes import serialize_value

    event = dg.AssetMaterialization("clean_documents", metadata=described(worst))
    assert len(serialize_value(event)) < 64_000


def test_plots_are_on_the_page_itself_and_signals_behind_a_click(library):
    for asset in ("clean_documents", "source_profile"):
        found = described(library.store.open(asset, "letters/1"))
        plots = {name: value.value for name, value in found.items() if name.startswith("plot_")}
        assert {"plot_funnel", "plot_lengths", "plot_drop_reasons", "plot_signals"} <= set(plots)
        for name, text in plots.items():
            assert (len(text) < INLINE) == (name != "plot_signals"), name
            for address in re.findall(r"\(<(data:.*?)>\)", text):
                assert unquote(address).startswith("data:image/svg+xml,<svg ")


def test_bars_give_way_until_they_fit_on_the_page(worst):
    text = described(worst)["plot_drop_reasons"].value
    assert len(text) < INLINE
    assert "others" in text


def test_the_signal_that_dropped_most_is_drawn_first(library):
    text = described(library.store.open("source_profile", "letters/1"))["plot_signals"].value
    assert text.startswith("**num_words**")


def test_the_page_can_be_found_from_the_profile(library):
    artifact = library.store.open("source_profile", "letters/1")
    page = described(artifact)["page"]
    assert isinstance(page, dg.PathMetadataValue)
    assert page.value.endswith("/profile.html")
    assert Path(page.value.removeprefix("file://")).read_bytes() == artifact.local("profile.html").read_bytes()


def test_artifacts_without_signals_have_no_plots(library):
    assert not [name for name in described(library.store.open("raw_documents", "letters/1")) if "plot" in name]


def test_show_prints_a_profile_as_tables(library, stemma):
    said = stemma(library, "show", "source_profile", "letters/1")
    for words in ("why they went", "too_short", "quarantined: not JSON", "licences, of those kept", "CC-BY-4.0"):
        assert words in said, words


def test_show_gives_the_rows_of_a_profile_to_programs(library, stemma):
    rows = stemma.json(library, "show", "source_profile", "letters/1")
    kept = [row for row in rows if (row["dimension"], row["name"]) == ("fate", "kept")]
    assert sum(row["docs"] for row in kept) == 19
    assert {row["source"] for row in stemma.json(library, "show", "source_profile")} == {"letters/1", "poems/1"}


def test_show_writes_the_page_of_one_source(library, stemma, tmp_path):
    out = tmp_path / "page.html"
    stemma(library, "show", "source_profile", "letters/1", "--out", str(out))
    assert out.read_bytes() == library.store.open("source_profile", "letters/1").local("profile.html").read_bytes()
    said = " ".join(stemma(library, "show", "source_profile", "--out", str(out), code=2).split())
    assert "name it, of letters/1, poems/1" in said
    said = " ".join(stemma(library, "show", "clean_documents", "letters/1", "--out", str(out), code=2).split())
    assert "clean_documents has none" in said


def test_show_tells_how_many_rows_it_left_out(library, stemma):
    assert "1 more; -n 2 shows them" in stemma(library, "show", "source_profile", "letters/1", "-n", "1")
