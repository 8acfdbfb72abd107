"""FineWeb's four rule families beside datatrove, on real documents: seconds, and every decision with its reason.

Both sides get the same texts in memory; seconds are of processor time, all threads together, so that a busy machine
slows neither. What each side loads once (spaCy, compiled kernels) is outside the clock. Cold is the first pass of a process that has seen no text yet, warm a later one, whose unusual pieces are in
the vocabulary. datatrove takes minutes: its answer is remembered by texts, versions and machine.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.peer import CACHE, Peer, python_with
from benchmarks.report import machine, report, versions
from pipelines.clean import CACHE_BYTES
from pipelines.clean_recipe import CleanRecipe
from pipelines.distributions import documentation, installed_distributions, listed_documents
from pipelines.filters import c4, fineweb, gopher_quality, gopher_repetition, refinedweb
from pipelines.filters.chunk_vocabulary import ChunkVocabulary
from pipelines.filters.regex_words import regex_word_counts, regex_words
from pipelines.filters.rules import broken_rule, judged
from pipelines.filters.spacy_words import spacy_sentence_counts, spacy_words
from pipelines.filters.spans import column_of
from pipelines.language import identified
from pipelines.words import pieces

CHECKOUT = Path(__file__).resolve().parent.parent
PEER = ("datatrove==0.10.1", "spacy==3.8.18", "nltk==3.10.4")
DOCUMENTATION = 16_000  # documents of installed distributions
MIN_CHARS = 150
BATCH_BYTES = 4 << 20
FAMILIES = (
    (gopher_repetition.RULES, gopher_repetition.GopherRepetitionRecipe()),
    (gopher_quality.RULES, gopher_quality.GopherQualityRecipe()),
    (c4.RULES, c4.C4Recipe()),
    (fineweb.RULES, fineweb.FineWebRecipe()),
)
FIVE_FAMILIES = (*FAMILIES, (refinedweb.RULES, refinedweb.RefinedWebRecipe()))
KEPT = -1


def documents() -> list[str]:
    """Corpora of the shared test data where they are, and documentation of installed distributions."""
    texts = [text for text in [*corpora(), *installed()] if len(text) >= MIN_CHARS]
    return [text.encode("utf-8", "replace").decode() for text in dict.fromkeys(texts)]


def corpora() -> Iterator[str]:
    import zstandard

    folder = Path(os.environ.get("STEMMA_SHARED_DATA", CHECKOUT.parent / "shared" / "data"))
    for path in sorted([*folder.glob("corpora/**/*.jsonl*"), *folder.glob("web/ccnet/*.jsonl")]):
        if "truth" in path.parts or "books" in path.parts:  # answers; a few books would take most of the time
            continue
        data = path.read_bytes()
        if path.suffix == ".zst":
            data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
        for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines():
            record = json.loads(line)
            yield str(record.get("text") or record.get("raw_content") or "")
    for path in folder.glob("corpora/speeches/*.parquet"):
        yield from (str(text) for text in pl.read_parquet(path)["text"])


def installed() -> Iterator[str]:
    left = DOCUMENTATION
    for name, _ in installed_distributions():
        found = metadata.distribution(name)
        if found.files is None or name == "spacy":  # its text holds IS_ALPHA, which datatrove cuts out of some texts
            continue
        root, entries = listed_documents(found)
        for record in documentation(found, root, [entry.path for entry in entries], MIN_CHARS, ""):
            if left and not record.problem:
                left -= 1
                yield record.text
        if not left:
            return


def four_families(texts: pa.Array, vocabulary: ChunkVocabulary) -> tuple[pl.DataFrame, pa.Array]:
    """Signals of the four families with spaCy's words, and the texts that C4 leaves."""
    lines: list[np.ndarray] = []

    def sentence_counts(column: pa.Array, of_lines: np.ndarray) -> np.ndarray:
        column = column_of(column, of_lines)
        words = spacy_words(column, vocabulary)
        lines.append(np.diff(words.offsets))
        return spacy_sentence_counts(column, words=words)

    words = spacy_words(texts, vocabulary)
    signals = gopher_repetition.signals(texts, words) | gopher_quality.signals(texts, words)
    left = c4.edited(texts, FAMILIES[2][1], sentence_counts)
    # a line feed is in no word and no special case: the words of the text that is left are those of its lines
    of_lines = np.concatenate([[0], np.cumsum(np.concatenate(lines))])
    num_words = np.diff(of_lines[np.concatenate([[0], np.cumsum(left.signals["num_kept_lines"].to_numpy())])])
    signals |= left.signals | fineweb.counted_signals(left.texts, num_words, FAMILIES[3][1])
    return pl.DataFrame({name: pl.from_arrow(column) for name, column in signals.items()}), left.texts


def decided(texts: pa.Array, vocabulary: ChunkVocabulary) -> tuple[list[pl.DataFrame], list[pa.Array]]:
    """The first broken rule of each family and the texts that C4 leaves, batch by batch."""
    decisions, left = [], []
    for batch in pieces(texts, BATCH_BYTES):
        signals, edited = four_families(batch, vocabulary)
        reasons = [broken_rule(rules, recipe).struct.field("reason") for rules, recipe in FAMILIES]
        decisions.append(signals.select(*(reason.alias(str(k)) for k, reason in enumerate(reasons))))
        left.append(edited)
    return decisions, left


def comparable(decisions: list[pl.DataFrame], left: list[pa.Array]) -> list[list[Any]]:
    """As the peer answers: family and reason by datatrove's names, or the digest of the text that is left."""
    names = [{rule.reason: rule.peer for rule in rules} for rules, _ in FAMILIES]
    texts, found = [text.as_py() for column in left for text in column], []
    for row, text in zip(pl.concat(decisions).iter_rows(), texts, strict=True):
        family = next((k for k, reason in enumerate(row) if reason is not None), KEPT)
        if family == KEPT:
            found.append([KEPT, "", hashlib.sha256(text.encode()).hexdigest()])
        else:
            found.append([family, names[family][row[family]], ""])
    return found


def default_preset(texts: pa.Array) -> None:
    """All five families with our own words, as the stage measures and judges them."""
    for batch in pieces(texts, CACHE_BYTES):
        words = regex_words(batch)
        signals = gopher_repetition.signals(batch, words) | gopher_quality.signals(batch, words)
        left = c4.edited(batch, FAMILIES[2][1])
        signals |= left.signals
        signals |= fineweb.counted_signals(left.texts, regex_word_counts(left.texts), FAMILIES[3][1])
        signals |= refinedweb.edited(left.texts, refinedweb.RefinedWebRecipe()).signals
        judged(signals, [rule for rules, _ in FIVE_FAMILIES for rule in rules], CleanRecipe())


def languages(texts: pa.Array) -> None:
    """The language of every text; that model is not the peer's, so there is nothing to compare."""
    for batch in pieces(texts, CACHE_BYTES):
        identified(pl.Series("text", batch), "en")


def answer_of_peer(texts: list[str]) -> dict[str, Any]:
    """Its seconds and decisions, remembered by texts, versions and machine."""
    data = json.dumps(texts)
    key = hashlib.sha256(json.dumps([hashlib.sha256(data.encode()).hexdigest(), PEER, machine()]).encode()).hexdigest()
    kept = CACHE / f"filters-{key[:16]}.json"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "texts.json"
            path.write_text(data, encoding="utf-8")
            with Peer(python_with("datatrove-filters", *PEER), CHECKOUT / "benchmarks" / "filters_peer.py") as peer:
                answer = {"versions": peer.ask(ask="versions")} | peer.ask(ask="decisions", path=str(path))
        kept.write_text(json.dumps(answer), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def seconds(call: Any) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def disagreements(texts: list[str], ours: list[list[Any]], peer: list[list[Any]]) -> int:
    """How many there are; the first ten are printed."""
    wrong = [k for k, (one, other) in enumerate(zip(ours, peer, strict=True)) if one != other]
    for k in wrong[:10]:
        print(f"differs: stemma {ours[k]}, datatrove {peer[k]}, text {texts[k][:80]!r} ({len(texts[k])} characters)")
    return len(wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one warm round instead of five")
    rounds = 1 if parser.parse_args().quick else 5
    texts = documents()
    column = pa.array(texts, pa.large_string())
    num_bytes = sum(len(text.encode()) for text in texts)
    few = column.slice(0, 200)
    decided(few, ChunkVocabulary())  # compiled, and spaCy loaded
    default_preset(few)
    languages(few)
    vocabulary, results = ChunkVocabulary(), []
    cold = seconds(lambda: results.append(decided(column, vocabulary)))
    warm = min(seconds(lambda: decided(column, vocabulary)) for _ in range(rounds))
    own = min(seconds(lambda: default_preset(column)) for _ in range(rounds))
    language = min(seconds(lambda: languages(column)) for _ in range(rounds))
    peer = answer_of_peer(texts)
    num_wrong = disagreements(texts, comparable(*results[0]), peer["decisions"])
    megabytes = num_bytes / 1e6
    report(
        "filters",
        [
            ["datatrove", f"{peer['seconds']:.1f}", f"{megabytes / peer['seconds']:.2f}", "", "reference"],
            *(
                [name, f"{s:.2f}", f"{megabytes / s:.1f}", f"{peer['seconds'] / s:.1f}", agreed]
                for name, s, agreed in (
                    ("stemma, cold", cold, f"{len(texts) - num_wrong} of {len(texts)}"),
                    ("stemma, warm", warm, "same"),
                    ("stemma, own words, five families", own, "other words"),
                )
            ),
            [
                "stemma, language",
                f"{language:.2f}",
                f"{megabytes / language:.1f}",
                "",
                f"{len(texts) / language:.0f}/s",
            ],
        ],
        ("", "processor seconds", "MB/s", "x datatrove", "decision, reason and text"),
        ratios={
            "datatrove_warm": round(peer["seconds"] / warm, 2),
            "datatrove_cold": round(peer["seconds"] / cold, 2),
        },
        agreement=(len(texts) - num_wrong) / len(texts),
        documents=len(texts),
        mb=round(megabytes, 2),
        kept=sum(decision[0] == KEPT for decision in peer["decisions"]),
        default_preset_mb_s=round(megabytes / own, 2),
        language_documents_per_second=round(len(texts) / language),
        versions=versions("numba", "polars", "pyarrow", "spacy") | peer["versions"],
    )


if __name__ == "__main__":
    main()
