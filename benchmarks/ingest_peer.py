"""datatrove reading a file and writing its own JSON lines: one JSON question a line, one answer a line.

Run by ``benchmarks/ingest.py`` in an environment of its own; imports nothing of Stemma.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata


def copied(folder: str, pattern: str, out: str) -> dict:
    """Documents, characters and processor seconds of a file that is read and written again."""
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.writers import JsonlWriter

    reader = ParquetReader if pattern.endswith(".parquet") else JsonlReader
    started, documents, chars = time.process_time(), 0, 0
    read = reader(folder, glob_pattern=pattern).run(rank=0, world_size=1)
    for document in JsonlWriter(out, compression=None).run(read, rank=0, world_size=1):
        documents += 1
        chars += len(document.text)
    return {"seconds": time.process_time() - started, "documents": documents, "chars": chars}


def answer(question: dict) -> dict:
    if question["ask"] == "versions":
        return {name: metadata.version(name) for name in ("datatrove", "orjson", "pyarrow")}
    return copied(question["folder"], question["pattern"], question["out"])


if __name__ == "__main__":
    replies, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        replies.write(json.dumps(answer(json.loads(line))) + "\n")
        replies.flush()
