"""The profile of a source: what is in it, by language, before and after cleaning. For people; nothing is built on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.clean import SIGNALS, SPANS
from pipelines.documents import DOCUMENTS
from pipelines.privacy.masking import PLACEHOLDERS
from pipelines.profile.alignment import side_by_side
from pipelines.profile.signal_counts import SIGNAL_COUNTS_SCHEMA, bounds, counted_signals
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.tables import read_batches, rows_digest

PROFILE_VERSION = "1"
PROFILE, SIGNAL_COUNTS, PAGE = "profile.parquet", "signals.parquet", "profile.html"

# fate, reason, length_in: all documents, measured as they came in; the others: kept ones, measured as they went out
DIMENSIONS = ("fate", "reason", "length_in", "length", "language", "licence", "masked", "cut", "domain")
SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("language", pa.string()),  # as cleaning found it; empty for what could not be read
        ("dimension", pa.string()),  # one of DIMENSIONS
        ("name", pa.string()),  # of the fate, the reason, the bin of words (64-127), the licence, the rule, the host
        ("docs", pa.int64()),
        ("num_bytes", pa.int64()),  # of their texts in UTF-8; 0 for what could not be read
        ("num_words", pa.int64()),  # as the word rule of cleaning counts them, before lines were cut
        ("places", pa.int64()),  # masked and cut: places in the texts; otherwise null
    ]
)
_COMPACT = 1 << 20  # rows of hosts that are counted together at once


class ProfileRecipe(Recipe):
    """How much of the long tail is told."""

    top_domains: int = Field(default=50, ge=0, le=10_000, description="hosts that are told, those of most documents")


def profile(raw: Artifact, clean: Artifact, recipe: ProfileRecipe, draft: Draft) -> Artifact:
    """Count one source along every dimension, and draw it; memory is bounded by a batch and by the number of hosts.

    All sums are of whole numbers, so they do not depend on the order of batches.
    """
    from pipelines.profile.page import page

    tally = Tally()
    tally.add_unread(raw)
    tally.add_judged(raw, clean)
    tally.add_kept(clean)
    num_hosts = tally.add_domains(clean, recipe.top_domains)
    table, signals = tally.table(draft.key.partition), counted_signals(clean)
    write_parquet(draft.path(PROFILE), table)
    write_parquet(draft.path(SIGNAL_COUNTS), signals)
    html = page(draft.key.partition, table, signals, bounds(clean))
    draft.path(PAGE).write_bytes(html.encode())
    return draft.seal(
        counts={
            "docs": clean.counts["kept"],
            "num_bytes": _total(table, "num_bytes"),
            "num_words": _total(table, "num_words"),
            "languages": _names(table, "language"),
            "licences": _names(table, "licence"),
            "domains": num_hosts,
        },
        rows=rows_digest([table]),
    )


class Tally:
    """Documents, bytes, words and places by dimension, language and name."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str], list[int]] = {}

    def add(self, dimension: str, rows: pa.Table) -> None:
        """Rows of language, name, docs, num_bytes, num_words and, perhaps, places."""
        for row in _summed(rows).to_pylist():
            sums = self._sums.setdefault((dimension, row["name"], row["language"]), [0, 0, 0, 0])
            for i, column in enumerate(("docs", "num_bytes", "num_words", "places")):
                sums[i] += row.get(column) or 0

    def add_unread(self, raw: Artifact) -> None:
        """Records that never became documents: their language and size are not known."""
        counts = fates.counted(read_batches(raw.local(fates.FILE)))
        kinds: dict[str, int] = {}
        for table in read_batches(raw.local(fates.FILE)):  # one by one: every reason names a place of its own
            for name, docs in fates.kinds(table).items():
                kinds[name] = kinds.get(name, 0) + docs
        gone = {name: counts[name] for name in fates.FATES if counts[name] and name != fates.KEPT}
        for dimension, numbers in (("fate", gone), ("reason", kinds)):
            for name, docs in numbers.items():
                self._sums[dimension, name, ""] = [docs, 0, 0, 0]

    def add_judged(self, raw: Artifact, clean: Artifact) -> None:
        """Every document that cleaning saw, as it came in."""
        for language, size, words, fate, why in judged(raw, clean):
            for dimension, name in (("fate", fate), ("reason", why), ("length_in", length_bins(words))):
                rows = _rows(language, name, size, words)
                self.add(dimension, rows.filter(pc.not_equal(fate, fates.KEPT)) if dimension == "reason" else rows)

    def add_kept(self, clean: Artifact) -> None:
        """The documents that cleaning kept, as they went out."""
        spans = _Spans(clean.local(SPANS))
        for table in read_batches(clean.local(DOCUMENTS)):
            documents = table.combine_chunks()
            language, size, words = (_filled(documents[n]) for n in ("language", "num_bytes", "num_words"))
            self.add("length", _rows(language, length_bins(words), size, words))
            self.add("language", _rows(language, language, size, words))
            self.add("licence", _rows(language, documents["licence"], size, words))
            rule, row, places = spans.of(documents["doc_id"])
            is_mask = pc.is_in(rule, pa.array(list(PLACEHOLDERS)))
            found = _rows(language.take(row), rule, size.take(row), words.take(row), places)
            self.add("masked", found.filter(is_mask))
            self.add("cut", found.filter(pc.invert(is_mask)))

    def add_domains(self, clean: Artifact, most: int) -> int:
        """The hosts of most kept documents; returns how many hosts there are."""
        found = pa.table({n: pa.array([], t) for n, t in _HOST_COLUMNS.items()})
        for table in read_batches(clean.local(DOCUMENTS), ["url", "language", "num_bytes", "num_words"]):
            host = hosts(table["url"])
            rows = _rows(_filled(table["language"]), host, table["num_bytes"], table["num_words"])
            found = pa.concat_tables([found, rows.filter(pc.not_equal(host, "")).select(list(_HOST_COLUMNS))])
            if found.num_rows >= _COMPACT:
                found = _summed(found)
        if not found.num_rows:
            return 0
        by_host = found.group_by("name", use_threads=False).aggregate([("docs", "sum")])
        by_host = by_host.sort_by([("docs_sum", "descending"), ("name", "ascending")])
        self.add("domain", found.filter(pc.is_in(found["name"], by_host["name"].slice(0, most).combine_chunks())))
        return by_host.num_rows

    def table(self, source: str) -> pa.Table:
        """All of it in the order of dimension, name and language."""
        keys = sorted(self._sums, key=lambda key: (DIMENSIONS.index(key[0]), _name_order(*key[:2]), key[2]))
        rows = []
        for dimension, name, language in keys:
            *sums, places = self._sums[dimension, name, language]
            counted = places if dimension in ("masked", "cut") else None
            rows.append((source, language, dimension, name, *sums, counted))
        return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


Columns = tuple[pa.Array, pa.Array, pa.Array, pa.Array, pa.Array]


def judged(raw: Artifact, clean: Artifact) -> Iterator[Columns]:
    """Language, bytes, words, fate and reason of the documents that cleaning saw, batch after batch."""
    streams = (
        read_batches(raw.local(DOCUMENTS), ["doc_id", "num_bytes"]),
        read_batches(clean.local(SIGNALS), ["doc_id", "language", "num_words"]),
        read_batches(clean.local(fates.FILE), ["doc_id", "fate", "reason"]),
    )
    for documents, signals, settled in side_by_side(*streams):
        for table in (signals, settled):
            assert documents["doc_id"].equals(table["doc_id"]), f"{clean.key} is not of {raw.key}: other documents"
        why = pc.binary_join_element_wise(settled["fate"], settled["reason"], ": ")
        columns = signals["language"], documents["num_bytes"], signals["num_words"], settled["fate"], why
        yield tuple(_filled(column) for column in columns)  # type: ignore[misc]


def length_bins(words: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Names of the bins of numbers of words, which double: 0, 1, 2-3, 4-7, ..."""
    exponents = np.frexp(_filled(words).to_numpy(zero_copy_only=False))[1]
    names = ["0", "1", *(f"{1 << n}-{(2 << n) - 1}" for n in range(1, 63))]
    return pa.array(names).take(pa.array(exponents, pa.int32()))


def hosts(urls: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Lower-case hosts without ``www.``, port and user; empty where a URL has none."""
    found = pc.extract_regex(
        _filled(urls), r"^[A-Za-z][A-Za-z0-9+.\-]*://(?:[^/?#\\]*@)?(?P<host>\[[0-9A-Fa-f:.]*\]|[^/?#\\:\s]*)"
    )
    plain = pc.utf8_lower(pc.fill_null(pc.struct_field(found, "host"), ""))
    return pc.replace_substring_regex(plain, r"^www\.|\.$", "")


def write_parquet(path: Path, table: pa.Table) -> None:
    """A Parquet file whose bytes depend on the rows and, in its footer, on the version of pyarrow that wrote it.

    No codec, no schema of Arrow's and row groups of fixed size: what is left is ``created_by``, which no option of the
    writer changes. The lock file fixes it, and the logical digest of the rows does not see it.
    """
    import pyarrow.parquet as pq

    pq.write_table(
        table, path, row_group_size=8192, version="2.6", compression="none", use_dictionary=False, store_schema=False
    )


def read_profile(artifact: Artifact) -> tuple[pa.Table, pa.Table]:
    """The counts by dimension and those of the signals."""
    import pyarrow.parquet as pq

    found = [pq.read_table(artifact.local(name)) for name in (PROFILE, SIGNAL_COUNTS)]
    return found[0].cast(SCHEMA), found[1].cast(SIGNAL_COUNTS_SCHEMA)


_HOST_COLUMNS = {"language": pa.string(), "name": pa.string()} | dict.fromkeys(
    ("docs", "num_bytes", "num_words"), pa.int64()
)


class _Spans:
    """The spans of documents, which stand in the order of the documents."""

    def __init__(self, path: Path) -> None:
        self._tables = read_batches(path, ["doc_id", "rule"])
        self._pending: pa.Table | None = next(self._tables, None)

    def of(self, ids: pa.ChunkedArray) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Rule, row and number of places, once for each rule and row, of the next documents."""
        wanted = ids.combine_chunks()
        taken = [pa.table({"doc_id": pa.array([], pa.binary(16)), "rule": pa.array([], pa.string())})]
        while self._pending is not None:
            row = pc.index_in(self._pending["doc_id"], wanted)
            stop = self._pending.num_rows if row.null_count == 0 else pc.index(pc.is_null(row), True).as_py()
            taken.append(self._pending.slice(0, stop))
            if stop < self._pending.num_rows:
                self._pending = self._pending.slice(stop)
                break
            self._pending = next(self._tables, None)
        table = pa.concat_tables(taken)
        table = table.append_column("row", pc.index_in(table["doc_id"], wanted)).select(["rule", "row"])
        counted = table.group_by(["rule", "row"], use_threads=False).aggregate([([], "count_all")]).combine_chunks()
        return tuple(_whole(counted[n]) for n in ("rule", "row", "count_all"))  # type: ignore[return-value]


def _rows(
    language: pa.Array, name: pa.Array, size: pa.Array, words: pa.Array, places: pa.Array | None = None
) -> pa.Table:
    one = pa.array(np.ones(len(name), np.int64))
    rows = {"language": language, "name": name, "docs": one, "num_bytes": size, "num_words": words}
    return pa.table(rows if places is None else {**rows, "places": places})


def _summed(rows: pa.Table) -> pa.Table:
    """One row for each language and name."""
    numbers = rows.column_names[2:]
    sums = rows.group_by(["language", "name"], use_threads=False).aggregate([(n, "sum") for n in numbers])
    return sums.select(["language", "name", *(f"{n}_sum" for n in numbers)]).rename_columns(rows.column_names)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _filled(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return _whole(pc.fill_null(column, "" if pa.types.is_string(column.type) else 0))


def _name_order(dimension: str, name: str) -> tuple[int, str]:
    return (int(name.split("-", maxsplit=1)[0]), "") if dimension in ("length_in", "length") else (0, name)


def _of(table: pa.Table, dimension: str) -> pa.Table:
    return table.filter(pc.equal(table["dimension"], dimension))


def _total(table: pa.Table, column: str) -> int:
    return pc.sum(_of(table, "length")[column]).as_py() or 0


def _names(table: pa.Table, dimension: str) -> int:
    return pc.count_distinct(_of(table, dimension)["name"]).as_py()


def names_of(table: pa.Table, dimension: str, column: str = "docs") -> dict[str, int]:
    """Names of a dimension with their sums over all languages, in the order of the table."""
    sums: dict[str, int] = {}
    rows = _of(table, dimension)
    for name, number in zip(rows["name"].to_pylist(), rows[column].to_pylist(), strict=True):
        sums[name] = sums.get(name, 0) + (number or 0)
    return sums
