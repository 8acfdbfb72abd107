"""Cleaning: text in one normal form, without what names people, and only if it is prose of the right language."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.clean_recipe import CleanRecipe
from pipelines.documents import CLEAN_SCHEMA, DOCUMENTS, TEXTS, TEXTS_SCHEMA, documents_digest
from pipelines.filters import c4, fineweb, gopher_quality, gopher_repetition, refinedweb
from pipelines.instruments.instruments import SIGNALS as INSTRUMENT_SIGNALS
from pipelines.instruments.instruments import Instruments
from pipelines.pieces import TableWriter, join, join_aligned
from pipelines.privacy.masking import PLACEHOLDERS
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.tables import read_batch, read_batches
from pipelines.tasks import Task, grouped, run_tasks

if TYPE_CHECKING:
    import polars as pl

    from pipelines.word_rules import WordRule

CLEAN_VERSION = "3"
SPANS, SIGNALS = "spans.arrow", "signals.arrow"
NONE = Instruments()
CACHE_BYTES = 2 << 20  # of text that is cleaned at once: what fits the cache runs twice as fast as 16 MB

SPANS_SCHEMA = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("rule", pa.string()),  # refinedweb_… and c4_… cut, masked_… masks, in this order
        ("start", pa.int64()),  # in characters of the text as it was when the family of the rule came to it
        ("length", pa.int64()),
    ]
)
_LANGUAGE = [
    pa.field("language", pa.string()),
    pa.field("language_confidence", pa.float64()),
    pa.field("wanted_language_confidence", pa.float64()),
]
_MEASURED = [
    gopher_repetition.SIGNALS,
    gopher_quality.SIGNALS,
    _LANGUAGE,
    refinedweb.SIGNALS,
    c4.SIGNALS,
    fineweb.SIGNALS,
    INSTRUMENT_SIGNALS,
]
SIGNALS_SCHEMA = pa.schema([pa.field("doc_id", pa.binary(16)), *(field for family in _MEASURED for field in family)])
SCHEMAS = {
    DOCUMENTS: CLEAN_SCHEMA,
    TEXTS: TEXTS_SCHEMA,
    fates.FILE: fates.SCHEMA,
    SPANS: SPANS_SCHEMA,
    SIGNALS: SIGNALS_SCHEMA,
}


class Cleaned(NamedTuple):
    """What became of some texts."""

    signals: dict[str, pa.Array]  # [texts], of dropped ones too
    broken: pl.DataFrame  # [texts]: reason and value of the first rule that is broken; null where the text is kept
    kept: np.ndarray  # numbers of the texts that are kept
    texts: pa.LargeStringArray  # [kept], cut and masked
    spans: pa.Table  # row (number of the text), rule, start, length; of kept texts


def clean(
    raw: Artifact, recipe: CleanRecipe, draft: Draft, *, instruments: Instruments = NONE, workers: int = 0
) -> Artifact:
    """Clean the documents of one source; memory is bounded by the batch.

    Normalise, measure every signal of every document, cut lines, let the first rule that it breaks drop it, and mask
    what names people in those that are kept. The bytes do not depend on the number of workers.
    """
    pieces = run_tasks(clean_piece, _tasks(raw, recipe, instruments), draft.workshop, workers=workers, tell=draft.tell)
    with ThreadPoolExecutor() as threads:  # most of it is copying, outside of the interpreter's lock
        joins = [threads.submit(join_aligned, pieces, {name: SCHEMAS[name] for name in (DOCUMENTS, TEXTS)}, draft)]
        joins += [threads.submit(join, pieces, name, SCHEMAS[name], draft) for name in (fates.FILE, SPANS, SIGNALS)]
    for one in joins:
        one.result()
    counts = fates.counted(read_batches(draft.path(fates.FILE)))
    fates.check_conservation(counts, raw.counts["kept"])
    return draft.seal(
        counts={"docs": counts["kept"], **counts, **_totals(raw, draft)},
        facts=_facts(recipe, draft),
        rows=documents_digest(
            read_batches(draft.path(DOCUMENTS), ["doc_id", "sha256_out"]),
            read_batches(draft.path(fates.FILE), ["doc_id", "fate"]),
        ),
    )


def _tasks(raw: Artifact, recipe: CleanRecipe, instruments: Instruments) -> list[Task]:
    """Runs of record batches of the source: how they are cut follows from the source alone."""
    sizes = [pc.sum(table["num_bytes"]).as_py() or 0 for table in read_batches(raw.local(DOCUMENTS), ["num_bytes"])]
    paths = raw.local(DOCUMENTS), raw.local(TEXTS)
    return [
        Task(f"{n:06d}", (*paths, batches, recipe, instruments)) for n, batches in enumerate(grouped(enumerate(sizes)))
    ]


def clean_piece(
    folder: Path,
    documents_file: Path,
    texts_file: Path,
    batches: Sequence[int],
    recipe: CleanRecipe,
    instruments: Instruments,
) -> None:
    """Clean some record batches of a source."""
    from pipelines.words import pieces

    with TableWriter(folder, SCHEMAS) as writer:
        for batch in batches:
            documents, texts = read_batch(documents_file, batch), read_batch(texts_file, batch)["text"]
            start = 0
            for column in pieces(texts, CACHE_BYTES):
                rows = documents.slice(start, len(column))
                done = cleaned(column, recipe, ids=rows["doc_id"], urls=rows["url"], instruments=instruments)
                for name, table in _tables(rows, done).items():
                    writer.write(name, table)
                start += len(column)


def cleaned(
    texts: pa.LargeStringArray,
    recipe: CleanRecipe,
    *,
    ids: pa.ChunkedArray | None = None,
    urls: pa.ChunkedArray | None = None,
    instruments: Instruments = NONE,
) -> Cleaned:
    """Clean some texts; rows stay in order, and a row does not depend on the others.

    Repetition, quality and language are measured on the text in normal form; FineWeb's rules and what the instruments
    see, on what the line rules leave.
    """
    import polars as pl

    from pipelines.filters.rules import judged
    from pipelines.judgement import active_rules
    from pipelines.language import identified
    from pipelines.normalize import written
    from pipelines.word_rules import word_rule

    rule = word_rule(recipe.word_rule)
    urls = pa.chunked_array([pa.repeat("", len(texts))]) if urls is None else urls
    texts = _large(written(pl.Series("text", texts, dtype=pl.String), recipe))
    words = rule.words(texts)
    signals = {**gopher_repetition.signals(texts, words), **gopher_quality.signals(texts, words)}
    signals |= {column.name: column.to_arrow() for column in identified(pl.Series("text", texts), recipe.language)}
    texts, cuts = _edited(texts, recipe, rule, signals)
    num_words = rule.word_counts(texts) if cuts else np.diff(words.offsets)
    signals |= fineweb.counted_signals(texts, num_words, recipe)
    signals |= instruments.signals(texts, urls, recipe, ids)
    return _masked(texts, recipe, signals, judged(signals, active_rules(recipe), recipe), cuts)


def _edited(
    texts: pa.LargeStringArray, recipe: CleanRecipe, rule: WordRule, signals: dict[str, pa.Array]
) -> tuple[pa.LargeStringArray, list[pa.Table]]:
    """What the line rules leave, and what they cut; rules that are off are measured all the same."""
    cuts: list[pa.Table] = []
    edited = refinedweb.edited(texts, recipe)
    signals |= edited.signals
    if recipe.refinedweb:
        texts, cuts = edited.texts, [edited.cuts]
    edited = c4.edited(texts, recipe, rule.sentence_counts)
    signals |= edited.signals
    return (edited.texts, [*cuts, edited.cuts]) if recipe.c4 else (texts, cuts)


def _masked(
    texts: pa.LargeStringArray,
    recipe: CleanRecipe,
    signals: dict[str, pa.Array],
    broken: pl.DataFrame,
    cuts: list[pa.Table],
) -> Cleaned:
    """Take the texts that are kept, and mask them; the others are read by nobody."""
    from pipelines.privacy.masking import masked_column

    kept = np.flatnonzero(broken["reason"].is_null().to_numpy())
    masked, masks = masked_column(texts.take(pa.array(kept)), recipe)
    rows = pa.array(kept[masks["row"].to_numpy()], pa.int64())
    masks = masks.set_column(masks.schema.get_field_index("row"), "row", rows)
    of_kept = [table.filter(pc.is_in(table["row"], pa.array(kept, pa.int64()))) for table in cuts]
    return Cleaned(
        signals, broken, kept, masked, pa.concat_tables([*of_kept, masks.select(["row", "rule", "start", "length"])])
    )


def _tables(documents: pa.Table, done: Cleaned) -> dict[str, pa.Table]:
    """The rows of some documents for each file of the artifact."""
    documents = documents.combine_chunks()
    ids, places = documents["doc_id"], pa.array(done.kept)
    kept = documents.take(places)
    texts = [memoryview(cell.as_buffer()) for cell in done.texts]
    added: dict[str, Any] = {
        "num_bytes": [len(text) for text in texts],
        "language": done.signals["language"].take(places),
        "num_words": done.signals["num_words"].take(places),
        "sha256_in": kept["sha256"],
        "sha256_out": [hashlib.sha256(text).digest() for text in texts],
    }
    named = [added[n] if n in added else kept[n] for n in CLEAN_SCHEMA.names]
    # by row, then as the families came to it
    spans = done.spans.take(pc.sort_indices(done.spans["row"])) if done.spans.num_rows else done.spans
    return {
        DOCUMENTS: pa.table(named, CLEAN_SCHEMA),
        TEXTS: pa.table([kept["doc_id"], done.texts], TEXTS_SCHEMA),
        fates.FILE: _fates(ids, done.broken),
        SPANS: pa.table([ids.take(spans["row"]), *(spans[n] for n in SPANS_SCHEMA.names[1:])], SPANS_SCHEMA.names),
        SIGNALS: pa.table([ids, *(done.signals[n] for n in SIGNALS_SCHEMA.names[1:])], SIGNALS_SCHEMA.names),
    }


def _fates(ids: pa.ChunkedArray, broken: pl.DataFrame) -> pa.Table:
    reason = broken["reason"].to_arrow().cast(pa.string())
    fate = pc.if_else(pc.is_null(reason), fates.KEPT, fates.DROPPED)
    return fates.from_columns(ids, fate, reason=reason.fill_null(""), value=broken["value"].to_arrow())


def _totals(raw: Artifact, draft: Draft) -> dict[str, int]:
    """Bytes in and out, and how much was masked and cut."""
    rules = dict.fromkeys(PLACEHOLDERS, 0)
    for table in read_batches(draft.path(SPANS), ["rule"]):
        for pair in pc.value_counts(table["rule"]).to_pylist():
            rules[pair["values"]] = rules.get(pair["values"], 0) + pair["counts"]
    num_bytes = {}
    for name, path in (("num_bytes_in", raw.local(DOCUMENTS)), ("num_bytes_out", draft.path(DOCUMENTS))):
        num_bytes[name] = sum(pc.sum(table["num_bytes"]).as_py() or 0 for table in read_batches(path, ["num_bytes"]))
    return {**num_bytes, **rules}


def _facts(recipe: CleanRecipe, draft: Draft) -> dict[str, Any]:
    from pipelines.language_model import load_model
    from pipelines.word_rules import word_rule

    return {
        "reasons": fates.reasons(read_batches(draft.path(fates.FILE))),
        "word_rule": word_rule(recipe.word_rule).version,
        "language_model": load_model().digest,
    }


def _large(column: pl.Series) -> pa.LargeStringArray:
    found = column.to_arrow().cast(pa.large_string())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
