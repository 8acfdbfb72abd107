"""Tokenizing: texts to token ids beside tokenizers' ``encode_batch_fast``, texts to files beside datatrove's writer.

All on one thread: RAYON_NUM_THREADS=1 for the library, one process for the others. Seconds are of the processor, the
least of some rounds in turns. The tokenizer is a byte-level BPE of 32,768 that is learned from the same texts, the
documentation of installed distributions. Cold is a table that knows no unit, warm one that has seen these texts; the
library's own cache is warm in all rounds but its first. It gets lists of 64 texts, with which it is fastest, and is not
charged for making lists of its ids. datatrove's DocumentTokenizer gets texts in memory and writes its ``.ds`` files,
unshuffled, in batches as shipped (10,000) and of 64; Stemma reads the Arrow file and writes shards. All ids are compared.
"""

from __future__ import annotations

import os

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import json
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.ingest import real_texts
from benchmarks.peer import Peer, python_with
from benchmarks.report import report, versions
from pipelines.documents import TEXTS, TEXTS_SCHEMA
from pipelines.pieces import TableWriter
from pipelines.shards import TOKENS, encode_piece, encoded_batches
from pipelines.subwords import learned
from pipelines.tokenizing import Encoder
from pipelines.vocabulary import FILE, SPECIALS, VocabularyRecipe

PEER = ("datatrove==0.10.1", "tokenizers==0.23.3", "numpy")
TOGETHER = 64
BATCH_ROWS = 2048
EOS = 0
SHARD_SCHEMA = pa.schema([("doc_id", pa.binary(16)), ("tokens", pa.large_list(pa.uint16()))])


def processor_seconds(call: Callable[[], Any]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def library(encode: Encoder, texts: list[str]) -> Iterator[Any]:
    """What encode_batch_fast gives for each text; kept by nobody, as keeping it takes longer than making it."""
    for start in range(0, len(texts), TOGETHER):
        yield from encode.tokenizer.encode_batch_fast(texts[start : start + TOGETHER])


def write_texts(path: Path, texts: list[str]) -> int:
    """An Arrow file of documents as stages write them; returns the number of its record batches."""
    names = [number.to_bytes(16, "big") for number in range(len(texts))]
    with TableWriter(path.parent, {path.name: TEXTS_SCHEMA}) as writer:
        for start in range(0, len(texts), BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            writer.write(path.name, pa.table([names[rows], texts[rows]], schema=TEXTS_SCHEMA))
    return -(-len(texts) // BATCH_ROWS)


def shard_file(folder: Path, tokenizer: Path, num_batches: int) -> None:
    """As the stage does it: read texts, encode, write tokens."""
    out = folder / "shards"
    out.mkdir(exist_ok=True)
    encode_piece(out, folder / TEXTS, range(num_batches), tokenizer, SHARD_SCHEMA, EOS)


def writing_speed(folder: Path, tokenizer: Path, num_batches: int) -> float:
    """Million tokens a second of writing alone: the encoded batches, ten times over."""
    tables = list(encoded_batches(folder / TEXTS, range(num_batches), tokenizer, SHARD_SCHEMA, EOS))

    def write() -> None:
        with TableWriter(folder, {"again.arrow": SHARD_SCHEMA}) as writer:
            for _ in range(10):
                for table in tables:
                    writer.write("again.arrow", table)

    seconds = min(processor_seconds(write) for _ in range(5))
    return 10 * len(stream(folder)) / 1e6 / seconds


def iter_batches(reader: pa.ipc.RecordBatchFileReader) -> list[pa.RecordBatch]:
    return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def stream(folder: Path) -> np.ndarray:
    """All tokens of the shard file."""
    with pa.OSFile(str(folder / "shards" / TOKENS)) as file:
        columns = [batch.column("tokens").flatten().to_numpy() for batch in iter_batches(pa.ipc.open_file(file))]
    return np.concatenate(columns)


def rounds_of(texts: list[str], data: bytes, rounds: int) -> dict[str, float]:
    """Least processor seconds of the library, of a cold table and of a warm one."""
    column = pa.array(texts, pa.large_string())
    Encoder(data).encode(column.slice(0, 8), np.uint16)  # compiled
    warm, seconds = Encoder(data), {"library": [], "cold": [], "warm": []}
    warm.encode(column, np.uint16)
    for _ in range(rounds):
        cold = Encoder(data)
        seconds["library"].append(processor_seconds(lambda: deque(library(warm, texts), 0)))
        seconds["cold"].append(processor_seconds(lambda cold=cold: cold.encode(column, np.uint16)))
        seconds["warm"].append(processor_seconds(lambda: warm.encode(column, np.uint16)))
    return {name: min(values) for name, values in seconds.items()}


def written(folder: Path, texts: list[str], rounds: int) -> tuple[dict[str, float], dict[str, str], bool]:
    """Least processor seconds of files of tokens, the peer's versions, and whether all files say the same."""
    num_batches, tokenizer = write_texts(folder / TEXTS, texts), folder / FILE
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    seconds: dict[str, list[float]] = {"stemma": [], "datatrove": [], "datatrove_64": []}
    told: dict[str, Any] = {}
    shard_file(folder, tokenizer, num_batches)  # the table is warm from here on
    with Peer(python_with("datatrove-tokenize", *PEER), Path(__file__).with_name("tokenize_peer.py")) as peer:
        for _ in range(rounds):
            seconds["stemma"].append(processor_seconds(lambda: shard_file(folder, tokenizer, num_batches)))
            for name, size in (("datatrove", 10_000), ("datatrove_64", TOGETHER)):
                told = peer.ask(ask="tokenize", folder=str(folder), batch_size=size)
                seconds[name].append(told["seconds"])
        same = bool(np.array_equal(np.fromfile(told["file"], np.uint16), stream(folder)))
        return {name: min(values) for name, values in seconds.items()}, peer.ask(ask="versions"), same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds instead of five")
    rounds = 2 if parser.parse_args().quick else 5
    texts = list(dict.fromkeys(real_texts()))
    data = json.dumps(learned(texts, VocabularyRecipe(size=1 << 15), list(SPECIALS))).encode()
    memory = rounds_of(texts, data, rounds)
    encode = Encoder(data)
    ids, offsets = encode.encode(pa.array(texts, pa.large_string()), np.uint16)
    expected = [encoding.ids for encoding in library(encode, texts)]
    identical = all(ids[a:b].tolist() == e for a, b, e in zip(offsets[:-1], offsets[1:], expected, strict=True))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / FILE).write_bytes(data)
        files, peer_versions, same = written(folder, texts, rounds)
        writing = writing_speed(folder, folder / FILE, -(-len(texts) // BATCH_ROWS))
    speeds = {name: len(ids) / 1e6 / s for name, s in {**memory, **files}.items()} | {"writing": writing}
    said = {
        "library": "tokenizers, encode_batch_fast",
        "cold": "stemma, cold",
        "warm": "stemma, warm",
        "datatrove": "datatrove, texts to files",
        "datatrove_64": "datatrove in batches of 64",
        "stemma": "stemma, file to shards, warm",
        "writing": "stemma, writing alone",
    }
    report(
        "tokenize",
        [[name, f"{speeds[key]:.2f}"] for key, name in said.items()],
        ("", "million tokens a processor second"),
        ratios={
            "hf_warm": round(speeds["warm"] / speeds["library"], 2),
            "hf_cold": round(speeds["cold"] / speeds["library"], 2),
            "datatrove": round(speeds["stemma"] / speeds["datatrove"], 2),
            "datatrove_64": round(speeds["stemma"] / speeds["datatrove_64"], 2),
        },
        identical=identical and same,
        mtok_s={name: round(speed, 2) for name, speed in speeds.items()},
        documents=len(texts),
        tokens=len(ids),
        units=len(encode.table.offsets) - 1,
        mb=round(sum(len(text.encode()) for text in texts) / 1e6, 2),
        versions={**versions("tokenizers", "numba", "pyarrow"), **{f"peer {k}": v for k, v in peer_versions.items()}},
    )
    if not (identical and same):
        raise SystemExit("the ids are not the same.")


if __name__ == "__main__":
    main()
