"""Token shards: training and held-out documents as tokens that the trainer maps into memory."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from pipelines import doc_ids
from pipelines.documents import DOCUMENTS, TEXTS
from pipelines.parts import rows_of_parts, summed_counts
from pipelines.pieces import TableWriter, rows_of
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.tables import read_batch, read_batches, rows_digest
from pipelines.selection import ids
from pipelines.tasks import Task, grouped, run_tasks
from pipelines.vocabulary import FILE

VERSION = "1"
HELDOUT_VERSION = "1"
TOKENS = "tokens.arrow"  # of a piece of a large part
HELDOUT_SCHEMA = pa.schema([("doc_id", pa.binary(16)), ("num_bytes", pa.int64()), ("overlap", pa.float64())])


class ShardRecipe(Recipe):
    """How token shards are cut."""

    max_tokens_per_shard: int = Field(
        default=1 << 25, ge=1, description="a shard ends before the document that would exceed it (67 MB of uint16)"
    )


class HeldoutShardRecipe(ShardRecipe):
    """And what counts as overlap with training."""

    ngram: int = Field(default=13, ge=2, le=50, description="words of the n-grams that training must not hold")
    floor: int = Field(default=5, ge=1, le=50, description="documents of fewer words count as overlapping")


def shard_schema(vocabulary: Artifact) -> pa.Schema:
    """uint16 as long as the ids fit."""
    kind = pa.uint16() if vocabulary.facts["size"] <= 1 << 16 else pa.uint32()
    return pa.schema([("doc_id", pa.binary(16)), ("tokens", pa.large_list(kind))])


def shard(training: Artifact, vocabulary: Artifact, recipe: ShardRecipe, draft: Draft, *, workers: int = 0) -> Artifact:
    """Every training document as its tokens and one end-of-text token, in the order of ``training_documents``.

    A large part is encoded piece by piece, by so many ``workers`` (0: one a core); the bytes do not depend on it.
    """
    parts = [
        draft.part(p.key.part, recipe, [p, vocabulary], lambda d, p=p: _sealed(p, vocabulary, recipe, d, workers))
        for p in training.parts()
    ]
    return _sealed_whole(parts, vocabulary, training.counts["docs"], draft)


def shard_heldout(
    heldout: Artifact,
    training: Artifact,
    vocabulary: Artifact,
    recipe: HeldoutShardRecipe,
    draft: Draft,
    *,
    workers: int = 0,
) -> Artifact:
    """Held-out documents as tokens, with the share of their n-grams of words that training documents show as well."""
    sources = heldout.parts()

    @functools.cache
    def overlaps() -> list[NDArray[np.float64]]:
        return _overlaps(sources, training, recipe)

    def make(number: int, part: Draft) -> Artifact:
        sizes = sources[number].table(DOCUMENTS, ["doc_id", "num_bytes"])
        columns = [sizes["doc_id"], sizes["num_bytes"], overlaps()[number]]
        part.write(DOCUMENTS, pa.table(columns, schema=HELDOUT_SCHEMA))
        return _sealed(sources[number], vocabulary, recipe, part, workers)

    parts = [
        draft.part(p.key.part, recipe, [p, training, vocabulary], functools.partial(make, number))
        for number, p in enumerate(sources)
    ]
    return _sealed_whole(parts, vocabulary, heldout.counts["docs"], draft)


def _sealed_whole(parts: Sequence[Artifact], vocabulary: Artifact, num_docs: int, draft: Draft) -> Artifact:
    counts = summed_counts(parts)
    fates.check_conservation(counts, num_docs)
    facts = {"dtype": parts[0].facts["dtype"], "vocabulary": vocabulary.content}
    return draft.seal(counts=counts, facts=facts, rows=rows_of_parts(parts), parts=parts)


def _sealed(part: Artifact, vocabulary: Artifact, recipe: ShardRecipe, draft: Draft, workers: int) -> Artifact:
    shard_tokens = _written(_encoded(part, vocabulary, draft, workers), shard_schema(vocabulary), recipe, draft)
    names = [f"shard-{number:05d}.arrow" for number in range(len(shard_tokens))]
    kept = fates.all_kept(doc_ids.as_arrow(ids(part)))
    draft.write(fates.FILE, kept)
    licences = sorted(set(part.table(DOCUMENTS, ["licence"])["licence"].unique().to_pylist()))
    counts = fates.counted(kept)
    return draft.seal(
        counts={"docs": counts["seen"], "tokens": sum(shard_tokens), "shards": len(names), **counts},
        facts={
            "dtype": str(shard_schema(vocabulary).field("tokens").type.value_type),
            "vocabulary": vocabulary.content,
            "shard_tokens": shard_tokens,
            "licence": " AND ".join(f"({name})" if " " in name and len(licences) > 1 else name for name in licences),
        },
        rows=rows_digest(chain.from_iterable(read_batches(draft.path(name)) for name in names)),
    )


def _written(encoded: Iterable[pa.Table], schema: pa.Schema, recipe: ShardRecipe, draft: Draft) -> list[int]:
    """Write the shards of a part, at least one; returns the tokens of each."""
    totals = [0]
    writer = TableWriter(draft.directory, {_name(0): schema})
    try:
        for rows in encoded:
            lengths = pc.list_value_length(rows["tokens"]).to_numpy()
            for start, stop in pairwise(_cuts(lengths, totals[-1], recipe.max_tokens_per_shard)):
                num_tokens = int(lengths[start:stop].sum())
                if totals[-1] and totals[-1] + num_tokens > recipe.max_tokens_per_shard:
                    writer.__exit__(None, None, None)
                    totals.append(0)
                    writer = TableWriter(draft.directory, {_name(len(totals) - 1): schema})
                writer.write(_name(len(totals) - 1), rows.slice(start, stop - start))
                totals[-1] += num_tokens
    finally:
        writer.__exit__(None, None, None)
    return totals


def _name(number: int) -> str:
    return f"shard-{number:05d}.arrow"


def _cuts(lengths: NDArray[np.int64], begun: int, limit: int) -> list[int]:
    """Rows at which a new shard begins, when ``begun`` tokens stand in the open one."""
    ends, cuts, room = np.cumsum(lengths), [0], limit - begun
    while cuts[-1] < len(lengths):
        start = cuts[-1]
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + room, side="right"))
        if stop == start and room < limit:  # nothing more fits into the open shard
            room = limit
            continue
        cuts.append(max(start + 1, stop))
        room = limit
    return cuts


def _encoded(part: Artifact, vocabulary: Artifact, draft: Draft, workers: int) -> Iterator[pa.Table]:
    """By record batch: doc_id and tokens."""
    texts, tokenizer = part.local(TEXTS), vocabulary.local(FILE)
    sizes = (pc.sum(pc.binary_length(batch["text"])).as_py() or 0 for batch in read_batches(texts, ["text"]))
    schema, eos = shard_schema(vocabulary), int(vocabulary.facts["eos_id"])
    tasks = [
        Task(f"{number:06d}", (texts, batches, tokenizer, schema, eos))
        for number, batches in enumerate(grouped(enumerate(sizes)))
    ]
    if len(tasks) > 1:
        pieces = run_tasks(encode_piece, tasks, draft.workshop, workers=workers, tell=draft.tell)
        yield from rows_of(pieces, TOKENS)
    elif tasks:
        yield from encoded_batches(*tasks[0].arguments)


def encode_piece(
    folder: Path, texts: Path, batches: Sequence[int], tokenizer: Path, schema: pa.Schema, eos: int
) -> None:
    """Write the tokens of some record batches, each as one batch."""
    with TableWriter(folder, {TOKENS: schema}) as writer:
        for table in encoded_batches(texts, batches, tokenizer, schema, eos):
            writer.write(TOKENS, table)


def encoded_batches(
    texts: Path, batches: Sequence[int], tokenizer: Path, schema: pa.Schema, eos: int
) -> Iterator[pa.Table]:
    """Some record batches of texts as doc_id and tokens, each text ended by ``eos``."""
    from pipelines.tokenizing import encoder

    encode, kind = encoder(tokenizer.read_bytes()).encode, schema.field("tokens").type.value_type
    for number in batches:
        batch = read_batch(texts, number)
        values, offsets = encode(batch["text"], kind.to_pandas_dtype(), eos)
        tokens = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values, kind))
        yield pa.table([batch["doc_id"], tokens], schema=schema)


def _overlaps(heldout: Sequence[Artifact], training: Artifact, recipe: HeldoutShardRecipe) -> list[NDArray[np.float64]]:
    """By part: the share of each held-out document's n-grams that any training document shows.

    A document of fewer words than the floor cannot be shown to be clean, and counts as overlapping.
    """
    from pipelines.overlap import Check, OverlapIndex
    from pipelines.words import pieces

    columns = [part.table(TEXTS, ["text"])["text"] for part in heldout]
    texts = pa.concat_arrays([pa.array([], pa.large_string()), *(chunk for c in columns for chunk in c.chunks)])
    index = OverlapIndex(texts, recipe.ngram, recipe.floor, recipe.floor)
    seen = np.zeros(len(index.grams), bool)
    for part in training.parts():
        for batch in read_batches(part.local(TEXTS), ["text"]):
            for piece in pieces(batch["text"]):
                seen |= index.seen(piece)
    unclear = np.array([check is Check.NO for check in index.checks], bool)
    shares = np.where(unclear, 1.0, index.shares(seen))
    return np.split(shares, np.cumsum([len(column) for column in columns])[:-1])
