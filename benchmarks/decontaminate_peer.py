"""datatrove's n-gram decontamination on files of texts, in an environment of its own: a question and an answer a line.

Run by ``benchmarks/decontaminate.py``; imports nothing of Stemma. The index is made by datatrove's own indexer, whose
constructor asks for lighteval although only its ``run`` needs it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path


def parts():
    """Its indexer and its filter, over every 12-gram of question and answer."""
    from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
    from datatrove.utils.hashing import create_hash_func
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    config = NGramsDecontConfig(find_query_ngrams=True)
    indexer = object.__new__(NGramsDecontIndexer)
    indexer.config, indexer.hash_func = config, create_hash_func(config.hash_config)
    indexer.tokenizer = load_word_tokenizer("eng")
    return indexer, NGramsDecontFilter(tempfile.gettempdir(), config=config)


def scanned(items: list[list[str]], texts: list[str]) -> dict:
    """Whether each text shows a 12-gram of any item, and processor seconds of the scan without the index."""
    from datatrove.data import Document

    indexer, step = parts()
    step._index_hashes = {grams: "items" for query, label in items for grams in indexer.compute_hashes(label, query)}  # noqa: SLF001 (what load_index_hashes sets)
    documents = [Document(text=text, id="") for text in texts]
    started = time.process_time()
    hit = [step.filter(document) is not True for document in documents]
    return {"seconds": time.process_time() - started, "hit": hit}


def single(words: list[str]) -> list[bool]:
    """Which words its tokenizer leaves whole."""
    tokenizer = parts()[0].tokenizer
    return [len(tokenizer.word_tokenize(word)) == 1 for word in words]


def answer(question: dict) -> dict:
    if question["ask"] == "versions":
        return {name: metadata.version(name) for name in ("datatrove", "spacy")}
    given = json.loads(Path(question["path"]).read_text(encoding="utf-8"))
    return {"single": single(given)} if question["ask"] == "single" else scanned(**given)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
