"""datatrove on a folder of WARC files, in an environment of its own: one JSON question a line, one answer a line.

Run by ``benchmarks/extraction.py``; imports nothing of Stemma.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from importlib import metadata
from pathlib import Path


def extracted(folder: str, **options):
    """Documents of a folder as datatrove's pipeline makes them, after FineWeb's filters."""
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.readers import WarcReader

    documents = WarcReader(folder, glob_pattern="*.warc.gz").run(rank=0, world_size=1)
    documents = Trafilatura(favour_precision=True, **options).run(documents, rank=0, world_size=1)
    for step in fineweb():
        documents = step.run(documents, rank=0, world_size=1)
    return documents


def fineweb():
    """The filters of FineWeb's published pipeline, without the URL lists and the language model that need a network."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return [
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ]


def answer(question: dict) -> dict:
    if question["ask"] == "versions":
        return {name: metadata.version(name) for name in ("datatrove", "trafilatura", "warcio")}
    if question["ask"] == "pages":  # quality: every page with datatrove's own defaults, its de-duplication included
        from datatrove.pipeline.extractors import Trafilatura

        extractor = Trafilatura()
        pages = [gzip.decompress(Path(p).read_bytes()).decode("utf-8", "replace") for p in question["paths"]]
        return {"texts": [extractor.extract(page) or "" for page in pages]}
    # the pages of the timed run are repeated, and trafilatura's memory of paragraphs would empty the repetitions
    started = time.perf_counter()
    texts = [d.text for d in extracted(question["folder"], deduplicate=False)]
    return {"seconds": time.perf_counter() - started, "documents": len(texts), "chars": sum(map(len, texts))}


if __name__ == "__main__":
    replies, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        replies.write(json.dumps(answer(json.loads(line))) + "\n")
        replies.flush()
