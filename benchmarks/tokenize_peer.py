"""datatrove's DocumentTokenizer on texts in memory: one JSON question a line, one answer a line.

Run by ``benchmarks/tokenize.py`` in an environment of its own; imports nothing of Stemma.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path


def tokenized(folder: Path, batch_size: int) -> dict:
    """Processor seconds of tokens on disk, unshuffled, and the file that they are in."""
    from datatrove.data import Document
    from datatrove.pipeline.tokens import DocumentTokenizer

    out = folder / "peer"
    shutil.rmtree(out, ignore_errors=True)
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    tokenizer = str(folder / "tokenizer.json")
    step = DocumentTokenizer(
        str(out), tokenizer, eos_token="<|endoftext|>", shuffle_documents=False, batch_size=batch_size
    )
    step.tokenizer.encode_special_tokens = True  # as ours: a document cannot end itself
    started = time.process_time()
    step.run(iter(documents))
    seconds = time.process_time() - started
    return {"seconds": seconds, "file": str(next(iter(out.glob("*.ds"))))}


def answer(question: dict) -> dict:
    if question["ask"] == "versions":
        return {name: metadata.version(name) for name in ("datatrove", "tokenizers")}
    return tokenized(Path(question["folder"]), question["batch_size"])


if __name__ == "__main__":
    os.environ["RAYON_NUM_THREADS"], os.environ["TOKENIZERS_PARALLELISM"] = "1", "false"
    replies, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        replies.write(json.dumps(answer(json.loads(line))) + "\n")
        replies.flush()
