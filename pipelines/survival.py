"""The documents of a corpus in the order in which they survive: of two that are alike, the first one stays.

Sources in their stated order and doc_id decide, unless the recipe asks for the longest, the oldest or the best
document; then they part those that are equal in that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines import doc_ids
from pipelines.documents import DOCUMENTS, PAGES
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.tables import read_batches
from pipelines.signatures import SIGNATURES

Keep = Literal["order", "longest", "oldest", "quality"]
SIGNALS = "signals.arrow"  # of clean_documents: what the cleaning rules measured, dropped documents included
I64, F64 = NDArray[np.int64], NDArray[np.float64]
_SHORT_DATE = re.compile(r"(\d{4})(?:-(\d{2}))?")


@dataclass
class Corpus:
    """All documents of a corpus, numbered in the order in which they survive."""

    ids: doc_ids.Ids  # by number
    exact: I64  # by number: the first document with the same bytes
    alike: I64  # by number: the first document with the same words
    sources: list[tuple[I64, I64]]  # by rank, in the order of doc_ids: row in its tables, and number


def ranked(sources: Sequence[str], prefer: Sequence[str]) -> list[int]:
    """Positions of the sources in the order in which their documents survive.

    Raises:
        ValueError: if a preferred name or pattern matches no source.
    """
    for pattern in prefer:
        if not any(_matches(source, pattern) for source in sources):
            raise ValueError(f"prefer names {pattern!r}, which is no source of this corpus ({', '.join(sources)}).")
    rank = [next((i for i, p in enumerate(prefer) if _matches(s, p)), len(prefer)) for s in sources]
    return sorted(range(len(sources)), key=lambda index: (rank[index], index))


def _matches(source: str, pattern: str) -> bool:
    return fnmatchcase(source, pattern) or source.rpartition("/")[0] == pattern


def in_order(
    cleans: Sequence[Artifact], signatures: Sequence[Artifact], raws: Sequence[Artifact], keep: Keep, quality: str
) -> Corpus:
    """Number the documents; the sources come in the order of their rank, ``raws`` only where dates are asked for."""
    ids, digests, words, keys, rows, first = [], [], [], [], [], 0
    for index, (clean, signature) in enumerate(zip(cleans, signatures, strict=True)):
        documents = clean.table(DOCUMENTS, ["doc_id", "sha256_out"])
        signed = signature.table(SIGNATURES, ["doc_id", "words", "num_words"])
        if not documents["doc_id"].equals(signed["doc_id"]):
            raise ValueError(f"{signature.key} does not belong to {clean.key}; rebuild the signatures.")
        here = doc_ids.as_numpy(documents["doc_id"])
        row_of = doc_ids.order(here)
        digest_of = as_words(documents["sha256_out"], 4)
        without = np.asarray(signed["num_words"]) == 0
        fingerprint = np.column_stack([as_words(signed["words"], 2), without])
        # texts without words are alike only where their bytes are: the digest stands for the missing words
        fingerprint[without, :2] = digest_of[without, :2]
        ids.append(here[row_of])
        digests.append(digest_of[row_of])
        words.append(fingerprint[row_of])
        keys.append(_preference(clean, raws[index] if raws else None, keep, quality)[row_of])
        rows.append((row_of, np.arange(first, first + len(row_of))))
        first += len(row_of)
    whole = np.concatenate(ids)
    if keep == "order":
        return Corpus(whole, first_of_equals(np.concatenate(digests)), first_of_equals(np.concatenate(words)), rows)
    order = np.argsort(np.concatenate(keys), kind="stable")
    number_of = np.empty_like(order)
    number_of[order] = np.arange(len(order))
    return Corpus(
        whole[order],
        first_of_equals(np.concatenate(digests)[order]),
        first_of_equals(np.concatenate(words)[order]),
        [(row_of, number_of[places]) for row_of, places in rows],
    )


def _preference(clean: Artifact, raw: Artifact | None, keep: Keep, quality: str) -> F64:
    """By row of the clean documents: what is smaller survives."""
    ids = clean.table(DOCUMENTS, ["doc_id"])["doc_id"]
    if keep == "longest":
        return -np.asarray(clean.table(DOCUMENTS, ["num_bytes"])["num_bytes"], np.float64)
    if keep == "quality":
        return -_of_documents(ids, *_signal(clean, quality))
    if keep == "oldest":
        if raw is None:
            raise ValueError(
                f"keep = 'oldest' needs the dates of {clean.key}: say it in [corpora.NAME.dedup] of stemma.toml, then "
                "raw_documents is an input."
            )
        pages = pa.concat_tables([*read_batches(raw.local(PAGES), ["doc_id", "date"]), _NO_PAGES])
        return _of_documents(ids, pages["doc_id"], seconds(pages["date"]))
    return np.zeros(len(ids))


_NO_PAGES = pa.schema([("doc_id", pa.binary(16)), ("date", pa.string())]).empty_table()


def _signal(clean: Artifact, name: str) -> tuple[pa.ChunkedArray, F64]:
    """doc_ids and values of one signal of every document that was cleaned; not a number where it has none."""
    whole = clean.table(SIGNALS)
    types = {field.name: field.type for field in whole.schema}
    numbers = [n for n, kind in types.items() if pa.types.is_integer(kind) or pa.types.is_floating(kind)]
    if name not in numbers:
        raise ValueError(f"quality names {name!r}, which is no signal of {clean.key}; there are: {', '.join(numbers)}.")
    values = np.asarray(pc.fill_null(whole[name].cast(pa.float64(), safe=False), float("nan")), np.float64)
    if len(values) and np.isnan(values).all():
        raise ValueError(f"no document of {clean.key} has a {name}; its cleaning recipe must measure it.")
    return whole["doc_id"], values


def _of_documents(ids: pa.ChunkedArray, known: pa.ChunkedArray, values: F64) -> F64:
    """The values of these documents, not a number for one without; such are sorted last, whatever the sign."""
    found = doc_ids.as_numpy(known)
    order = doc_ids.order(found)
    places = doc_ids.positions(found[order], doc_ids.as_numpy(ids))
    return np.where(places >= 0, values[order][places], np.nan) if len(order) else np.full(len(ids), np.nan)


def seconds(dates: pa.ChunkedArray) -> F64:
    """Seconds since 1970 of dates as records give them, not a number where they cannot be read; each text once."""
    coded = dates.combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    values = np.array([*(timestamp(text or "") for text in coded.dictionary.to_pylist()), np.nan])
    return values[np.asarray(coded.indices.fill_null(len(values) - 1), np.int64)]


def timestamp(text: str) -> float:
    """ISO 8601 (a year or a month alone is its first moment) or RFC 5322; UTC where no zone is given."""
    text = text.strip()
    try:
        if short := _SHORT_DATE.fullmatch(text):
            return datetime(int(short[1]), int(short[2] or 1), 1, tzinfo=UTC).timestamp()
        found = datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return float("nan")


def as_words(column: pa.ChunkedArray, width: int) -> NDArray[np.uint64]:
    """A fixed-size binary column as [rows, width] of 64 bits."""
    chunks = [
        np.frombuffer(c.buffers()[1], np.uint64)[c.offset * width : (c.offset + len(c)) * width]
        for c in column.chunks if len(c)
    ]  # fmt: skip
    return np.concatenate([*chunks, np.zeros(0, np.uint64)]).reshape(-1, width)


def first_of_equals(rows: NDArray[np.uint64]) -> I64:
    """For each row the index of the first equal row; only rows that share their first word are compared whole."""
    by_word = np.argsort(rows[:, 0].copy())
    ordered = rows[by_word, 0]
    again = np.zeros(len(rows) + 1, bool)  # has the word of the one before it
    again[1:-1] = ordered[1:] == ordered[:-1]
    alike = np.sort(by_word[again[:-1] | again[1:]])
    first = np.arange(len(rows))
    if len(alike):
        order = np.lexsort(rows[alike].T)  # stable: equal rows stay in their order
        some = rows[alike[order]]
        fresh = np.ones(len(order), bool)
        fresh[1:] = (some[1:] != some[:-1]).any(axis=1)
        first[alike[order]] = alike[order[np.flatnonzero(fresh)[np.cumsum(fresh) - 1]]]
    return first
