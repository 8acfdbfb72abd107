"""The tables under [corpora.NAME.dedup]: what they switch on is done by the graph and told by the command line."""

import json

import pytest

from assets.blueprint import BLUEPRINTS
from assets.builder import build_key
from pipelines.provenance.manifest import Key
from pipelines.spec import SpecError
from tests.assets.conftest import prose

FOOT = "Printed for the keepers of the northern light, who reserve all rights in it."


def write(place, texts, more):
    """A place whose letters are these texts and whose corpus says this of its dedup."""
    lines = [json.dumps({"id": f"t{number}", "text": text}) for number, text in enumerate(texts)]
    (place.folder / "letters.jsonl").write_text("\n".join(lines) + "\n")
    place.edit("[corpora.small.heldout]", f"{more}\n[corpora.small.heldout]")
    return place


def build(place, *last):
    """The corpus up to some assets."""
    chain = ["raw_documents", "clean_documents", "signatures", "duplicate_clusters", *last]
    for asset in chain:
        for key in [k for k in place.keys() if k.asset == asset]:
            build_key(place.spec, place.store, key)


def wrong(place, asset, more):
    """What is said of a mistake in the last line of this, HERE being its file and line."""
    place.edit("[corpora.small.heldout]", f"{more}\n[corpora.small.heldout]")
    line = place.spec_path.read_text().split("\n").index(more.split("\n")[-1]) + 1
    with pytest.raises(SpecError) as caught:
        BLUEPRINTS[asset](place.spec, "small")
    return str(caught.value).replace(f"stemma.toml:{line}: ", "HERE: ")


def test_a_line_that_many_documents_have_is_cut_and_the_audit_shows_it(blank, stemma):
    texts = [f"{prose(200 + n)}\n{FOOT}" for n in range(5)]
    place = write(blank, texts, "[corpora.small.dedup.boilerplate]\nmin_documents = 5")
    build(place, "unique_documents", "heldout_documents", "benchmark_prompts", "training_documents")
    part = place.store.open("unique_documents", "small").part("letters/1")
    assert part.counts["documents_cut"] == 4
    name = part.table("cuts.arrow")["doc_id"][0].as_py().hex()
    (answer,) = stemma.json(place, "audit", "document", name)
    (cut,) = answer["cuts"]
    assert (cut["stage"], cut["words"]) == ("unique_documents", 14)
    assert [(span["rule"], span["text"].strip()) for span in cut["spans"]] == [("repeated_line", FOOT)]
    assert cut["before"] == f"{cut['after']}\n{FOOT}"
    shown = " ".join(stemma(place, "audit", "document", name).split())
    assert f"unique_documents cut 14 words in 1 spans; {cut['words_left']} are left" in shown


def test_a_document_that_nothing_cut_has_no_cuts_in_its_answer(blank, stemma):
    place = write(blank, [prose(300)], '[corpora.small.dedup.boilerplate]\nunit = "paragraphs"')
    build(place, "unique_documents", "heldout_documents", "benchmark_prompts", "training_documents")
    name = place.store.open("clean_documents", "letters/1").table("documents.arrow")["doc_id"][0].as_py().hex()
    (answer,) = stemma.json(place, "audit", "document", name)
    assert "cuts" not in answer


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("[corpora.small.dedup.boilerplate]\nmin_docs = 5", "HERE: unknown key 'min_docs'; did you mean 'min_documents'?."),
        ("[corpora.small.dedup.boilerplate]\nmin_documents = 1", "HERE: min_documents: Input should be greater than or equal to 2, found 1."),
        ('[corpora.small.dedup.boilerplate]\nunit = "pages"', "HERE: unit: Input should be 'off', 'lines' or 'paragraphs', found 'pages'."),
        ("[corpora.small.dedup]\nboilerplate = true", "HERE: is a table of its own, [corpora.small.dedup.boilerplate], found True."),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(blank, said, told):
    assert wrong(blank, "unique_documents", said) == told


def test_the_boilerplate_table_steers_unique_documents_alone(blank):
    before = [BLUEPRINTS[a](blank.spec, "small").recipe.identity() for a in ("duplicate_clusters", "unique_documents")]
    blank.edit("[corpora.small.heldout]", "[corpora.small.dedup.boilerplate]\n[corpora.small.heldout]")
    after = [BLUEPRINTS[a](blank.spec, "small").recipe.identity() for a in ("duplicate_clusters", "unique_documents")]
    assert (before[0], before[1]["unit"], after[1]["unit"]) == (after[0], "off", "lines")
    assert Key("unique_documents", "small") in blank.keys()


def test_a_document_that_another_one_quotes_whole_goes_for_it_and_the_audit_says_so(blank, stemma):
    quotation = prose(400)
    place = write(
        blank, [quotation, f"{prose(401, 6)} {quotation} {prose(402, 6)}"], "[corpora.small.dedup]\ncontainment = true"
    )
    build(place, "unique_documents", "heldout_documents", "benchmark_prompts", "training_documents")
    clusters = place.store.open("duplicate_clusters", "small")
    assert (clusters.manifest.recipe["keep"], clusters.counts["merged_contained"]) == ("longest", 1)
    (row,) = (r for r in clusters.part("letters/1").table("merged.arrow").to_pylist() if r["method"] == "contained")
    name = row["doc_id"].hex()
    (answer,) = stemma.json(place, "audit", "document", name)
    assert next(one["text"] for one in answer["survivors"]).count(answer["text"]) == 1
    assert "contained, 100% of it stand there" in " ".join(stemma(place, "audit", "document", name).split())


def test_containment_keeps_another_order_where_the_spec_asks_for_it(blank):
    blank.edit(
        "[corpora.small.heldout]", '[corpora.small.dedup]\ncontainment = true\nkeep = "order"\n[corpora.small.heldout]'
    )
    assert BLUEPRINTS["duplicate_clusters"](blank.spec, "small").recipe.identity()["keep"] == "order"


def test_a_mistake_in_containment_is_told_with_its_line(blank):
    said = "[corpora.small.dedup]\ncontainment = true\nspan_words = 2"
    told = "HERE: span_words: Input should be greater than or equal to 5, found 2."
    assert wrong(blank, "duplicate_clusters", said) == told
