"""Lines and paragraphs that many documents have, against a plain reading of the rule in Python."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from corpora import Corpora, doc_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_dedup import clustered

from pipelines import boilerplate, words
from pipelines import unique as unique_documents
from pipelines.dedup import DedupRecipe
from pipelines.provenance import fates, tables
from pipelines.unique import UniqueRecipe, unique

DEEP = os.environ.get("STEMMA_DEEP") == "1"
FOOT = "all rights are reserved by the keepers of the northern light"  # 11 words
NEVER = DedupRecipe(threshold=1.0)
LINES = UniqueRecipe(unit="lines", min_documents=3, min_words_left=1)


def cut(corpora, sources, recipe=LINES, dedup=NEVER):
    clusters = clustered(corpora, sources, dedup)
    cleans = [corpora.store.open("clean_documents", name) for name in sources]
    return corpora.run(
        "unique_documents", "mine", unique_documents.VERSION, recipe, [*cleans, clusters],
        lambda d: unique(cleans, clusters, recipe, d),
    )  # fmt: skip


def texts(artifact):
    """{doc_id: text} over all parts."""
    return {row["doc_id"]: row["text"] for part in artifact.parts() for row in part.table("texts.arrow").to_pylist()}


def settled(artifact):
    """{doc_id: (fate, reason or method, value, survivor)} of what was not simply kept."""
    return {
        row["doc_id"]: (row["fate"], row["reason"] or row["method"], row["value"], row["survivor"])
        for part in artifact.parts()
        for row in part.table(fates.FILE).to_pylist()
        if row["fate"] != fates.KEPT
    }


def page(number, foot=FOOT):
    return f"page {number} tells its own story\n{foot}"


def test_the_first_document_keeps_the_line_and_the_others_lose_it(corpora):
    pages = [page(0), page(1, FOOT.upper() + "!"), page(2, FOOT.replace(" ", ", "))]
    artifact = cut(corpora, {"a/1": pages[:1], "b/1": pages[1:]})
    assert texts(artifact) == {
        doc_id("a/1:0"): pages[0],
        doc_id("b/1:0"): "page 1 tells its own story",
        doc_id("b/1:1"): "page 2 tells its own story",
    }
    assert (artifact.counts["documents_cut"], artifact.counts["words_cut"]) == (2, 22)


def test_a_corpus_may_lose_the_line_altogether(corpora):
    artifact = cut(corpora, {"a/1": [page(n) for n in range(3)]}, LINES.model_copy(update={"cut": "all"}))
    assert not any(FOOT in text for text in texts(artifact).values())


def test_a_line_of_fewer_documents_or_words_stays(corpora):
    assert cut(corpora, {"a/1": [page(n) for n in range(2)]}).counts["words_cut"] == 0
    short = "a line of nine words is not cut here"
    assert cut(corpora, {"a/1": [page(n, short) for n in range(4)]}).counts["words_cut"] == 0
    recipe = LINES.model_copy(update={"min_unit_words": 9})
    assert cut(corpora, {"a/1": [page(n, short) for n in range(4)]}, recipe).counts["words_cut"] == 27


def test_a_document_that_has_a_line_twice_is_one_document(corpora):
    twice = f"{page(1)}\nand again\n{FOOT}"
    assert cut(corpora, {"a/1": [page(0), twice]}).counts["words_cut"] == 0


def test_documents_that_went_before_do_not_count(corpora):
    assert cut(corpora, {"a/1": [page(0), page(1)], "b/1": [page(1)]}).counts["words_cut"] == 0


def test_paragraphs_are_compared_whole_and_end_at_a_blank_line(corpora):
    recipe = LINES.model_copy(update={"unit": "paragraphs"})
    pages = [f"page {n} has a head\n\n{FOOT}\n{FOOT}\n \npage {n} has a tail" for n in range(3)]
    artifact = cut(corpora, {"a/1": pages}, recipe)
    order = sorted(range(3), key=lambda n: doc_id(f"a/1:{n}"))
    wanted = {doc_id(f"a/1:{n}"): f"page {n} has a head\n\npage {n} has a tail" for n in order[1:]}
    assert texts(artifact) == {doc_id(f"a/1:{order[0]}"): pages[order[0]], **wanted}


def test_too_short_a_rest_is_dropped_with_the_words_that_were_left(corpora):
    recipe = LINES.model_copy(update={"min_words_left": 4})
    artifact = cut(corpora, {"a/1": [page(0)], "b/1": [page(1), f"three words left\n{FOOT}"]}, recipe)
    assert settled(artifact) == {doc_id("b/1:1"): (fates.DROPPED, "cut_short:lines", 3.0, None)}
    assert doc_id("b/1:1") not in texts(artifact)


def test_two_texts_that_the_cut_made_equal_are_one(corpora):
    head = "the same story stands here"
    other = FOOT.replace("northern", "southern")
    sources = {
        "a/1": [page(0), page(1, other)],
        "b/1": [page(2), page(3, other)],
        "c/1": [f"{head}\n{FOOT}", f"{head}\n{other}\n{other}"],
    }
    artifact = cut(corpora, sources)
    first, second = sorted((doc_id("c/1:0"), doc_id("c/1:1")))
    assert settled(artifact) == {second: (fates.MERGED, boilerplate.TWIN, None, first)}
    assert texts(artifact)[first] == head


def test_an_uncut_document_goes_for_an_earlier_one_that_was_cut_to_its_text(corpora):
    plain = "the same story stands here"
    artifact = cut(corpora, {"a/1": [page(0)], "b/1": [page(1), f"{plain}\n{FOOT}"], "c/1": [plain]})
    assert settled(artifact)[doc_id("c/1:0")] == (fates.MERGED, boilerplate.TWIN, None, doc_id("b/1:1"))


def test_off_is_the_default_and_writes_what_it_always_wrote(corpora):
    sources = {"a/1": [page(n) for n in range(4)]}
    plain = cut(corpora, sources, UniqueRecipe())
    assert plain.parts()[0].names() == ["documents.arrow", "fates.arrow", "texts.arrow"]
    assert set(texts(plain).values()) == set(sources["a/1"])
    other = cut(corpora, sources, UniqueRecipe(min_documents=2))
    assert [part.digest for part in other.parts()] == [part.digest for part in plain.parts()]


def test_spans_and_digests_lead_from_the_text_to_what_is_left(corpora):
    sources = {"a/1": [page(n) for n in range(2)], "b/1": [f"{FOOT}\n\nnaïve café {n}\n{FOOT}\n" for n in range(3)]}
    artifact = cut(corpora, sources)
    left, num_cuts = texts(artifact), 0
    for source in sources:
        part = artifact.part(source)
        rows = corpora.store.open("clean_documents", source).table("texts.arrow").to_pylist()
        before = {row["doc_id"]: row["text"] for row in rows}
        spans = defaultdict(list)
        for row in part.table("spans.arrow").to_pylist():
            spans[row["doc_id"]].append((row["start"], row["start"] + row["length"]))
        documents = {row["doc_id"]: row for row in part.table("documents.arrow").to_pylist()}
        for row in part.table("cuts.arrow").to_pylist():
            text, name = before[row["doc_id"]], row["doc_id"]
            goes = {place for start, stop in spans.pop(name) for place in range(start, stop)}
            rest = "".join(character for place, character in enumerate(text) if place not in goes)
            assert row["sha256_in"] == hashlib.sha256(text.encode()).digest()
            assert row["sha256_out"] == hashlib.sha256(rest.encode()).digest()
            assert (row["words"], row["words_left"]) == (
                len(re.findall(r"\w+", text)) - len(re.findall(r"\w+", rest)), len(re.findall(r"\w+", rest)),
            )  # fmt: skip
            if name in left:
                assert left[name] == rest
                assert documents[name]["num_words"] == row["words_left"]
                assert documents[name]["num_bytes"] == len(rest.encode())
                assert documents[name]["sha256_out"] == row["sha256_out"]
            num_cuts += 1
        assert not spans
    assert num_cuts == 4


def test_blank_lines_around_what_was_cut_do_not_stay_alone(corpora):
    recipe = LINES.model_copy(update={"min_documents": 2, "min_words_left": 0})
    artifact = cut(corpora, {"a/1": [FOOT], "b/1": [f"\n{FOOT}\n\n{FOOT}\n\n{FOOT}"]}, recipe)
    assert texts(artifact) == {doc_id("a/1:0"): FOOT, doc_id("b/1:0"): ""}
    # two lines that go with a blank one between are one beginning, and the blank line behind them goes too
    artifact = cut(corpora, {"a/1": [FOOT], "b/1": [f"{FOOT}\n\n{FOOT}\n\n{FOOT}\n\nits own"]}, recipe)
    assert texts(artifact) == {doc_id("a/1:0"): FOOT, doc_id("b/1:0"): "its own"}


def test_a_text_of_which_nothing_but_blanks_would_stay_goes_as_a_whole(corpora):
    recipe = LINES.model_copy(update={"min_documents": 2, "min_words_left": 0, "cut": "all"})
    given = {"a/1": [f"\n\n{FOOT}\n\n\n", f"\n\n{FOOT}\n\nof its own \n\n{FOOT}\n\n"], "b/1": [""]}
    artifact = cut(corpora, given, recipe)
    kept = texts(artifact)
    assert sorted(kept.values()) == ["", "\n\n\nof its own \n\n\n"]
    assert artifact.counts["merged"] == 1


# -- against a plain reading of the rule -------------------------------------------------------------------------

POOL = ["", " ", "short", FOOT, FOOT.upper() + " .", FOOT.replace("northern", "söuthern"), "x y z", "--- ", "\t* * *"]
documents = st.lists(st.sampled_from(POOL), max_size=7).map("\n".join)


def plain_units(text, paragraphs):
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    if not paragraphs:
        return lines
    units = []
    for line in lines:
        begins = units and line.strip() and units[-1].strip() and not units[-1].split("\n")[-2:][0].strip()
        if not units or begins:
            units.append(line)
        else:
            units[-1] += line
    return units


def plain_key(unit, recipe):
    found = tuple(re.findall(r"\w+", unit.lower()))
    return found if len(found) >= recipe.min_unit_words else None


def plain_rest(units, goes):
    rest = "".join(unit for unit, gone in zip(units, goes, strict=True) if not gone)
    if any(goes):
        rest = re.sub(r"^([^\S\n]*\n)+", "", rest) if goes[0] else rest
        rest = rest.rstrip() if goes[-1] or not rest.strip() else rest
    return rest


def plain(sources, kept, recipe):
    """{doc_id: text} of what stays, and the fates of what goes, of the documents that the clusters keep."""
    named = []
    for name, some in sources.items():
        found = {doc_id(f"{name}:{n}"): plain_units(text, recipe.unit == "paragraphs") for n, text in enumerate(some)}
        named += sorted((one, units) for one, units in found.items() if one in kept)
    having = defaultdict(dict)  # the documents that have a unit, in their order
    for name, units in named:
        for unit in units:
            having[plain_key(unit, recipe)][name] = None
    left, gone, seen, any_cut = {}, {}, {}, False
    for name, units in named:
        having_each = [list(having[key]) if (key := plain_key(unit, recipe)) else [] for unit in units]
        often = [len(h) >= recipe.min_documents and (recipe.cut == "all" or h[0] != name) for h in having_each]
        rest = plain_rest(units, often)
        any_cut |= any(often)
        num_words = len(re.findall(r"\w+", rest))
        if any(often) and num_words < recipe.min_words_left:
            gone[name] = (fates.DROPPED, f"cut_short:{recipe.unit}", float(num_words), None)
        else:
            left[name] = rest
    for name, text in list(left.items()):
        if seen.setdefault(text, name) != name:
            assert any_cut
            gone[name] = (fates.MERGED, boilerplate.TWIN, None, seen[text])
            del left[name]
    return left, gone


@settings(max_examples=300 if DEEP else 20, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(documents, max_size=5), min_size=1, max_size=3),
    st.sampled_from(["lines", "paragraphs"]), st.sampled_from(["repeats", "all"]), st.integers(2, 3), st.integers(0, 3),
)  # fmt: skip
def test_the_stage_does_what_the_rule_says(tmp_path_factory, given_texts, unit, kind, least, left):
    sources = {f"s{n}/1": some for n, some in enumerate(given_texts)}
    recipe = UniqueRecipe(unit=unit, min_documents=least, min_unit_words=5, cut=kind, min_words_left=left)
    corpora = Corpora(tmp_path_factory.mktemp("c"))
    kept = set(texts(cut(corpora, sources, UniqueRecipe())))
    artifact = cut(corpora, sources, recipe)
    wanted, gone = plain(sources, kept, recipe)
    assert texts(artifact) == wanted
    assert {name: fate for name, fate in settled(artifact).items() if name in kept} == gone
    assert artifact.counts["seen"] == sum(map(len, sources.values()))
    assert artifact.counts["kept"] == len(wanted)
    assert len(set(wanted.values())) == len(wanted)


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(documents, max_size=5), min_size=1, max_size=3), st.sampled_from([1, 2, 5]))
def test_neither_batches_nor_runs_nor_the_order_of_rows_matter(tmp_path_factory, given_texts, size):
    sources = {f"s{n}/1": (some, [f"{n}:{i}" for i in range(len(some))], None) for n, some in enumerate(given_texts)}
    turned = {name: (some[::-1], names[::-1], None) for name, (some, names, _) in sources.items()}
    one = cut(Corpora(tmp_path_factory.mktemp("c")), sources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words.pieces, "__defaults__", (size * 40,))
        patch.setattr(tables, "BATCH_ROWS", size)
        patch.setattr(boilerplate, "RUNS", 4)
        other = cut(Corpora(tmp_path_factory.mktemp("c")), turned)
    assert (texts(one), settled(one)) == (texts(other), settled(other))
    assert one.counts == other.counts


def test_a_new_source_that_changes_nothing_leaves_the_other_parts_as_they_were(corpora):
    sources = {"a/1": [page(n) for n in range(3)], "b/1": [page(9)]}
    before = cut(corpora, sources)
    after = cut(corpora, {**sources, "c/1": ["nothing of this stands anywhere else"]})
    assert [p.content for p in after.parts()][:2] == [p.content for p in before.parts()]


def test_no_file_is_left_behind(corpora):
    cut(corpora, {"a/1": [page(n) for n in range(3)]})
    assert [path for path in corpora.store.scratch.rglob("*") if path.is_file()] == []


def test_units_are_the_whole_text_in_order():
    from pipelines import boilerplate_kernel as kernel

    text = b"\n \nhead\nmore\n\n\t\n  tail" + b"" + b"next\n"
    offsets = np.array([0, 22, 22, len(text)])
    for paragraphs, wanted in ((False, [b"\n", b" \n", b"head\n", b"more\n", b"\n", b"\t\n", b"  tail", b"next\n"]),
                               (True, [b"\n \nhead\nmore\n\n\t\n", b"  tail", b"next\n"])):  # fmt: skip
        bounds, whose = kernel.units(np.frombuffer(text, np.uint8), offsets, paragraphs)
        assert [text[a:b] for a, b in pairwise(bounds)] == wanted
        assert whose.tolist() == [0] * (len(wanted) - 1) + [2]
