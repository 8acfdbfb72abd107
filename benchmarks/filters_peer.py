"""datatrove's four FineWeb filters on a file of texts, in an environment of its own: a question a line, an answer a line.

Run by ``benchmarks/filters.py``; imports nothing of Stemma.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from importlib import metadata
from pathlib import Path


def filters():
    """In the order of FineWeb's published pipeline and with its arguments."""
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


def decided(texts: list[str]) -> list[list]:
    """For each text [family, reason, ""] of its first broken rule, or [-1, "", digest of the text that is left]."""
    from datatrove.data import Document

    families, decisions = filters(), []
    for text in texts:
        document = Document(text=text, id="")
        decision = None
        for family, step in enumerate(families):
            answer = step.filter(document)
            if isinstance(answer, tuple):
                answer, reason = answer
            if not answer:
                decision = [family, reason, ""]
                break
        decisions.append(decision or [-1, "", hashlib.sha256(document.text.encode()).hexdigest()])
    return decisions


def answer(question: dict) -> dict:
    if question["ask"] == "versions":
        return {name: metadata.version(name) for name in ("datatrove", "spacy")}
    texts = json.loads(Path(question["path"]).read_text(encoding="utf-8"))
    decided(["A first text loads spaCy, outside the clock. " * 20])
    started = time.process_time()
    decisions = decided(texts)
    return {"seconds": time.process_time() - started, "decisions": decisions}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
