from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from corpora import Given, doc_id
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decontaminate import ITEMS, trained

from pipelines import shards, tasks, vocabulary
from pipelines.documents import DOCUMENTS, TEXTS
from pipelines.pieces import TableWriter
from pipelines.shard_reader import ShardReader
from pipelines.shards import HeldoutShardRecipe, ShardRecipe, shard, shard_heldout
from pipelines.tasks import run_tasks
from pipelines.vocabulary import SPECIALS, VocabularyRecipe, plain_tokenizer, train_vocabulary

PROSE = [
    "Return the number of rows of a table. The table may be empty, and then the number is zero.",
    "Write a table to disk. If the file exists it is replaced; the directory must exist.",
    "Ünïcödé and 中文 and emoji 🎉 are text as well,\n\tand so are tabs\r\nand line ends.",
    "A document that says <|endoftext|> and <|pad|> and <|user|> says nothing special. <|endoftext|>",
    "The mean of an array along an axis. The axis may be negative, and counts from the last one.",
]


def texts(source, number=8):
    words = [f"{word}{source}" for word in " ".join(PROSE).split()]
    return [" ".join(words[7 * i % 50 :][:30]) for i in range(number)] + PROSE


def learned(corpora, training, **recipe):
    chosen = VocabularyRecipe(**{"size": 300, **recipe})
    return corpora.run(
        "vocabulary", "v", vocabulary.VERSION, chosen, [training], lambda d: train_vocabulary(training, chosen, d)
    )


def sharded(corpora, training, vocab, **recipe):
    chosen = ShardRecipe(**recipe)
    return corpora.run(
        "token_shards", "mine", shards.VERSION, chosen, [training, vocab], lambda d: shard(training, vocab, chosen, d)
    )


def sharded_heldout(corpora, training, vocab, **recipe):
    heldout, chosen = corpora.store.open("heldout_documents", "mine"), HeldoutShardRecipe(**recipe)
    return corpora.run(
        "heldout_shards", "mine", shards.HELDOUT_VERSION, chosen, [heldout, training, vocab],
        lambda d: shard_heldout(heldout, training, vocab, chosen, d),
    )  # fmt: skip


@pytest.fixture
def training(corpora):
    return trained(corpora, {"a/1": texts("a"), "b/1": texts("b")}, ITEMS, ratio=0.2)


# -- vocabulary ----------------------------------------------------------------------------------------------


def test_the_vocabulary_has_exactly_the_size_asked_for_and_the_special_tokens_first(corpora, training):
    for size in (260, 300, 5000):
        vocab = learned(corpora, training, size=size)
        tokenizer = plain_tokenizer(vocab)
        assert tokenizer.get_vocab_size() == size == vocab.facts["size"]
        assert [tokenizer.token_to_id(token) for token in SPECIALS] == [0, 1, 2, 3]
        assert vocab.facts["eos_id"] == 0
    assert tokenizer.id_to_token(4999) == "<|unused-4999|>"
    assert max(max(tokenizer.encode(text).ids) for text in PROSE) < vocab.counts["merges"] + 260


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from corpora import Corpora

    corpora = Corpora(tmp_path_factory.mktemp("vocabulary"))
    return plain_tokenizer(learned(corpora, trained(corpora, {"a/1": texts("a")}, {}, ratio=0)))


@settings(max_examples=200)
@given(text=st.text(st.characters(codec="utf-8")) | st.sampled_from(PROSE))
def test_decoding_gives_back_every_text(tokenizer, text):
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert not set(ids) & {0, 1, 2, 3}


def test_the_sample_takes_the_lowest_doc_ids_of_all_parts(corpora, training):
    ids = sorted(i for p in training.parts() for i in p.table("documents.arrow")["doc_id"].to_pylist())
    sizes = {r["doc_id"]: r["num_bytes"] for p in training.parts() for r in p.table("documents.arrow").to_pylist()}
    wanted = 5
    found = vocabulary._sample(training.parts(), sum(sizes[i] for i in ids[:wanted]))
    by_part = [
        sum(i in ids[:wanted] for i in p.table("documents.arrow")["doc_id"].to_pylist()) for p in training.parts()
    ]
    assert found == by_part
    assert sum(vocabulary._sample(training.parts(), 1)) == 1


def test_a_corpus_without_text_has_no_vocabulary(corpora):
    with pytest.raises(ValueError, match="training_documents is empty"):
        learned(corpora, trained(corpora, {"a/1": []}, {}))


def test_bytes_a_token_are_those_of_the_sample(corpora, training):
    vocab = learned(corpora, training)
    every = [t for p in training.parts() for t in p.table("texts.arrow")["text"].to_pylist()]
    num_tokens = sum(len(plain_tokenizer(vocab).encode(t)) for t in every)
    assert vocab.facts["bytes_per_token"] == round(sum(len(t.encode()) for t in every) / num_tokens, 4) > 1


# -- shards --------------------------------------------------------------------------------------------------


def test_documents_lie_in_order_with_one_end_of_text_each(corpora, training):
    vocab = learned(corpora, training)
    tokenizer = plain_tokenizer(vocab)
    artifact = sharded(corpora, training, vocab)
    for part, source in zip(artifact.parts(), training.parts(), strict=True):
        reader = ShardReader.open(part)
        spans = reader.documents(0, reader.num_tokens)
        rows = source.table("texts.arrow").to_pylist()
        assert [span.doc_id for span in spans] == [row["doc_id"] for row in rows]
        for span, row in zip(spans, rows, strict=True):
            tokens = reader.tokens(span.start, span.start + span.length).tolist()
            assert tokens == [*tokenizer.encode(row["text"]).ids, 0]
            assert tokenizer.decode(tokens[:-1], skip_special_tokens=False) == row["text"]
            assert reader.position(row["doc_id"]) == span


def test_a_document_cannot_end_itself(corpora):
    """Text that spells the special tokens is text: the only zeros are the ends of the documents."""
    training = trained(corpora, {"a/1": texts("a")}, {}, ratio=0)
    part = sharded(corpora, training, learned(corpora, training)).part("a/1")
    reader = ShardReader.open(part)
    stream = reader.tokens(0, reader.num_tokens)
    assert any("<|endoftext|>" in text for text in training.part("a/1").table("texts.arrow")["text"].to_pylist())
    ends = [span.start + span.length - 1 for span in reader.documents(0, reader.num_tokens)]
    assert np.flatnonzero(stream == 0).tolist() == ends
    assert not np.isin(stream, [1, 2, 3]).any()


def test_counts_and_facts_describe_the_shards(corpora, training):
    vocab = learned(corpora, training)
    artifact = sharded(corpora, training, vocab)
    assert artifact.counts["docs"] == artifact.counts["kept"] == artifact.counts["seen"] == training.counts["docs"]
    assert artifact.facts == {"dtype": "uint16", "vocabulary": vocab.content}
    for part in artifact.parts():
        assert part.facts["shard_tokens"] == [ShardReader.open(part).num_tokens] == [part.counts["tokens"]]
        assert part.facts["licence"] == "MIT"


@settings(max_examples=150)
@given(st.lists(st.integers(1, 12), max_size=20), st.integers(1, 20), st.integers(0, 20))
def test_shards_end_before_the_document_that_would_exceed_them(lengths, limit, begun):
    cuts = shards._cuts(np.array(lengths, np.int64), min(begun, limit), limit)
    assert cuts == sorted(set(cuts))
    assert (cuts[0], cuts[-1]) == (0, len(lengths))
    pieces = [lengths[start:stop] for start, stop in pairwise(cuts)]
    assert all(len(piece) == 1 or sum(piece) <= limit for piece in pieces)


def test_small_shards_hold_the_same_stream(corpora, training):
    vocab = learned(corpora, training)
    whole = ShardReader.open(sharded(corpora, training, vocab).part("a/1"))
    part = sharded(corpora, training, vocab, max_tokens_per_shard=100).part("a/1")
    cut = ShardReader.open(part)
    assert len(cut.paths) == part.counts["shards"] > 3
    assert all(ShardReader([p]).num_tokens <= 100 or ShardReader([p]).num_docs == 1 for p in cut.paths)
    assert cut.tokens(0, cut.num_tokens).tolist() == whole.tokens(0, whole.num_tokens).tolist()
    assert cut.documents(0, cut.num_tokens) == whole.documents(0, whole.num_tokens)


def test_large_vocabularies_take_32_bits(corpora, training):
    vocab = learned(corpora, training, size=70_000)
    artifact = sharded(corpora, training, vocab)
    assert artifact.facts["dtype"] == "uint32"
    assert ShardReader.open(artifact.part("a/1")).dtype == np.uint32


def in_batches(corpora, said, rows):
    """Training documents of one part whose files have batches of so many rows."""

    def part(draft, clean):
        for file, name in ((DOCUMENTS, "documents.arrow"), (TEXTS, "texts.arrow")):
            table = clean.table(name).sort_by("doc_id").combine_chunks()
            with TableWriter(draft.directory, {file: table.schema}) as writer:
                for start in range(0, len(table), rows):
                    writer.write(file, table.slice(start, rows))
        return draft.seal(counts={"docs": len(table)})

    def make(draft):
        clean = corpora.clean("a/1", said)
        return draft.seal(
            counts={"docs": len(said)}, parts=[draft.part("a/1", Given(), [clean], lambda inner: part(inner, clean))]
        )

    return corpora.run("training_documents", "mine", "1", Given(), [], make)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_part_that_is_cut_over_workers_has_the_same_bytes(corpora, monkeypatch, workers):
    training = in_batches(corpora, texts("a", 30), 4)
    vocab, recipe = learned(corpora, training), ShardRecipe(max_tokens_per_shard=300)

    def made():
        return corpora.run(
            "token_shards", "mine", shards.VERSION, recipe, [training, vocab],
            lambda d: shard(training, vocab, recipe, d, workers=workers), force=True,
        )  # fmt: skip

    whole, done = made(), []
    monkeypatch.setattr(tasks, "PIECE_BYTES", 700)
    monkeypatch.setattr(
        shards, "run_tasks", lambda *args, **named: done.append(len(args[1])) or run_tasks(*args, **named)
    )
    assert made().content == whole.content
    assert done[0] > 3


@pytest.mark.slow
def test_a_huge_document_is_one_row_of_one_shard(corpora):
    """100 MB with STEMMA_DEEP=1, else 2 MB; between two of one word."""
    size = 100_000_000 if os.environ.get("STEMMA_DEEP") == "1" else 2_000_000
    words = " ".join(f"{word}{number % 997}" for number, word in enumerate(" ".join(PROSE).split() * 40))
    huge = (words + " ") * (size // len(words.encode()) + 1)
    training = trained(corpora, {"a/1": ["one", huge, "word"]}, {}, ratio=0)
    vocab = learned(corpora, training, sample_bytes=100_000)
    part = sharded(corpora, training, vocab, max_tokens_per_shard=1000).part("a/1")
    reader = ShardReader.open(part)
    lengths = sorted(span.length for span in reader.documents(0, reader.num_tokens))
    assert part.counts["docs"] == 3
    assert lengths[-1] > size // 10
    tokens = next(s for s in reader.documents(0, reader.num_tokens) if s.length == lengths[-1])
    ids = reader.tokens(tokens.start, tokens.start + tokens.length).tolist()
    assert plain_tokenizer(vocab).decode(ids[:-1], skip_special_tokens=False) == huge
    assert ids[-1] == vocab.facts["eos_id"]


def test_an_empty_part_has_one_empty_shard(corpora):
    training = trained(corpora, {"a/1": [], "b/1": texts("b")}, {})
    part = sharded(corpora, training, learned(corpora, training)).part("a/1")
    assert part.facts["shard_tokens"] == [0]
    assert ShardReader.open(part).num_tokens == 0


# -- held-out shards -----------------------------------------------------------------------------------------


def test_overlap_is_the_share_of_ngrams_that_training_shows(corpora):
    shown = [f"w{i}" for i in range(40)]
    fresh = [f"new{i}" for i in range(40)]
    # two groups: 'held' is held out whole, the rest is trained on
    held = [" ".join(shown[:20]) + " a", " ".join(fresh[:20]), " ".join(shown[:13] + fresh[:13]), "too short"]
    every = [" ".join(shown), *held]
    names = ["t", *(f"h{i}" for i in range(4))]
    ratio, seed = 0.5, next(s for s in range(99) if group_sides(s) == (False, True))
    from test_unique import made_heldout, made_unique

    unique = made_unique(corpora, {"a/1": (every, names, ["trained", *["held"] * 4])})
    heldout = made_heldout(corpora, unique, ratio=ratio, seed=seed)
    from pipelines.decontaminate import DecontaminateRecipe, training_documents

    recipe = DecontaminateRecipe()
    training = corpora.run(
        "training_documents", "mine", "1", recipe, [unique, heldout],
        lambda d: training_documents(unique, heldout, [], recipe, d),
    )  # fmt: skip
    assert training.counts["docs"] == 1
    artifact = sharded_heldout(corpora, training, learned(corpora, training))
    rows = {r["doc_id"]: r for r in artifact.part("a/1").table("documents.arrow").to_pylist()}
    assert {n: rows[doc_id(n)]["overlap"] for n in names[1:]} == {"h0": 8 / 9, "h1": 0.0, "h2": 1 / 14, "h3": 1.0}
    assert [rows[doc_id(n)]["num_bytes"] for n in names[1:]] == [len(t) for t in held]
    assert [s.doc_id for s in ShardReader.open(artifact.part("a/1")).documents(0, artifact.counts["tokens"])] == sorted(
        rows
    )


def group_sides(seed):
    from pipelines.heldout import HeldoutRecipe, is_held_out

    recipe = HeldoutRecipe(ratio=0.5, seed=seed)
    return is_held_out("a", "trained", recipe), is_held_out("a", "held", recipe)


def test_training_shards_of_old_sources_stay_when_one_is_added(corpora, training):
    vocab = learned(corpora, training)
    before = sharded(corpora, training, vocab)
    more = trained(corpora, {"a/1": texts("a"), "b/1": texts("b"), "c/1": texts("c")}, ITEMS, ratio=0.2)
    after = sharded(corpora, more, vocab)
    assert [p.digest for p in after.parts()][:2] == [p.digest for p in before.parts()]


def test_bytes_do_not_depend_on_hash_seed_threads_or_directory(tmp_path):
    here = Path(__file__).parent
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from corpora import Corpora;"
        "from test_shards import trained, texts, learned, sharded, sharded_heldout, ITEMS;"
        "c = Corpora(Path(sys.argv[2])); t = trained(c, {'a/1': texts('a', 40), 'b/1': texts('b', 40)}, ITEMS);"
        "v = learned(c, t, size=600);"
        "print(t.content, v.content, sharded(c, t, v).content, sharded_heldout(c, t, v).content)"
    )
    seen = set()
    for seed, threads, parallel in [("0", "1", "false"), ("7", "2", "true"), ("8", "4", "true")]:
        env = {
            **os.environ, "PYTHONPATH": str(here.parents[1]), "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": parallel, "NUMBA_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "-c", script, str(here), str(tmp_path / seed)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        seen.add(done.stdout.strip())
    assert len(seen) == 1
