"""What is found and how fast: Stemma's masks and presidio's pattern recognisers on the same labelled texts.

Presidio runs with the recognisers that it ships for English, without a model of names (its tokeniser is spaCy's blank
one), so that only patterns, checksums and context words count, as here. A labelled span is found if a finding of its
type touches it; a finding that touches none is false. Both read the 750
labelled texts and the planted documents, each in one thread; what is compared is processor time.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.report import report, versions
from pipelines.privacy.masking import PrivacyRecipe, masked_column

PEER = ("presidio-analyzer==2.2.366", "spacy==3.8.18", "phonenumbers==9.0.43")
DATA = Path(os.environ.get("STEMMA_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stemma" / "peers" / "presidio"
TYPES = {
    "EMAIL_ADDRESS": "masked_email",
    "PHONE_NUMBER": "masked_phone",
    "CREDIT_CARD": "masked_credit_card",
    "IBAN_CODE": "masked_iban",
    "US_SSN": "masked_national_id",
    "IP_ADDRESS": "masked_ip",
}
Found = list[list[tuple[str, int, int]]]

PROGRAM = """
import json, logging, sys, time
logging.disable(logging.CRITICAL)
import spacy, tldextract
tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())  # the list that it ships; nothing is fetched
tldextract.tldextract.TLD_EXTRACTOR = tldextract.extract
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine

class Blank(SpacyNlpEngine):
    def __init__(self):
        super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
        self.nlp = {"en": spacy.blank("en")}
        self.nlp["en"].max_length = 1 << 30
    def load(self):
        pass

registry = RecognizerRegistry()
registry.load_predefined_recognizers(languages=["en"])
registry.recognizers = [r for r in registry.recognizers if "Spacy" not in r.name]
engine = AnalyzerEngine(registry=registry, nlp_engine=Blank(), supported_languages=["en"])
texts, types = json.load(sys.stdin)
engine.analyze("warm up: a@b.org 212-555-0123", language="en", entities=types)
started, found = time.process_time(), []
for text in texts:
    found.append([(r.entity_type, r.start, r.end) for r in engine.analyze(text, language="en", entities=types)])
print(json.dumps([time.process_time() - started, found]))
"""


def labelled() -> tuple[list[str], Found]:
    """Texts with (type, start, end) of every labelled span in characters."""
    path = DATA / "labelled" / "pii" / "presidio_synth_v2_a.jsonl.gz"
    texts, truth = [], []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            texts.append(row["full_text"])
            truth.append([(s["entity_type"], s["start_position"], s["end_position"]) for s in row["spans"]])
    return texts, truth


def planted() -> tuple[list[str], Found, list[str]]:
    """The planted documents with personal data, their spans, and all documents (for speed)."""
    with pa.OSFile(str(DATA / "corpora" / "planted" / "documents.jsonl.zst")) as file:
        stream = pa.CompressedInputStream(file, "zstd")
        rows = {r["id"]: r["text"] for r in map(json.loads, io.TextIOWrapper(stream, encoding="utf-8"))}
    lines = (DATA / "corpora" / "planted" / "truth" / "pii.jsonl").read_text(encoding="utf-8").splitlines()
    marked = [json.loads(line) for line in lines]
    truth = [[(s["type"], s["start"], s["end"]) for s in m["spans"]] for m in marked]
    return [rows[m["doc"]] for m in marked], truth, list(rows.values())


def ours(texts: list[str]) -> tuple[float, Found]:
    """Seconds of processor time, the least of five passes, and the findings under presidio's names."""
    column, names = pa.array(texts, pa.large_string()), {rule: name for name, rule in TYPES.items()}
    seconds, spans = float("inf"), pa.table({})
    for _ in range(5):
        started = time.process_time()
        _, spans = masked_column(column, PrivacyRecipe())
        seconds = min(seconds, time.process_time() - started)
    found: Found = [[] for _ in texts]
    for span in spans.to_pylist():
        found[span["row"]].append((names.get(span["rule"], ""), span["start"], span["start"] + span["length"]))
    return seconds, found


def theirs(texts: list[str]) -> tuple[float, Found]:
    """Seconds of processor time and findings of presidio in an environment of its own; remembered by version, program and texts."""
    question = json.dumps([texts, list(TYPES)])
    key = hashlib.sha256(f"{PEER}{PROGRAM}{question}".encode()).hexdigest()[:16]
    answer = CACHE / f"{key}.json"
    if not answer.exists():
        python = CACHE / "venv" / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", CACHE / "venv"], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", *PEER], check=True)
        done = subprocess.run([python, "-c", PROGRAM], input=question, capture_output=True, text=True, check=True)
        answer.write_text(done.stdout.splitlines()[-1])
    seconds, found = json.loads(answer.read_text())
    return seconds, found


def scores(truth: Found, found: Found) -> dict[str, tuple[float, float, int]]:
    """By type: precision, recall and how many there are. A type of which nothing was found has precision 1."""
    result = {}
    for kind in TYPES:
        hits = misses = false = 0
        for wanted, given in zip(truth, found, strict=True):
            gold = [s for s in wanted if s[0] == kind]
            mine = [s for s in given if s[0] == kind]
            hits += sum(any(touch(g, m) for m in mine) for g in gold)
            misses += sum(not any(touch(g, m) for m in mine) for g in gold)
            false += sum(not any(touch(g, m) for g in gold) for m in mine)
        result[kind] = (
            hits / max(hits + false, 1) if hits + false else 1.0,
            hits / max(hits + misses, 1),
            hits + misses,
        )
    return result


def touch(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[1] < other[2] and other[1] < one[2]


def size(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="presidio reads a tenth of the ordinary texts")
    quick = parser.parse_args().quick
    CACHE.mkdir(parents=True, exist_ok=True)
    ours(["warm up"])
    rows: list[list[Any]] = []
    figures: dict[str, Any] = {"precision": {}, "recall": {}}
    sets = {"labelled": labelled(), "planted": planted()[:2]}
    for name, (texts, truth) in sets.items():
        stemma, presidio = scores(truth, ours(texts)[1]), scores(truth, theirs(texts)[1])
        for kind in TYPES:
            cells = [f"{value:.3f}" for s in (stemma, presidio) for value in s[kind][:2]]
            rows.append([name, kind, stemma[kind][2], *cells])
        for place, figure in enumerate(("precision", "recall")):
            figures[figure][name] = {
                "stemma": {k: round(v[place], 4) for k, v in stemma.items()},
                "presidio": {k: round(v[place], 4) for k, v in presidio.items()},
            }
    every = planted()[2]
    part = every[:: 200 if quick else 20]
    mine, peer = ours(every)[0], theirs(part)[0]
    speed, peer_speed = size(every) / mine / 1e6, size(part) / peer / 1e6
    rows.append(["MB/s", f"{size(every) / 1e6:.1f} MB of documents", "", f"{speed:.1f}", "", f"{peer_speed:.3f}", ""])
    report(
        "privacy",
        rows,
        ("set", "type", "spans", "stemma precision", "recall", "presidio precision", "recall"),
        ratios={"presidio": round(speed / peer_speed, 1)},
        mb_s=round(speed, 1),
        presidio_mb_s=round(peer_speed, 4),
        **figures,
        versions={**versions("numba", "pyarrow"), **{p.partition("==")[0]: p.partition("==")[2] for p in PEER}},
    )


if __name__ == "__main__":
    main()
