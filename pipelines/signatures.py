"""Signatures: what near-duplicate search needs of a document, and nothing else of its text.

Two tables: the MinHash signature, which finds candidates, and the sorted distinct shingle hashes, from which the
true Jaccard of a candidate pair is computed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.tables import read_batches
from pipelines.row_writer import RowWriter

VERSION = "1"
SHINGLES = pa.schema([("doc_id", pa.binary(16)), ("hashes", pa.large_list(pa.uint32()))])


class SignatureRecipe(Recipe):
    """How a document becomes a set of shingles and a signature."""

    ngram: int = Field(default=5, ge=1, le=50, description="words of a shingle (FineWeb: 5)")
    num_perm: int = Field(default=112, ge=1, le=4096, description="permutations; 112 is FineWeb's 14 bands of 8 rows")
    seed: int = Field(default=1, ge=0, lt=2**32, description="of datasketch's permutations")


def signature_schema(num_perm: int) -> pa.Schema:
    """Columns of ``signatures.arrow``: ``words`` is 128 bits over the word sequence, for normalised equality."""
    return pa.schema(
        [
            ("doc_id", pa.binary(16)),
            ("signature", pa.list_(pa.uint32(), num_perm)),
            ("words", pa.binary(16)),
            ("num_words", pa.int64()),
        ]
    )


def sign(clean: Artifact, recipe: SignatureRecipe, draft: Draft) -> Artifact:
    """Signature and shingles of every document, row by row beside ``clean_documents``.

    A document of fewer words than a shingle has one shingle, all its words. A document without words has none, and
    datasketch's signature of the empty set (all ones); it is nobody's near-duplicate.
    """
    from pipelines.words import RULE, UNICODE

    num_shingles, seen = 0, fates.counted(())
    with (
        RowWriter(draft.path("signatures.arrow"), signature_schema(recipe.num_perm)) as signatures,
        RowWriter(draft.path("shingles.arrow"), SHINGLES) as shingles,
        RowWriter(draft.path(fates.FILE), fates.SCHEMA) as kept,
    ):
        for batch in read_batches(clean.local("texts.arrow"), ["doc_id", "text"]):
            for one, other in _signed(batch, recipe):
                signatures.add(one)
                shingles.add(other)
                num_shingles += len(other["hashes"].chunk(0).values)
            rows = fates.all_kept(batch["doc_id"])
            kept.add(rows)
            seen = {name: count + fates.counted(rows)[name] for name, count in seen.items()}
    fates.check_conservation(seen, signatures.num_rows)
    return draft.seal(
        counts={"docs": signatures.num_rows, "shingles": num_shingles, **seen},
        facts={"words": RULE, "unicode": UNICODE, "scheme": "datasketch affine32"},
        rows=signatures.digest,
    )


def _signed(batch: pa.Table, recipe: SignatureRecipe) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(signatures, shingles) of the documents of a batch, a bounded number of bytes at a time."""
    from pipelines import minhash, words

    a, b = minhash.permutations(recipe.num_perm, recipe.seed)
    start = 0
    for texts in words.pieces(batch["text"]):
        doc_ids = batch["doc_id"].slice(start, len(texts))
        start += len(texts)
        hashes, offsets = words.word_hashes(texts)
        grams, gram_offsets = words.shingle_hashes(hashes, offsets, recipe.ngram)
        distinct, distinct_offsets = minhash.distinct(grams, gram_offsets)
        matrix = minhash.signatures(distinct, distinct_offsets, a, b)
        rows = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), recipe.num_perm)
        lists = pa.LargeListArray.from_arrays(pa.array(distinct_offsets), pa.array(distinct))
        columns = [doc_ids, rows, words.fingerprints(hashes, offsets), np.diff(offsets)]
        yield (
            pa.table(columns, schema=signature_schema(recipe.num_perm)),
            pa.table([doc_ids, lists], schema=SHINGLES),
        )
