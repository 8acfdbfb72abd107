"""How the slots of a run are shared among its sources: exact, within limits, and as the plan then reads them."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from corpora import Corpora, Given
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import mixture
from pipelines.mixture import mix
from pipelines.mixture_recipe import MixtureRecipe
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.plan import Plan
from pipelines.shares import shared

SOURCES = st.lists(st.tuples(st.integers(0, 40), st.fractions(0, 4, max_denominator=12)), min_size=1, max_size=6)


def levelled(total: int, claims: list[Fraction], caps: list[Fraction]) -> list[Fraction]:
    """Exact shares: the level at which min(cap, claim · level) adds up to the total, found from breakpoint to breakpoint."""
    level = Fraction(0)
    for step in sorted({cap / claim for cap, claim in zip(caps, claims, strict=True) if claim}):
        if sum(min(cap, claim * step) for cap, claim in zip(caps, claims, strict=True)) >= total:
            break
        level = step
    open_ones = sum(claim for cap, claim in zip(caps, claims, strict=True) if claim and claim * level < cap)
    given = sum(min(cap, claim * level) for cap, claim in zip(caps, claims, strict=True))
    if open_ones:
        level += (total - given) / open_ones
    return [min(cap, claim * level) for cap, claim in zip(caps, claims, strict=True)]


@settings(max_examples=150)
@given(st.integers(1, 300), SOURCES, st.integers(0, 5))
def test_shares_are_those_of_one_level_for_all_rounded_to_whole_slots(total, sources, max_epochs):
    sequences, weights = zip(*sources, strict=True)
    claims = [n * w for n, w in sources]
    caps = [Fraction(n * max_epochs if max_epochs else total) for n in sequences]
    if sum(cap for cap, claim in zip(caps, claims, strict=True) if claim) < total:
        return
    slots = shared(total, sequences, weights, max_epochs)
    exact = levelled(total, claims, caps)
    assert sum(slots) == sum(exact) == total
    assert all(abs(s - e) < 1 for s, e in zip(slots, exact, strict=True))
    assert all(s == e for s, e in zip(slots, exact, strict=True) if e.denominator == 1)


@settings(max_examples=60)
@given(st.integers(1, 300), SOURCES, st.randoms(use_true_random=False))
def test_the_order_of_the_sources_moves_no_more_than_a_tied_slot(total, sources, random):
    if not any(n * w for n, w in sources):
        return
    order = random.sample(range(len(sources)), len(sources))
    slots = shared(total, *zip(*sources, strict=True))
    other = shared(total, *zip(*(sources[i] for i in order), strict=True))
    assert sum(slots) == sum(other) == total
    assert all(abs(slots[i] - s) <= 1 for i, s in zip(order, other, strict=True))
    exact = levelled(total, [n * w for n, w in sources], [Fraction(total)] * len(sources))
    moved = {exact[i] % 1 for i, s in zip(order, other, strict=True) if slots[i] != s}
    assert len(moved) <= 1, "those that gained and those that lost have the same remainder"


@given(st.integers(1, 300), SOURCES, st.fractions(Fraction(1, 7), 9, max_denominator=7))
def test_only_the_ratio_of_the_weights_counts(total, sources, factor):
    sequences, weights = zip(*sources, strict=True)
    if any(n * w for n, w in sources):
        assert shared(total, sequences, weights) == shared(total, sequences, [w * factor for w in weights])


@pytest.mark.parametrize(("total", "sequences", "weights", "max_epochs", "slots"), [
    (10, [1, 1], [1, 1], 0, [5, 5]),
    (10, [1, 2], [1, 1], 0, [3, 7]),  # 3⅓ and 6⅔: the larger remainder
    (10, [3, 1], [1, 3], 0, [5, 5]),
    (7, [1, 1], [1, 1], 0, [4, 3]),  # a tie: the first
    (10, [1, 100], [100, 1], 4, [4, 6]),  # all that it has in four epochs; the other gives the rest
    (10, [5, 5, 5], [1, 0, 1], 1, [5, 0, 5]),
    (1, [10, 1], [1, 1], 0, [1, 0]),
    (12, [1, 2, 3], [1, 1, 1], 2, [2, 4, 6]),
])  # fmt: skip
def test_known_shares(total, sequences, weights, max_epochs, slots):
    assert shared(total, sequences, [Fraction(w) for w in weights], max_epochs) == slots


# -- the whole stage ---------------------------------------------------------------------------------------------


def sealed(corpora: Corpora, asset: str, tokens: dict[str, int], vocabulary: str) -> Artifact:
    def make(draft):
        parts = [
            draft.part(
                name, Given(), [], lambda d, n=number: d.seal(counts={"docs": 1, "tokens": n}, facts={"licence": "MIT"})
            )
            for name, number in tokens.items()
        ]
        return draft.seal(counts={"docs": len(parts)}, facts={"vocabulary": vocabulary}, parts=parts)

    return corpora.run(asset, "mine", "1", Given(), [], make, force=True)


def mixed(corpora: Corpora, tokens: dict[str, int], **recipe) -> Artifact:
    vocabulary = corpora.run("vocabulary", "v", "1", Given(), [], lambda draft: draft.seal())
    train, heldout = (
        sealed(corpora, asset, tokens, vocabulary.content) for asset in ("token_shards", "heldout_shards")
    )
    chosen = MixtureRecipe(**{"sequence_length": 10, "batch_size": 2, "steps": 8, **recipe})
    return corpora.run(
        "mixture", "r", mixture.VERSION, chosen, [train, heldout, vocabulary],
        lambda d: mix(train, heldout, vocabulary, chosen, d),
    )  # fmt: skip


def read(artifact: Artifact) -> Counter[str]:
    """How often the run reads each source, by the plan itself."""
    plan = Plan.model_validate(artifact.json("plan.json"))
    return Counter(plan.parts[part].name for part in plan.sequences(range(plan.num_slots))[0].tolist())


def test_the_plan_reads_what_the_table_of_sources_says(corpora):
    artifact = mixed(corpora, {"a/1": 301, "b/1": 101, "c/1": 5}, weights=["b=2"])
    rows = {row["part"]: row["slots"] for row in artifact.table("sources.arrow").to_pylist()}
    assert rows == {"a/1": 10, "b/1": 6, "c/1": 0}  # 30 : 10 · 2 of 16 are 9.6 and 6.4
    assert read(artifact) == {"a/1": 10, "b/1": 6}
    assert artifact.counts["trained_tokens"] == 160


@pytest.mark.parametrize(("tokens", "sequences", "tail"), [(10, 0, 10), (11, 1, 0), (12, 1, 1), (20, 1, 9), (21, 2, 0)])
def test_a_sequence_needs_one_token_more_than_its_targets(corpora, tokens, sequences, tail):
    artifact = mixed(corpora, {"a/1": 1001, "b/1": tokens})
    row = artifact.table("sources.arrow").to_pylist()[1]
    assert (row["sequences"], row["tail_tokens"]) == (sequences, tail)
    plan = Plan.model_validate(artifact.json("plan.json"))
    assert {p.name: p.num_sequences for p in plan.parts}.get("b/1", 0) == sequences


def test_a_source_of_weight_0_is_read_by_no_step_and_still_listed(corpora):
    artifact = mixed(corpora, {"a/1": 301, "b/1": 301}, weights=["a=0"])
    assert read(artifact) == {"b/1": 16}
    assert [row["epochs"] for row in artifact.table("sources.arrow").to_pylist()] == [0.0, 16 / 30]
    with pytest.raises(ValueError, match="every source has weight 0 or no sequence"):
        mixed(corpora, {"a/1": 301, "b/1": 301}, weights=["*=0"])


def test_a_small_source_is_read_no_more_often_than_the_limit(corpora):
    tokens = {"a/1": 21, "b/1": 301}
    assert read(mixed(corpora, tokens, weights=["a=50"]))["a/1"] == 12  # 2 · 50 of 130 of 16 slots: six epochs
    limited = mixed(corpora, tokens, weights=["a=50"], max_epochs=4)
    assert read(limited) == {"a/1": 8, "b/1": 8}
    assert [row["epochs"] for row in limited.table("sources.arrow").to_pylist()] == [4.0, 8 / 30]
    with pytest.raises(ValueError, match="the run reads 200 sequences, 4 epochs of the corpus hold 128"):
        mixed(corpora, tokens, steps=100, max_epochs=4)


def test_a_seed_changes_the_order_and_neither_shares_nor_sources(corpora):
    one, other = (mixed(corpora, {"a/1": 301, "b/1": 101}, seed=seed) for seed in (1, 2))
    assert one.table("sources.arrow").equals(other.table("sources.arrow"))
    assert one.facts["plan"] != other.facts["plan"]
    assert read(one) == read(other)
    again = Corpora(corpora.store.files.local_root.parent / "again")
    assert mixed(again, {"a/1": 301, "b/1": 101}, seed=1).digest == one.digest
