"""Published parameters as presets: what a corpus that names one gets, and what is refused."""

from __future__ import annotations

import pytest
from corpora import doc_id
from test_dedup import LONGER, SHOUTED, TEXT, merged

from pipelines import dedup, signatures
from pipelines.dedup import DedupRecipe, bands_and_rows, cluster
from pipelines.dedup_presets import PRESETS, dedup_recipe, signature_recipe
from pipelines.signatures import SignatureRecipe, sign
from pipelines.spec import Spec, SpecError

SPEC = """\
default_run = "one"
[sources."a/1"]
reader = "text"
path = "a.txt"
[vocabularies.v]
corpus = "one"
[corpora.one]
sources = ["a/1"]
vocabulary = "v"
[corpora.two]
sources = ["a/1"]
vocabulary = "v"
[runs.one]
corpus = "one"
"""


def spec(tmp_path, more="") -> Spec:
    return Spec(SPEC + more, tmp_path / "stemma.toml")


def found(bands, rows, alike):
    return 1 - (1 - alike**rows) ** bands


@pytest.mark.parametrize(
    ("name", "num_perm", "bands", "rows", "threshold"),
    [("fineweb", 112, 14, 8, 0.75), ("refinedweb", 9000, 450, 20, 0.8), ("bigcode", 256, 25, 10, 0.7)],
)
def test_a_preset_has_the_published_numbers(name, num_perm, bands, rows, threshold):
    signing, chosen = PRESETS[name]
    assert (signing.shingle, signing.ngram, signing.num_perm) == ("words", 5, num_perm)
    assert (chosen.bands, chosen.rows, chosen.threshold) == (bands, rows, threshold)
    assert bands_and_rows(chosen, num_perm) == (bands, rows)


def test_the_probabilities_that_the_papers_give_follow():
    assert [round(found(14, 8, s), 2) for s in (0.7, 0.75, 0.8)] == [0.56, 0.77, 0.92]  # FineWeb, App. E.1
    assert [round(found(450, 20, s), 3) for s in (0.75, 0.8)] == [0.761, 0.995]  # RefinedWeb, App. G.3.1


def test_the_bands_of_bigcode_are_datasketchs_choice():
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=0.7, num_perm=256)
    assert (index.b, index.r) == (25, 10)


def test_without_a_preset_everything_is_as_the_defaults_say(tmp_path):
    assert dedup_recipe(spec(tmp_path), "one") == DedupRecipe()
    assert signature_recipe(spec(tmp_path)) == SignatureRecipe()


def test_a_corpus_begins_from_its_preset_and_says_what_differs(tmp_path):
    mine = spec(tmp_path, '[corpora.one.dedup]\npreset = "bigcode"\nthreshold = 0.9\nkeep = "longest"\n')
    assert dedup_recipe(mine, "one") == DedupRecipe(bands=25, rows=10, threshold=0.9, keep="longest")
    assert dedup_recipe(mine, "two") == DedupRecipe()


def test_signatures_are_as_long_as_the_longest_preset_needs_for_every_source(tmp_path):
    both = '[corpora.one.dedup]\npreset = "fineweb"\n[corpora.two.dedup]\npreset = "refinedweb"\n'
    assert signature_recipe(spec(tmp_path, both)) == SignatureRecipe(num_perm=9000)
    assert signature_recipe(spec(tmp_path, both + "[signatures]\nseed = 3\n")) == SignatureRecipe(num_perm=9000, seed=3)
    said = signature_recipe(spec(tmp_path, both + "[signatures]\nnum_perm = 200\n"))
    assert said.num_perm == 200  # said is said: clustering tells that it is too short
    with pytest.raises(ValueError, match="450 bands of 20 rows need signatures of 9000 permutations, these have 200"):
        bands_and_rows(PRESETS["refinedweb"].dedup, said.num_perm)


@pytest.mark.parametrize("value", ['"web"', "3", '["fineweb"]', '""'])
def test_an_unknown_preset_is_refused_with_its_line_and_those_that_there_are(tmp_path, value):
    wrong = spec(tmp_path, f"[corpora.one.dedup]\npreset = {value}\n")
    for ask in (lambda: dedup_recipe(wrong, "one"), lambda: signature_recipe(wrong)):
        with pytest.raises(SpecError, match=r"toml:16: no preset .*; there are: fineweb, refinedweb, bigcode"):
            ask()


def test_a_field_that_no_recipe_has_is_refused(tmp_path):
    with pytest.raises(SpecError, match="keeps"):
        dedup_recipe(spec(tmp_path, '[corpora.one.dedup]\npreset = "fineweb"\nkeeps = "longest"\n'), "one")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_removes_what_is_alike_and_nothing_else(corpora, name):
    signing, chosen = PRESETS[name]
    clean = corpora.clean("a/1", [TEXT, SHOUTED, "nothing of this resembles any of the other texts at all"])
    more = corpora.clean("b/1", [LONGER])  # Jaccard 13/14
    signed = [
        corpora.run("signatures", c.key.partition, signatures.VERSION, signing, [c], lambda d, c=c: sign(c, signing, d))
        for c in (clean, more)
    ]
    artifact = corpora.run(
        "duplicate_clusters", "mine", dedup.VERSION, chosen, [clean, more, *signed],
        lambda d: cluster([clean, more], signed, chosen, d),
    )  # fmt: skip
    first = min(doc_id("a/1:0"), doc_id("a/1:1"))
    assert {survivor for survivor, _, _ in merged(artifact).values()} == {first}
    assert sorted(method for _, _, method in merged(artifact).values()) == ["near", "normalised"]
    assert artifact.counts["kept"] == 2
