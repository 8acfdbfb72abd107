"""Asset checks: each passes on what the stages seal, and fails on the one thing that it is there to find."""

import pyarrow as pa
import pytest

from assets.checks import (
    better_than_unigrams,
    conserved,
    exact_duplicates,
    finite_loss,
    no_item_in_tokens,
    round_trip,
    totals,
)
from pipelines.provenance import fates
from pipelines.provenance.manifest import Key
from pipelines.provenance.recipe import Recipe


def doc(number: int) -> bytes:
    return number.to_bytes(16, "big")


def fates_of(**numbers: int) -> pa.Table:
    rows = [fate for fate, number in numbers.items() for _ in range(number)]
    return fates.from_columns(pa.array(map(doc, range(len(rows))), pa.binary(16)), pa.array(rows, pa.string()))


# -- good artifacts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asset", "partition", "rule"),
    [
        ("raw_documents", "poems/1", conserved),
        ("raw_documents", "letters/1", conserved),
        ("clean_documents", "letters/1", conserved),
        ("signatures", "letters/1", conserved),
        ("duplicate_clusters", "small", conserved),
        ("unique_documents", "small", conserved),
        ("unique_documents", "small", exact_duplicates),
        ("heldout_documents", "small", conserved),
        ("training_documents", "small", conserved),
        ("vocabulary", "words", round_trip),
        ("token_shards", "small", conserved),
        ("token_shards", "small", totals),
        ("token_shards", "small", no_item_in_tokens),
        ("heldout_shards", "small", conserved),
        ("pretrained_model", "demo", finite_loss),
        ("pretrained_model", "demo", better_than_unigrams),
    ],
)
def test_what_the_stages_seal_passes(library, asset, partition, rule):
    passed, found = rule(library.store.open(asset, partition))
    assert passed, found


def test_the_recount_is_told(library):
    artifact = library.store.open("training_documents", "small")
    passed, found = conserved(artifact)
    assert passed
    assert found == {name: artifact.counts[name] for name in ("seen", *fates.FATES)}


# -- books that do not balance ---------------------------------------------------------------------------------------


def whole(place, table, **counts):
    def write(draft):
        draft.write(fates.FILE, table)

    return place.seal(Key("clean_documents", "poems/1"), write, counts=fates.counted(table) | counts)


def in_parts(place, *tables, **counts):
    """A corpus of one part a table, whose whole says what ``counts`` say."""
    summed = {name: sum(fates.counted(t)[name] for t in tables) for name in ("seen", *fates.FATES)}

    def part(table):
        def make(draft):
            draft.write(fates.FILE, table)
            return draft.seal(counts=fates.counted(table))

        return make

    def write(draft):
        return [draft.part(f"s{n}/1", Recipe(), [], part(table)) for n, table in enumerate(tables)]

    return place.seal(Key("unique_documents", "small"), write, counts=summed | counts)


def test_books_that_balance_pass(blank):
    assert conserved(whole(blank, fates_of(kept=3, dropped=2, quarantined=1)))[0]
    assert conserved(in_parts(blank, fates_of(kept=3), fates_of(kept=1, merged=2)))[0]


def test_a_document_without_a_fate_fails(blank):
    passed, found = conserved(whole(blank, fates_of(kept=3, dropped=2), seen=6))
    assert not passed
    assert "5 documents seen, 6 came in" in found["problem"]


@pytest.mark.parametrize("fate", fates.FATES)
def test_a_count_that_is_not_the_recount_fails(blank, fate):
    """The manifest says one more of a fate than the rows do, though seen is right."""
    table = fates_of(kept=2, held_out=2, dropped=2, merged=2, quarantined=2)
    assert not conserved(whole(blank, table, **{fate: 3}))[0]


def test_a_part_that_the_whole_does_not_count_fails(blank):
    assert not conserved(in_parts(blank, fates_of(kept=3), fates_of(kept=2), kept=3, seen=3))[0]


def test_a_fate_that_is_none_of_the_five_fails(blank):
    with pytest.raises(fates.ConservationError, match="unknown fate 'lost'"):
        conserved(
            blank.seal(
                Key("clean_documents", "poems/1"), lambda d: d.write(fates.FILE, fates_of(lost=1)), counts={"seen": 1}
            )
        )


# -- duplicates ------------------------------------------------------------------------------------------------------


def hashed(place, *parts):
    def part(hashes):
        def make(draft):
            draft.write("documents.arrow", pa.table({"sha256_out": pa.array(hashes, pa.binary(32))}))
            return draft.seal()

        return make

    def write(draft):
        return [draft.part(f"s{n}/1", Recipe(), [], part(hashes)) for n, hashes in enumerate(parts)]

    return place.seal(Key("unique_documents", "small"), write)


def test_the_same_text_in_two_sources_is_found(blank):
    one, two, three = (bytes([n]) * 32 for n in range(3))
    assert exact_duplicates(hashed(blank, [one, two], [three])) == (True, {"docs": 3, "exact_duplicates": 0})
    assert exact_duplicates(hashed(blank, [one, two], [three, two])) == (False, {"docs": 4, "exact_duplicates": 1})
    assert exact_duplicates(hashed(blank, [one, one, one], [one])) == (False, {"docs": 4, "exact_duplicates": 3})


def test_a_twin_that_dedup_let_through_is_found(own_library):
    """The clean documents of both sources, twins and all, put in the place of the unique ones."""
    sources = [own_library.store.open("clean_documents", name) for name in ("poems/1", "letters/1")]
    hashes = [artifact.table("documents.arrow")["sha256_out"].to_pylist() for artifact in sources]
    assert exact_duplicates(hashed(own_library, *hashes)) == (False, {"docs": 43, "exact_duplicates": 1})


# -- vocabulary and shards -----------------------------------------------------------------------------------------


def vocabulary_of(place, normalizer=None):
    from tokenizers import Tokenizer

    good = place.store.open("vocabulary", "words")
    tokenizer = Tokenizer.from_file(str(good.local("tokenizer.json")))
    tokenizer.normalizer = normalizer

    def write(draft):
        tokenizer.save(str(draft.path("tokenizer.json")))

    return place.seal(Key("vocabulary", "spoilt"), write, good.inputs())


def test_a_vocabulary_that_changes_text_fails(own_library):
    from tokenizers import normalizers

    assert round_trip(vocabulary_of(own_library))[0]
    lowered = round_trip(vocabulary_of(own_library, normalizers.Lowercase()))
    assert not lowered[0]
    assert lowered[1]["changed"] > 10, "the training documents are encoded too, not only our own samples"


def test_a_vocabulary_that_composes_letters_fails_on_the_ligature_alone(own_library):
    from tokenizers import normalizers

    passed, found = round_trip(vocabulary_of(own_library, normalizers.NFKC()))
    assert not passed
    assert found["changed"] == 1


def test_a_vocabulary_that_strips_blanks_fails(own_library):
    from tokenizers import normalizers

    assert not round_trip(vocabulary_of(own_library, normalizers.Strip()))[0]


def shards_of(place, lose_docs=0, lose_tokens=0, **counts):
    """The token shards of the library, less some documents or tokens of the first shard."""
    good = place.store.open("token_shards", "small")

    def part(source):
        def make(draft):
            for name in source.names(".arrow"):
                table = source.table(name)
                if name.startswith("shard-") and source.key.part == "poems/1":
                    tokens = table["tokens"].to_pylist()
                    tokens[0] = tokens[0][lose_tokens:]
                    place_of = table.schema.get_field_index("tokens")
                    table = table.set_column(place_of, "tokens", pa.array(tokens, table.schema.field("tokens").type))
                    table = table.slice(lose_docs)
                draft.write(name, table)
            return draft.seal(counts=source.counts)

        return make

    def write(draft):
        return [draft.part(p.key.part, Recipe(), [], part(p)) for p in good.parts()]

    return place.seal(Key("token_shards", "small"), write, good.inputs(), counts=good.counts | counts)


def test_shards_hold_the_documents_and_tokens_that_the_manifest_says(own_library):
    good = own_library.store.open("token_shards", "small")
    found = {"docs": 26, "tokens": good.counts["tokens"], "training_documents": 26}
    assert totals(good) == (True, found)
    assert totals(shards_of(own_library)) == (True, found), "copied without a loss"


@pytest.mark.parametrize("counts", [{}, {"docs": 25}])
def test_a_lost_document_fails_even_where_the_manifest_agrees(own_library, counts):
    """25 documents in the shards and perhaps in the manifest, but 26 to train on."""
    passed, found = totals(shards_of(own_library, lose_docs=1, **counts))
    assert not passed
    assert (found["docs"], found["training_documents"]) == (25, 26)


def test_a_lost_token_fails(own_library):
    tokens = own_library.store.open("token_shards", "small").counts["tokens"]
    passed, found = totals(shards_of(own_library, lose_tokens=1))
    assert (passed, found["tokens"]) == (False, tokens - 1)


# -- models ----------------------------------------------------------------------------------------------------------


def model(place, losses=(3.0, 2.0), **facts):
    def write(draft):
        draft.write("losses.arrow", pa.table({"loss": pa.array(losses, pa.float64())}))

    known = {"heldout_bpb": 1.5, "unigram_bpb": 4.0, "bigram_bpb": 3.0, "trigram_bpb": 2.0}
    return place.seal(Key("pretrained_model", "demo"), write, facts=known | facts)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_loss_that_is_no_number_fails_wherever_it_stands(blank, bad, where):
    losses = [3.0, 2.5, 2.0]
    losses[where] = bad
    assert not finite_loss(model(blank, losses))[0]


def test_a_run_without_losses_fails(blank):
    assert finite_loss(model(blank, [])) == (False, {"steps": 0, "last": None})


def test_the_last_loss_is_told(blank):
    assert finite_loss(model(blank, [3.0, 2.25])) == (True, {"steps": 2, "last": 2.25})


@pytest.mark.parametrize(("found", "passes"), [(3.9, True), (4.0, False), (4.1, False), (float("nan"), False)])
def test_a_model_must_be_below_the_unigrams(blank, found, passes):
    """Not a number is not below anything."""
    artifact = model(blank)
    facts = artifact.manifest.facts | {"heldout_bpb": found}
    object.__setattr__(artifact, "manifest", artifact.manifest.model_copy(update={"facts": facts}))
    assert better_than_unigrams(artifact)[0] is passes


def test_a_check_asks_the_store_and_not_what_it_is_told(own_library):
    """Bytes that changed after sealing are what a check reads, so a torn table is an error of its own."""
    artifact = own_library.store.open("unique_documents", "small")
    path = artifact.parts()[0].local(fates.FILE)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"is no whole Arrow file .*`stemma audit verify` tells"):
        conserved(artifact)
