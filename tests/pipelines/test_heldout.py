"""Held-out groups: whole, chosen by their names alone, a subset of what a larger ratio chooses."""

from __future__ import annotations

import hashlib

import pytest
from corpora import Corpora
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_unique import made_heldout, made_unique

from pipelines.heldout import HeldoutRecipe, is_held_out
from pipelines.provenance import fates

NAMES = st.text(st.characters(codec="utf-8"), max_size=12)


def by_hand(source: str, group: str, ratio: float, seed: int) -> bool:
    """The rule, written again from its docstring."""
    fields = [str(seed).encode(), source.encode(), group.encode()]
    body = b"".join(len(field).to_bytes(8, "little") + field for field in fields)
    return int.from_bytes(hashlib.sha256(body).digest()[:8], "little") / 2**64 < ratio


@given(NAMES, NAMES, st.sampled_from([0.0, 0.01, 0.05, 0.5, 0.99, 1.0]), st.integers(0, 9))
def test_a_group_is_held_out_by_a_hash_of_seed_source_and_name(source, group, ratio, seed):
    assert is_held_out(source, group, HeldoutRecipe(ratio=ratio, seed=seed)) == by_hand(source, group, ratio, seed)


@given(NAMES, NAMES, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_ratio_holds_out_the_same_groups_and_more(source, group, one, other):
    small, large = sorted((one, other))
    assert is_held_out(source, group, HeldoutRecipe(ratio=small)) <= is_held_out(
        source, group, HeldoutRecipe(ratio=large)
    )


def test_the_choice_is_frozen():
    """A group that was held out last year is held out today; else a model would be tested on what it has read."""
    held = [number for number in range(200) if is_held_out("wiki", f"page {number}", HeldoutRecipe())]
    assert held == [0, 7, 15, 24, 35, 50, 94, 109, 128, 130, 131, 138, 166, 167, 168]


def test_fields_cannot_run_into_each_other():
    pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]
    half = HeldoutRecipe(ratio=0.5)
    sides = [tuple(is_held_out(s, f"{g}{n}", half) for n in range(40)) for s, g in pairs]
    assert len(set(sides)) == 4


def test_seeds_and_sources_choose_independently_of_each_other():
    """Of groups that one choice takes at 0.5, another takes half."""
    groups = [f"group {n}" for n in range(4000)]
    first = [g for g in groups if is_held_out("a", g, HeldoutRecipe(ratio=0.5))]
    for source, seed in (("a", 2), ("b", 1)):
        both = sum(is_held_out(source, g, HeldoutRecipe(ratio=0.5, seed=seed)) for g in first)
        assert both == pytest.approx(len(first) / 2, abs=4 * (len(first) / 4) ** 0.5)  # four standard errors


def grouped(corpora: Corpora, groups: list[int], source: str = "a/1"):
    """A document for each entry, in the group of that number."""
    names = [f"doc {n}" for n in range(len(groups))]
    texts = [f"these are the words of number {n}" for n in range(len(groups))]
    return made_unique(corpora, {source: (texts, names, [f"g{group}" for group in groups])})


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 9), max_size=25), st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.integers(0, 3))
def test_documents_split_into_two_along_the_lines_of_the_groups(tmp_path_factory, groups, ratio, seed):
    corpora = Corpora(tmp_path_factory.mktemp("c"))
    unique = grouped(corpora, groups)
    part = made_heldout(corpora, unique, ratio=ratio, seed=seed).part("a/1")
    rows = unique.part("a/1").table("documents.arrow").to_pylist()
    wanted = {row["doc_id"] for row in rows if is_held_out("a", row["group"], HeldoutRecipe(ratio=ratio, seed=seed))}
    assert set(part.table("documents.arrow")["doc_id"].to_pylist()) == wanted
    fate = {row["doc_id"]: row["fate"] for row in part.table(fates.FILE).to_pylist()}
    assert fate == {row["doc_id"]: fates.HELD_OUT if row["doc_id"] in wanted else fates.KEPT for row in rows}
    held_groups = {row["group"] for row in part.table("documents.arrow").to_pylist()}
    kept_groups = {row["group"] for row in rows if row["doc_id"] not in wanted}
    assert not held_groups & kept_groups
    assert part.counts["bytes"] == sum(row["num_bytes"] for row in rows if row["doc_id"] in wanted)


def test_a_group_is_decided_alike_whatever_else_is_in_the_corpus(corpora):
    alone = made_heldout(corpora, grouped(corpora, list(range(12))), ratio=0.5).part("a/1")
    texts, names = ["something else", "and more"], ["x", "y"]
    beside = made_unique(corpora, {
        "z/1": (texts, names, ["g0", "g1"]),
        "a/1": ([f"these are the words of number {n}" for n in range(12)], [f"doc {n}" for n in range(12)],
                [f"g{n}" for n in range(12)]),
    })  # fmt: skip
    assert made_heldout(corpora, beside, ratio=0.5).part("a/1").content == alone.content


def test_a_source_without_a_snapshot_in_its_name_is_its_own_name(corpora):
    one = made_heldout(corpora, grouped(corpora, list(range(12)), "a"), ratio=0.5).part("a")
    held = set(one.table("documents.arrow")["group"].to_pylist())
    assert held == {f"g{n}" for n in range(12) if is_held_out("a", f"g{n}", HeldoutRecipe(ratio=0.5))}


@pytest.mark.parametrize("fields", [{"ratio": -0.1}, {"ratio": 1.1}, {"ratio": float("nan")}, {"seed": -1}])
def test_a_share_that_is_none_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        HeldoutRecipe(**fields)
