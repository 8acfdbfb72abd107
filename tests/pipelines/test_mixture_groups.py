"""Mixtures by licence, language and quality, with temperature, caps and phases: who is read how often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from tagged import Doc, tagged

from pipelines.mixture import MixtureRecipe, mixed
from pipelines.mixture_preview import as_json, preview_mixture
from pipelines.provenance.plan import Plan
from pipelines.provenance.store import Store
from pipelines.provenance.trace import Tracer


def docs(name: str, number: int, size: int = 9, **fields) -> list[Doc]:
    return [Doc(f"{name}{i:03d}", size, **fields) for i in range(number)]


SOURCES = {
    "wiki/1": [*docs("we", 40, language="en"), *docs("wd", 20, language="de"), *docs("wx", 5, language=None)],
    "web/1": [
        *docs("be", 60, language="en", licence="CC0-1.0", score=0.9),
        *docs("bd", 20, language="de", licence="CC0-1.0", score=0.2),
        *docs("bn", 10, language="de", licence="MIT", score=None),
    ],
}


@pytest.fixture
def corpus(tmp_path):
    return tagged(Store(tmp_path), SOURCES)


def read_by(artifact, corpus, column: str) -> Counter:
    """Tokens read by a column's value: every step's documents, by the trace."""
    by_id = {d.doc_id: d for d in corpus.documents()}
    tracer = Tracer(corpus.model(artifact))
    found: Counter = Counter()
    for step in range(1, tracer.num_steps + 1):
        for read in tracer.documents(step):
            found[getattr(by_id[read.doc_id], column)] += read.length
    return found


def epochs_of(artifact) -> dict[str, float]:
    return {row["name"]: row["epochs"] for row in artifact.table("cells.arrow").to_pylist()}


def test_sources_alone_need_neither_cells_nor_layouts(corpus):
    artifact = corpus.mixture(weights=["wiki=2"], steps=100)
    assert artifact.names() == ["plan.json", "sources.arrow"]
    assert [part["name"] for part in artifact.json("plan.json")["parts"]] == ["wiki/1", "web/1"]


def test_a_language_is_left_out_and_the_others_go_on(corpus):
    artifact = corpus.mixture(weights=["language:de=0"], steps=60)
    found = read_by(artifact, corpus, "language")
    assert set(found) == {"en", None}
    assert {p["name"] for p in artifact.json("plan.json")["parts"]} == {
        "wiki/1[]", "wiki/1[language:de]", "web/1[]", "web/1[language:de]",
    }  # fmt: skip


def test_factors_of_different_columns_multiply_and_of_one_the_first_counts(corpus):
    weights = ["language:de=2", "language:*=1", "licence:CC0*=3", "wiki=5", "*=1"]
    found = mixed(corpus.token_shards, MixtureRecipe(sequence_length=8, batch_size=10, steps=500, weights=weights))
    rates = {}
    for cell, slots in zip(found.cells, found.totals(), strict=True):
        rates[cell.part, *sorted(str(s) for s in cell.held)] = slots / cell.sequences
    base = rates["wiki/1", "language:*"] / 5  # English of wiki: 1 * 5
    wanted = {
        ("wiki/1", "language:*", "language:de"): 10, ("wiki/1",): 5,
        ("web/1", "language:*", "licence:CC0*"): 3, ("web/1", "language:*", "language:de", "licence:CC0*"): 6,
        ("web/1", "language:*", "language:de"): 2,
    }  # fmt: skip
    for key, factor in wanted.items():
        assert rates[key] / base == pytest.approx(factor, rel=0.03)


def test_a_band_of_a_signal_is_read_more_often_and_what_was_not_measured_is_in_no_band(corpus):
    artifact = corpus.mixture(weights=["score>=0.6=4", "score<0.6=1", "web=1"], steps=150)
    names = {name for name in epochs_of(artifact) if name.startswith("web")}
    assert names == {"web/1[score>=0.6]", "web/1[score<0.6]", "web/1[]"}
    epochs = epochs_of(artifact)
    assert epochs["web/1[score>=0.6]"] / epochs["web/1[score<0.6]"] == pytest.approx(4, rel=0.05)
    assert epochs["web/1[]"] / epochs["web/1[score<0.6]"] == pytest.approx(1, rel=0.1)


def test_columns_of_numbers_and_of_truth_can_be_named(corpus):
    artifact = corpus.mixture(weights=["num_words>=11=2", "num_words<11=1", "listed:false=1"])
    assert artifact.names() == ["plan.json", "sources.arrow"], "all documents are alike: the parts stay whole"


def test_epochs_are_exact_and_the_others_share_the_rest(corpus):
    artifact = corpus.mixture(weights=["language:de=3 epochs", "wiki=2"], steps=200)
    rows = artifact.table("cells.arrow").to_pylist()
    for row in rows:
        if "language:de" in row["name"]:
            assert row["slots"] == 3 * row["sequences"]
    assert sum(row["slots"] for row in rows) == 400
    rest = {row["name"]: row["epochs"] for row in rows if "language:de" not in row["name"]}
    assert rest["wiki/1[]"] / rest["web/1[]"] == pytest.approx(2, rel=0.05)


def test_half_an_epoch_more_is_rounded_to_a_sequence(corpus):
    found = mixed(
        corpus.token_shards, MixtureRecipe(sequence_length=8, batch_size=10, steps=50, weights=["wiki=1.5 epochs"])
    )
    wiki = [
        (cell.sequences, slots)
        for cell, slots in zip(found.cells, found.totals(), strict=True)
        if cell.part == "wiki/1"
    ]
    assert wiki == [(73, 110)]


@pytest.mark.parametrize(("recipe", "says"), [
    ({"weights": ["wiki=9 epochs"]}, r"ask for 657 sequences, the phase reads 20\. Lower the epochs or raise steps"),
    ({"weights": ["wiki=1 epoch", "web=0"], "steps": 50}, "read 73 of 100 sequences of the phase, and no other source"),
    ({"weights": ["blog=2"]}, r"'blog=2' names no source of this corpus \(wiki/1, web/1\)"),
    ({"weights": ["language:fr=2"]}, "'language:fr=2' names no document of this corpus"),
    ({"weights": ["colour:red=2"]}, "documents have no column 'colour'; there are language, licence, listed, num_words"),
    ({"weights": ["licence>=2=2"]}, "column 'licence' holds string, no numbers to compare"),
    ({"steps": 400, "max_epochs": 4}, "reads 800 sequences, 4 epochs of the corpus hold 696"),
    ({"weights": ["wiki=3 epochs"], "phases": ["0.5: wiki=2 epochs"], "steps": 400, "max_epochs": 4},
     "wiki/1 would be read 5.00 times in all phases together, max_epochs is 4"),
    ({"phases": ["0.5: wiki=1, web=0"], "steps": 200, "max_epochs": 2}, "2 epochs of the corpus hold 62"),
])  # fmt: skip
def test_a_mixture_that_cannot_be_is_refused_with_the_numbers(corpus, recipe, says):
    with pytest.raises(ValueError, match=says):
        corpus.mixture(**recipe)


def test_temperature_lifts_the_small_and_is_the_published_formula(corpus):
    """Shares q_i = p_i^alpha / sum p_j^alpha (Conneau & Lample 2019, section 3.1)."""
    sizes, shares = {}, {}
    for alpha in (1.0, 0.5, 0.0):
        recipe = MixtureRecipe(sequence_length=8, batch_size=10, steps=1000, alpha=alpha, alpha_over="language")
        found = mixed(corpus.token_shards, recipe)
        by: Counter = Counter()
        for cell, slots in zip(found.cells, found.totals(), strict=True):
            by[cell.value] += slots
            if alpha != 1:
                sizes[cell.value] = sizes.get(cell.value, 0) + cell.sequences * (alpha == 0.5)
        shares[alpha] = {language: slots / 10_000 for language, slots in by.items()}
    assert set(shares[1.0]) == {""}, "by size nothing need be told apart"
    total = sum(size**0.5 for size in sizes.values())
    for language, size in sizes.items():
        assert shares[0.5][language] == pytest.approx(size**0.5 / total, abs=2e-4)
        assert shares[0.0][language] == pytest.approx(1 / 3, abs=2e-4)


def test_no_language_and_an_empty_one_are_the_same_group(tmp_path):
    sources = {"a/1": [*docs("n", 9, language=None), *docs("e", 9, language=""), *docs("d", 9, language="de")]}
    corpus = tagged(Store(tmp_path), sources)
    names = [part["name"] for part in corpus.mixture(alpha=0.5, alpha_over="language").json("plan.json")["parts"]]
    assert names == ["a/1[]", "a/1[de]"]


def test_temperature_over_sources_needs_no_columns(corpus):
    found = mixed(corpus.token_shards, MixtureRecipe(sequence_length=8, batch_size=10, steps=100, alpha=0))
    assert found.totals() == [500, 500]


def test_phases_change_the_weights_and_epochs_go_on(corpus):
    artifact = corpus.mixture(weights=["web=0"], phases=["0.5: wiki=0", "0.75: wiki=1, web=1"], steps=80)
    rows = artifact.table("cells.arrow").to_pylist()
    assert [(r["phase"], r["first_step"], r["name"]) for r in rows] == [
        (p, s, n) for p, s in ((1, 1), (2, 41), (3, 61)) for n in ("wiki/1", "web/1")
    ]
    assert [r["slots"] for r in rows[:4]] == [80, 0, 0, 40]
    tracer = Tracer(corpus.model(artifact))
    sources = [{read.part for read in tracer.documents(step)} for step in (1, 40, 41, 60)]
    assert sources == [{"wiki/1"}, {"wiki/1"}, {"web/1"}, {"web/1"}]
    plan = tracer.plan
    parts, sequences = plan.sequences(range(plan.num_slots))
    for part, planned in enumerate(plan.parts):
        times = np.bincount(sequences[parts == part], minlength=planned.num_sequences)
        assert times.max() - times.min() <= 1, "nothing is read again before all was read once"


def test_a_run_of_one_phase_and_no_groups_has_the_plan_of_old(corpus):
    """Bytes of plan.json and of the table of sources, as runs have them that were sealed before there were phases."""
    artifact = corpus.mixture()
    plan = artifact.json("plan.json")
    assert set(plan) == {"algorithm", "seed", "sequence_length", "parts", "phases", "segments"}
    assert [set(part) for part in plan["parts"]] == [{"name", "num_sequences"}] * 2
    assert Plan.model_validate(plan).digest == artifact.facts["plan"]


def test_the_table_of_sources_adds_up_over_cells(corpus):
    artifact = corpus.mixture(weights=["language:de=2", "score>=0.6=3"], phases=["0.3: wiki=2"], steps=120)
    cells, sources = (artifact.table(name).to_pylist() for name in ("cells.arrow", "sources.arrow"))
    for row in sources:
        own = [c for c in cells if c["part"] == row["part"]]
        first = [c for c in own if c["phase"] == 1]
        assert sum(c["slots"] for c in own) == row["slots"]
        assert sum(c["sequences"] for c in first) == row["sequences"]
        assert (sum(c["docs"] for c in first), sum(c["tokens"] for c in first)) == (row["docs"], row["tokens"])
        read = sum(c["sequences"] * 8 + 1 for c in first)
        assert row["tail_tokens"] == row["tokens"] - read
    assert sum(row["slots"] for row in sources) == 240 == artifact.counts["slots"]


def test_packing_by_best_fit_tells_what_it_cut(tmp_path):
    sizes = [3, 9, 2, 3, 30, 5, 6, 7, 1, 0, 4]
    corpus = tagged(Store(tmp_path), {"a/1": [Doc(f"d{i:02d}", size) for i, size in enumerate(sizes)]})
    artifact = corpus.mixture(packing="best_fit", steps=20)
    assert artifact.counts["cut_docs"] == 1, "only the document of 30 tokens is longer than nine"
    assert artifact.counts["cut_docs_if_concatenated"] > 4
    row = artifact.table("sources.arrow").to_pylist()[0]
    assert (row["docs"], row["tokens"], row["tail_tokens"]) == (11, 70, 0)
    plan = artifact.json("plan.json")
    assert plan["parts"] == [{
        "name": "a/1", "num_sequences": row["sequences"], "source": "a/1", "layout": "layouts/00000.arrow",
        "stride": 9, "fill": 1,
    }]  # fmt: skip
    assert row["sequences"] * 9 == 70 + 3 + artifact.counts["filled_tokens"], (
        "three pieces begin with a token read before"
    )


def test_a_vocabulary_that_pads_with_its_end_of_text_cannot_be_packed(corpus):
    vocabulary = corpus.vocabulary
    vocabulary.facts["specials"]["<|pad|>"] = 0
    with pytest.raises(ValueError, match="pads with its end of text"):
        corpus.mixture(packing="best_fit")


# -- preview -----------------------------------------------------------------------------------------------------


def test_a_preview_tells_what_the_mixture_then_reads(corpus):
    recipe = {"weights": ["language:de=2", "web=3"], "phases": ["0.75: wiki=4"], "steps": 120}
    told = preview_mixture(corpus.token_shards, MixtureRecipe(sequence_length=8, batch_size=2, **recipe))
    artifact = corpus.mixture(**recipe)
    assert told.first_steps == [1, 91]
    assert told.read == 240 * 8
    rows = {row["part"]: row for row in artifact.table("sources.arrow").to_pylist()}
    for group in told.by["source"]:
        assert (group.docs, group.tokens) == (rows[group.name]["docs"], rows[group.name]["tokens"])
        assert sum(group.read) == rows[group.name]["slots"] * 8
        assert group.epochs == pytest.approx(rows[group.name]["epochs"])
    for column in ("licence", "language"):
        assert sum(group.docs for group in told.by[column]) == 155
        assert sum(group.share for group in told.by[column]) == pytest.approx(1, abs=0.01)
    read = read_by(artifact, corpus, "language")
    total = sum(read.values())
    for group in told.by["language"]:
        language = None if group.name == "?" else group.name
        assert group.share == pytest.approx(read[language] / total, abs=0.03)
    assert as_json(told)["by"]["language"][0]["name"] == "en"


def test_a_preview_of_documents_without_a_column_leaves_it_out(tmp_path, monkeypatch):
    corpus = tagged(Store(tmp_path), {"a/1": docs("a", 5)})
    monkeypatch.setattr("pipelines.cells.NOT_COLUMNS", ("doc_id", "language"))
    told = preview_mixture(corpus.token_shards, MixtureRecipe(sequence_length=8, batch_size=2, steps=2))
    assert set(told.by) == {"source", "licence"}


# -- what else may come ------------------------------------------------------------------------------------------


def test_an_empty_source_and_one_of_a_single_document_are_listed(tmp_path):
    corpus = tagged(Store(tmp_path), {"none/1": [], "one/1": [Doc("o", 40)], "words/1": docs("w", 30, size=1)})
    for recipe in (
        {},
        {"weights": ["language:en=2"]},
        {"packing": "best_fit"},
        {"alpha": 0.5, "alpha_over": "language"},
    ):
        rows = {row["part"]: row for row in corpus.mixture(**recipe).table("sources.arrow").to_pylist()}
        assert (rows["none/1"]["docs"], rows["none/1"]["sequences"], rows["none/1"]["slots"]) == (0, 0, 0)
        assert rows["one/1"]["slots"] > 0 < rows["words/1"]["slots"]


def test_a_corpus_without_a_document_is_a_clear_error(tmp_path):
    corpus = tagged(Store(tmp_path), {"none/1": []})
    for recipe in ({}, {"packing": "best_fit"}, {"weights": ["none=2"]}):
        with pytest.raises(ValueError, match="corpus mine has 0 tokens"):
            corpus.mixture(**recipe)


def test_small_tokens_are_mixed_as_large_ones(tmp_path):
    """Token types enter neither plan nor layouts."""
    sources = {"a/1": [*docs("a", 9, size=5), *docs("b", 9, language="de")]}
    recipe = {"weights": ["language:de=2"], "packing": "best_fit"}
    wide, narrow = (tagged(Store(tmp_path / str(kind)), sources, kind=kind) for kind in (pa.uint32(), pa.uint16()))
    assert wide.mixture(**recipe).content == narrow.mixture(**recipe).content
