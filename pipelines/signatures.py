"""Signatures: what near-duplicate search needs of a document, and nothing else of its text.

Two tables: the MinHash signature, which finds candidates, and the sorted distinct shingle hashes, from which the
true Jaccard of a candidate pair is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipelines.documents import TEXTS
from pipelines.pieces import TableWriter
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.tables import read_batches, rows_digest

VERSION = "1"
SIGNATURES, SHINGLES = "signatures.arrow", "shingles.arrow"
CACHE_BYTES = (
    256 << 10
)  # of text that is computed at once: what fits the cache takes three quarters of the time of 8 MB
MATRIX_BYTES = 64 << 20  # of signatures at once: those of 9,000 permutations are 36 kB a document
SHINGLES_SCHEMA = pa.schema([("doc_id", pa.binary(16)), ("hashes", pa.large_list(pa.uint32()))])


class SignatureRecipe(Recipe):
    """How a document becomes a set of shingles and a signature."""

    shingle: Literal["words", "chars"] = Field(
        default="words", description="what a shingle is made of; chars where words are not parted by spaces"
    )
    ngram: int = Field(default=5, ge=1, le=50, description="words or characters of a shingle (FineWeb: 5 words)")
    num_perm: int = Field(default=112, ge=1, le=16384, description="permutations; 112 is FineWeb's 14 bands of 8 rows")
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

    A document of fewer words (or characters) than a shingle has one shingle, all of them. A document without words
    has none, and datasketch's signature of the empty set (all ones); it is nobody's near-duplicate.
    """
    from pipelines.words import RULE, UNICODE

    num_docs = num_shingles = 0
    schemas = {SIGNATURES: signature_schema(recipe.num_perm), SHINGLES: SHINGLES_SCHEMA, fates.FILE: fates.SCHEMA}
    with TableWriter(draft.directory, schemas) as tables:
        for batch in read_batches(clean.local(TEXTS), ["doc_id", "text"]):
            for signatures, shingles in _signed(batch, recipe):
                tables.write(SIGNATURES, signatures)
                tables.write(SHINGLES, shingles)
                tables.write(fates.FILE, fates.all_kept(signatures["doc_id"]))
                num_docs += signatures.num_rows
                num_shingles += len(shingles["hashes"].chunk(0).values)
    counts = fates.counted(read_batches(draft.path(fates.FILE)))
    fates.check_conservation(counts, num_docs)
    return draft.seal(
        counts={"docs": num_docs, "shingles": num_shingles, **counts},
        facts={"words": RULE, "unicode": UNICODE, "scheme": "datasketch affine32"},
        rows=rows_digest(read_batches(draft.path(SIGNATURES))),
    )


def _signed(batch: pa.Table, recipe: SignatureRecipe) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(signatures, shingles) of the documents of a batch, a bounded number of bytes at a time."""
    from pipelines import minhash, words

    permutations = minhash.permutations(recipe.num_perm, recipe.seed)
    start, most = 0, max(1, MATRIX_BYTES // (4 * recipe.num_perm))
    cut = (piece.slice(first, most) for piece in words.pieces(batch["text"]) for first in range(0, len(piece), most))
    for texts in cut:
        doc_ids = batch["doc_id"].slice(start, len(texts))
        start += len(texts)
        found = [_of_texts(some, recipe, permutations) for some in words.pieces(texts, CACHE_BYTES)]
        matrix = np.concatenate([one.signatures for one in found])
        hashes = np.concatenate([one.hashes for one in found])
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([one.counts for one in found]))]).astype(np.int64)
        rows = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), recipe.num_perm)
        lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(hashes))
        num_words = np.concatenate([one.num_words for one in found])
        columns = [doc_ids, rows, pa.concat_arrays([one.words for one in found]), num_words]
        yield (
            pa.table(columns, schema=signature_schema(recipe.num_perm)),
            pa.table([doc_ids, lists], schema=SHINGLES_SCHEMA),
        )


class _Signed(NamedTuple):
    """What is computed of some texts."""

    signatures: NDArray[np.uint32]  # [texts, permutations]
    hashes: NDArray[np.uint32]  # of the shingles of all texts
    counts: NDArray[np.int64]  # [texts]: shingles
    words: pa.FixedSizeBinaryArray  # [texts]: fingerprints
    num_words: NDArray[np.int64]  # [texts]


def _of_texts(
    texts: pa.Array, recipe: SignatureRecipe, permutations: tuple[NDArray[np.uint32], NDArray[np.uint32]]
) -> _Signed:
    from pipelines import minhash, words

    hashes, offsets = words.word_hashes(texts)
    units = words.character_hashes(texts) if recipe.shingle == "chars" else (hashes, offsets)
    grams, gram_offsets = words.shingle_hashes(*units, recipe.ngram)
    distinct, distinct_offsets = minhash.distinct(grams, gram_offsets)
    matrix = minhash.signatures(distinct, distinct_offsets, *permutations)
    return _Signed(matrix, distinct, np.diff(distinct_offsets), words.fingerprints(hashes, offsets), np.diff(offsets))
