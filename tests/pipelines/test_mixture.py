from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_shards import learned, sharded, sharded_heldout, texts, trained

from pipelines import mixture
from pipelines.cells import Cell
from pipelines.mixture import mix
from pipelines.mixture_entries import parsed_entry
from pipelines.mixture_recipe import MixtureRecipe
from pipelines.provenance.plan import Plan
from pipelines.shares import cell_factors, shared


def mixed(corpora, sources, vocab_size=300, **recipe):
    training = trained(corpora, sources, {}, ratio=0.2)
    vocab = learned(corpora, training, size=vocab_size)
    tokens, heldout = sharded(corpora, training, vocab), sharded_heldout(corpora, training, vocab)
    chosen = MixtureRecipe(**{"sequence_length": 16, "batch_size": 4, "steps": 5, **recipe})
    return corpora.run(
        "mixture", "r", mixture.VERSION, chosen, [tokens, heldout, vocab],
        lambda d: mix(tokens, heldout, vocab, chosen, d),
    )  # fmt: skip


SOURCES = {"a/1": texts("a"), "b/1": texts("b", 20), "c/1": ["hi"]}


def test_the_plan_has_exactly_the_slots_of_the_run(corpora):
    artifact = mixed(corpora, SOURCES)
    plan = Plan.model_validate(artifact.json("plan.json"))
    assert plan.num_slots == 20 == artifact.counts["slots"]
    assert plan.num_steps == 5
    assert plan.digest == artifact.facts["plan"]
    parts, sequences = plan.sequences(range(20))
    assert all(0 <= s < plan.parts[p].num_sequences for p, s in zip(parts, sequences, strict=True))


def test_sources_tell_tokens_epochs_tail_and_licence(corpora):
    artifact = mixed(corpora, SOURCES)
    rows = {row["part"]: row for row in artifact.table("sources.arrow").to_pylist()}
    for part in artifact.input("token_shards").parts():
        row = rows[part.key.part]
        assert (row["docs"], row["tokens"], row["licence"]) == (part.counts["docs"], part.counts["tokens"], "MIT")
        assert row["sequences"] == max(0, row["tokens"] - 1) // 16
        if row["sequences"]:
            assert row["sequences"] * 16 + 1 + row["tail_tokens"] == row["tokens"]
            assert 0 <= row["tail_tokens"] < 16
            assert row["epochs"] == row["slots"] / row["sequences"]


def test_a_source_smaller_than_one_sequence_is_listed_and_left_out(corpora):
    artifact = mixed(corpora, SOURCES)
    row = artifact.table("sources.arrow").to_pylist()[2]
    assert (row["part"], row["sequences"], row["slots"], row["tail_tokens"]) == ("c/1", 0, 0, row["tokens"])
    assert [p["name"] for p in artifact.json("plan.json")["parts"]] == ["a/1", "b/1"]


def test_a_corpus_smaller_than_one_sequence_is_a_clear_error(corpora):
    with pytest.raises(ValueError, match=r"corpus mine has \d+ tokens, .* one sequence needs 100001 of one source"):
        mixed(corpora, SOURCES, sequence_length=100_000)


def test_shards_of_another_vocabulary_are_refused(corpora):
    training = trained(corpora, SOURCES, {}, ratio=0.2)
    old = learned(corpora, training)
    tokens, heldout = sharded(corpora, training, old), sharded_heldout(corpora, training, old)
    new = learned(corpora, training, size=400)
    with pytest.raises(ValueError, match=r"token_shards\[mine\] was made with another vocabulary than vocabulary\[v\]"):
        mix(tokens, heldout, new, MixtureRecipe(), None)


def test_weights_multiply_the_natural_share(corpora):
    natural, doubled = (
        {r["part"]: r["slots"] for r in mixed(corpora, SOURCES, steps=50, weights=w).table("sources.arrow").to_pylist()}
        for w in ([], ["a=2"])
    )
    assert sum(natural.values()) == sum(doubled.values()) == 200
    ratio = (doubled["a/1"] / doubled["b/1"]) / (natural["a/1"] / natural["b/1"])
    assert ratio == pytest.approx(2, rel=0.05)


def factors(names, weights):
    found = [Cell(name, frozenset(), "", 1, 9, None, 1) for name in names]
    return cell_factors(found, [parsed_entry(entry) for entry in weights], MixtureRecipe())


def test_the_first_weight_that_matches_counts(corpora):
    names = ["wiki/1", "docs.a/1", "docs.b/2"]
    assert factors(names, []) == [1, 1, 1]
    assert factors(names, ["docs.a=3", "docs.*=0.1", "wiki/1=0"]) == [0, 3, Fraction(1, 10)]
    for wrong in ("docs", "wiki=-1", "wiki=x", "=2", "wiki=nan", "wiki=1/0"):
        with pytest.raises(ValueError, match="expected NAME=FACTOR"):
            factors(names, [wrong])
    with pytest.raises(ValueError, match="'blog=2' names no source"):
        mixed(corpora, SOURCES, weights=["blog=2"])


many = st.lists(st.tuples(st.integers(0, 50), st.fractions(0, 4, max_denominator=20)), min_size=1, max_size=8)


@given(st.integers(1, 300), many)
def test_slots_are_whole_exact_and_within_one_of_their_share(total, sources):
    sequences, weights = zip(*sources, strict=True)
    claims = [n * w for n, w in sources]
    if not any(claims):
        with pytest.raises(ValueError, match="weight 0 or no sequence"):
            shared(total, sequences, weights)
        return
    slots = shared(total, sequences, weights)
    assert sum(slots) == total
    assert all(abs(s - total * Fraction(c) / sum(claims)) < 1 for s, c in zip(slots, claims, strict=True))


@given(st.integers(1, 300), many, st.integers(1, 4))
def test_no_source_is_read_more_often_than_the_limit(total, sources, max_epochs):
    sequences, weights = zip(*sources, strict=True)
    room = sum(n * max_epochs for n, w in sources if n * w)
    if room == 0:
        return
    if room < total:
        with pytest.raises(ValueError, match=f"reads {total} sequences, {max_epochs} epochs of the corpus hold {room}"):
            shared(total, sequences, weights, max_epochs)
        return
    slots = shared(total, sequences, weights, max_epochs)
    assert sum(slots) == total
    assert all(s <= n * max_epochs for s, n in zip(slots, sequences, strict=True))
    assert all(s == 0 for s, (n, w) in zip(slots, sources, strict=True) if not n * w)
