"""Cleaning: text in one normal form, without addresses of people, and only if it is prose of the right language."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.documents import CLEAN_SCHEMA, DOCUMENTS, TEXTS, TEXTS_SCHEMA, read_documents
from pipelines.language import LanguageRecipe
from pipelines.pieces import TableWriter
from pipelines.privacy import IP_HINT, MASKED_EMAIL, MASKED_IP, PrivacyRecipe, Span, masked
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.tables import read_batches, rows_digest
from pipelines.quality import WORD_RULE, QualityRecipe

if TYPE_CHECKING:
    import polars as pl

CLEAN_VERSION = "1"
SPANS, SIGNALS = "spans.arrow", "signals.arrow"
PIECE_ROWS = 1024  # a few MB of text: what fits the cache runs twice as fast as 16 MB at once

SPANS_SCHEMA = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("rule", pa.string()),
        ("start", pa.int64()),  # in characters of the normalised text before masking
        ("length", pa.int64()),
    ]
)
SIGNALS_SCHEMA = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("num_chars", pa.int64()),
        ("num_tokens", pa.int64()),
        ("num_words", pa.int64()),
        ("num_lines", pa.int64()),
        ("mean_word_length", pa.float64()),
        ("hash_ratio", pa.float64()),
        ("ellipsis_ratio", pa.float64()),
        ("bullet_lines_ratio", pa.float64()),
        ("ellipsis_lines_ratio", pa.float64()),
        ("alpha_words_ratio", pa.float64()),
        ("num_stop_words", pa.int64()),
        ("language", pa.string()),
        ("language_confidence", pa.float64()),
        ("wanted_language_confidence", pa.float64()),
    ]
)
SCHEMAS = {
    DOCUMENTS: CLEAN_SCHEMA,
    TEXTS: TEXTS_SCHEMA,
    fates.FILE: fates.SCHEMA,
    SPANS: SPANS_SCHEMA,
    SIGNALS: SIGNALS_SCHEMA,
}


class CleanRecipe(QualityRecipe, LanguageRecipe, PrivacyRecipe):
    """Bounds for web prose: the paper's quality rules, a language that is likelier than all others, masks on."""


def docs() -> CleanRecipe:
    """For technical documentation, whose documents are short and full of code.

    Measured on 7,566 docstrings, READMEs and licences of five packages (10.9 MB). The paper's bounds drop most of
    them. A docstring of 20 words is a whole document; a page of reference may be a single list; in a parameter
    table every second token is punctuation. The language model gives signatures and doctests 2 to 50 % English,
    yet a sentence of German, French, Italian, Spanish or Chinese gets less than 0.5 %: so 2 % parts them.
    """
    return CleanRecipe(
        min_words=20,
        min_mean_word_length=2.5,  # x, y, np and i are words too
        max_mean_word_length=15.0,
        max_ellipsis_ratio=0.2,  # doctests continue lines by ...
        max_ellipsis_lines_ratio=0.5,
        max_bullet_lines_ratio=0.95,
        min_alpha_words_ratio=0.35,
        min_stop_words=1,
        min_language_confidence=0.02,
    )


class Cleaned(NamedTuple):
    """What became of the texts of one batch, row by row."""

    frame: pl.DataFrame  # text, the signals, and broken: a struct of reason and value, or null
    spans: list[list[Span]]


def clean(raw: Artifact, recipe: CleanRecipe, draft: Draft) -> Artifact:
    """Clean the documents of one source; memory is bounded by the batch.

    Normalise, mask, measure every signal of every document, then let the first rule that it breaks drop it. What
    is measured is the masked text: the one that would be published.
    """
    from pipelines.language_kernel import load_model

    totals = dict.fromkeys(("num_bytes_in", "num_bytes_out", MASKED_EMAIL, MASKED_IP), 0)
    with TableWriter(draft.directory, SCHEMAS) as writer:
        for documents, texts in _pieces(raw):
            tables = _cleaned_tables(documents, cleaned(texts["text"], recipe), texts["text"])
            for name, table in tables.items():
                writer.write(name, table)
            totals["num_bytes_in"] += sum(documents["num_bytes"].to_pylist())
            totals["num_bytes_out"] += sum(tables[DOCUMENTS]["num_bytes"].to_pylist())
            for rule in tables[SPANS]["rule"].to_pylist():
                totals[rule] += 1
    counts = fates.counted(read_batches(draft.path(fates.FILE)))
    fates.check_conservation(counts, raw.counts["kept"])
    return draft.seal(
        counts={"docs": counts["kept"], **counts, **totals},
        facts={
            "reasons": fates.reasons(read_batches(draft.path(fates.FILE))),
            "word_rule": WORD_RULE,
            "language_model": load_model().digest,
        },
        # sha256_out stands for the texts, so that the digest needs no batch of 8,192 whole books in memory
        rows=rows_digest(read_batches(draft.path(DOCUMENTS), ["doc_id", "sha256_out"])),
    )


def _pieces(raw: Artifact) -> Iterator[tuple[pa.Table, pa.Table]]:
    for documents, texts in read_documents(raw):
        for start in range(0, documents.num_rows, PIECE_ROWS):
            yield documents.slice(start, PIECE_ROWS), texts.slice(start, PIECE_ROWS)


def cleaned(texts: pa.ChunkedArray, recipe: CleanRecipe) -> Cleaned:
    """Clean some texts; rows stay in order, and a row does not depend on the others."""
    import polars as pl

    from pipelines.language import identified
    from pipelines.normalize import normalized
    from pipelines.quality import signals

    column, spans = _masked(normalized(pl.Series("text", texts, dtype=pl.String)), recipe)
    parts = [pl.DataFrame({"text": column}), signals(column), identified(column, recipe.language)]
    frame = pl.concat(parts, how="horizontal")
    return Cleaned(frame.with_columns(broken_rule(recipe).alias("broken")), spans)


def broken_rule(recipe: CleanRecipe) -> pl.Expr:
    """The first rule that a document breaks, as a struct of ``reason`` and ``value``; null if none.

    Length goes before language, since the language of a few words is a guess, and language before the other
    quality rules, since their stop words are English.
    """
    import polars as pl

    from pipelines import quality

    rules = [(r.reason, r.signal, quality.breaks(r, recipe)) for r in quality.RULES]
    empty = ("empty", "num_chars", pl.col("num_chars") == 0)
    confidence = "wanted_language_confidence"
    foreign = ("language", confidence, pl.col(confidence) < recipe.min_language_confidence)
    return quality.first_broken([empty, *rules[:2], foreign, *rules[2:]])


def _masked(column: pl.Series, recipe: CleanRecipe) -> tuple[pl.Series, list[list[Span]]]:
    """Mask the few texts in which something looks like an address; the others never become Python strings."""
    import polars as pl

    suspect = pl.Series([False] * len(column), dtype=pl.Boolean)
    if recipe.mask_email:
        suspect |= column.str.contains("@", literal=True)
    if recipe.mask_ip:
        suspect |= column.str.contains(IP_HINT)
    spans: list[list[Span]] = [[] for _ in range(len(column))]
    places, changed = [], []
    for place in suspect.arg_true().to_list():
        text, found = masked(column[place], recipe)
        if found:
            spans[place] = found
            places.append(place)
            changed.append(text)
    return (column.scatter(places, changed) if places else column), spans


def _cleaned_tables(documents: pa.Table, done: Cleaned, before: pa.ChunkedArray) -> dict[str, pa.Table]:
    """The rows of one batch for each file of the artifact."""
    frame, ids = done.frame, documents["doc_id"]
    broken = frame["broken"].struct.unnest()
    is_kept = broken["reason"].is_null()
    keep = pa.array(is_kept.to_list(), pa.bool_())
    places = np.flatnonzero(is_kept.to_numpy())
    text = pa.chunked_array([frame["text"].to_arrow().cast(pa.large_string())])
    kept_text, kept_ids = text.filter(keep), ids.filter(keep)
    kept = documents.filter(keep)
    added: dict[str, Any] = {
        "num_bytes": [len(cell.as_buffer()) for cell in kept_text],
        "language": frame["language"].to_arrow().cast(pa.string()).filter(keep),
        "num_words": frame["num_words"].to_arrow().filter(keep),
        "sha256_in": [hashlib.sha256(cell.as_buffer()).digest() for cell in before.filter(keep)],
        "sha256_out": [hashlib.sha256(cell.as_buffer()).digest() for cell in kept_text],
    }
    rows = [(ids[int(p)].as_py(), *span) for p in places for span in done.spans[p]]
    spans = list(zip(*rows, strict=True)) or [[] for _ in SPANS_SCHEMA]
    signals = {n: frame[n].to_arrow() for n in SIGNALS_SCHEMA.names if n != "doc_id"}
    return {
        DOCUMENTS: pa.table(
            [added.get(n, kept[n] if n in kept.schema.names else None) for n in CLEAN_SCHEMA.names], CLEAN_SCHEMA
        ),
        TEXTS: pa.table([kept_ids, kept_text], TEXTS_SCHEMA),
        fates.FILE: _fates(ids, broken),
        SPANS: pa.table([pa.array(c, f.type) for c, f in zip(spans, SPANS_SCHEMA, strict=True)], SPANS_SCHEMA),
        SIGNALS: pa.table({"doc_id": ids, **signals}).cast(SIGNALS_SCHEMA),
    }


def _fates(ids: pa.ChunkedArray, broken: pl.DataFrame) -> pa.Table:
    reason = broken["reason"].to_arrow().cast(pa.string())
    fate = [fates.KEPT if cell is None else fates.DROPPED for cell in reason.to_pylist()]
    return fates.from_columns(
        ids, pa.array(fate, pa.string()), reason=reason.fill_null(""), value=broken["value"].to_arrow()
    )
