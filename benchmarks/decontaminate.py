"""Looking for benchmark items in documents: speed, what noise hides, what is found that is not there, and datatrove.

- speed: processor seconds of one thread for texts in memory against GSM8K, MMLU, ARC-Easy and PIQA;
- recall: each item stands once in a page of prose, its case, its punctuation, its line breaks or all three changed;
  found is what the default recipe would act on. ``joined`` deletes punctuation inside words too ("dont", "35").
  ``labelled`` sets "Question:" and "Answer:" before them;
- planted: the items that stand in the planted corpus of the shared data, against its list;
- false items: items of which 0.8 is shown by books, plays and speeches that are older than all of them;
- agreement: on words of letters that spaCy leaves whole the two rules coincide (any 12-gram of question and answer);
  there every document must be decided alike.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from benchmarks.peer import Peer, python_with
from benchmarks.report import report, versions
from pipelines.decontaminate import DecontaminateRecipe
from pipelines.item_index import ItemIndex
from pipelines.overlap import Check, Matcher, OverlapIndex, matches_of

CHECKOUT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("STEMMA_SHARED_DATA", CHECKOUT.parent / "shared" / "data"))
PEER = ("datatrove==0.10.1", "spacy==3.8.18", "nltk==3.10.4", "xxhash==3.8.2")
PAGE_WORDS = 120  # of prose around an item
FALSE_COVERAGE = 0.8
SEAM = "\x1f"  # between question and answer
MARKS = [*",;:.!?-()", "\u2014", "\u2026", "\u201c", "\u201d", "\u2019"]  # and dash, ellipsis, curly quotes
Item = tuple[str, int, str, str]  # task, row, question, right answer


def lines_of(path: str) -> Iterator[dict[str, Any]]:
    codec = {".gz": "gzip", ".zst": "zstd"}.get(Path(path).suffix)
    with pa.OSFile(str(DATA / path)) as file:
        stream = pa.CompressedInputStream(file, codec) if codec else file
        yield from map(json.loads, io.TextIOWrapper(io.BytesIO(stream.read()), encoding="utf-8"))


def benchmark_items() -> Iterator[Item]:
    for number, row in enumerate(lines_of("benchmarks/arc_easy/test.jsonl")):
        choices = row["choices"]
        yield "arc_easy", number, row["question"], choices["text"][choices["label"].index(row["answerKey"])]
    for number, row in enumerate(lines_of("benchmarks/piqa/validation.jsonl")):
        yield "piqa", number, row["goal"], row["sol1"]
    for number, row in enumerate(lines_of("labelled/decontamination/gsm8k_test-1.jsonl.gz")):
        yield "gsm8k", number, row["question"], ""  # the planted corpus holds questions alone
    for number, row in enumerate(lines_of("labelled/decontamination/mmlu_validation-1.jsonl.gz")):
        if row["is_correct"]:
            yield "mmlu", number, row["question"], row["answer"]


def old_prose() -> list[str]:
    """Texts that are older than every benchmark."""
    books = [row["text"] for row in lines_of("corpora/books/books.jsonl.zst")]
    plays = (DATA / "corpora/tinyshakespeare/input.txt").read_text(encoding="utf-8")
    speeches = pl.read_parquet(DATA / "corpora/speeches/speeches.parquet")["text"].to_list()
    return [*books, plays, *speeches]


# -- noise -----------------------------------------------------------------------------------------------------


def case(text: str, rng: random.Random) -> str:
    return rng.choice([str.upper, str.lower, str.title, str.swapcase])(text)


def punctuation(text: str, rng: random.Random) -> str:
    """Marks at the edges of words go, come and are replaced by others; words stay."""
    words = [re.sub(r"^[^\w\s]+|[^\w\s]+$", "", word) or word for word in text.split(" ")]
    return " ".join(word + (rng.choice(MARKS) if rng.random() < 0.3 else "") for word in words)


def line_breaks(text: str, rng: random.Random) -> str:
    return re.sub(r"\s+", lambda _: rng.choice(["\n", "\r\n", " \n  ", "\n\n", "\t", "\u00a0", "  ", " "]), text)


def together(text: str, rng: random.Random) -> str:
    return line_breaks(punctuation(case(text, rng), rng), rng)


def joined(text: str, rng: random.Random) -> str:
    del rng
    return re.sub(r"[^\w\s]", "", text)


def labelled(text: str, rng: random.Random) -> str:
    """Question and answer (kept apart by SEAM) as a set of questions and answers writes them."""
    del rng
    question, _, answer = text.partition(SEAM)
    return f"\n\nQuestion: {question}\nAnswer: {answer}\n\n" if answer else question


NOISES: dict[str, Callable[[str, random.Random], str]] = {
    f.__name__: f for f in (case, punctuation, line_breaks, together, labelled, joined)
}


def pages(items: list[str], noise: Callable[[str, random.Random], str], prose: list[str]) -> list[str]:
    """One page of prose for each item, with the item in the middle."""
    rng, found = random.Random(noise.__name__), []
    for item in items:
        begin = rng.randrange(len(prose) - PAGE_WORDS)
        page = prose[begin : begin + PAGE_WORDS]
        half = rng.randrange(PAGE_WORDS)
        shown = noise(item, rng) if noise is labelled else noise(item.replace(SEAM, " "), rng)
        found.append(" ".join([*page[:half], shown, *page[half:]]))
    return found


# -- measuring -------------------------------------------------------------------------------------------------


def index_of(pairs: list[tuple[str, str]]) -> ItemIndex:
    """As the default recipe makes it of questions and answers."""
    recipe = DecontaminateRecipe()
    sizes = recipe.ngram, recipe.floor, recipe.phrase_floor
    questions, answers = [f"{question} " for question, _ in pairs], [answer for _, answer in pairs]
    return ItemIndex(questions, answers, sizes, recipe.unspaced)


def column(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.large_string())])


def found(index: Matcher, texts: list[str], coverage: float) -> list[tuple[int, int]]:
    """(document, item) with at least this coverage."""
    return [
        (int(d), int(i))
        for match in matches_of(index, column(texts))
        for d, i, share in zip(match.documents, match.items, match.coverage, strict=True)
        if share >= coverage
    ]


def recalled(index: ItemIndex, items: list[str], prose: list[str]) -> dict[str, float]:
    """By kind of noise the share of checkable items that are found in their own page."""
    checkable = [i for i, check in enumerate(index.checks) if check != Check.NO]
    limit = DecontaminateRecipe().coverage
    shares = {}
    for name, noise in NOISES.items():
        hits = found(index, pages([items[i] for i in checkable], noise, prose), limit)
        own = {page for page, item in hits if items[item] == items[checkable[page]]}
        shares[name] = len(own) / len(checkable)
    return shares


def planted_found(index: Matcher, items: list[Item], texts: list[str], ids: list[str]) -> dict[str, int]:
    """Of the planted items of the shared data: how many are found, and what else is."""
    rows = {(t["doc"], t["task"], t["row"]) for t in lines_of("corpora/planted/truth/contamination.jsonl")}
    hits = {
        (ids[d], items[i][0], items[i][1])
        for d, i in found(index, texts, DecontaminateRecipe().coverage)
        if items[i][0] != "mmlu"
    }
    return {"planted": len(rows), "found": len(rows & hits), "others": len(hits - rows)}


def seconds(call: Callable[[], Any], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return min(taken)


# -- the peer --------------------------------------------------------------------------------------------------


def asked(peer: Peer, ask: str, given: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.json"
        path.write_text(json.dumps(given), encoding="utf-8")
        return peer.ask(ask=ask, path=str(path))


def plain(texts: list[str]) -> list[list[str]]:
    """Words of small letters: what case, punctuation and numbers could change is gone."""
    return [re.findall(r"[a-z]+", text.lower()) for text in texts]


def coinciding(peer: Peer, items: list[Item], texts: list[str]) -> dict[str, Any]:
    """Both sides on words that they cut alike: who shows any 12-gram of question and answer."""
    said = plain([*texts, *(item[2] for item in items), *(item[3] for item in items)])
    words = sorted({word for text in said for word in text})
    whole = dict(zip(words, asked(peer, "single", words)["single"], strict=True))
    kept = [" ".join(word for word in text if whole[word]) for text in said]
    documents, n = kept[: len(texts)], len(items)
    pairs = list(zip(kept[-2 * n : -n], kept[-n:], strict=True))
    theirs = asked(peer, "scan", {"items": pairs, "texts": documents})
    index = OverlapIndex(pa.array([" ".join(pair) for pair in pairs], pa.large_string()), 12, 12, 12)
    hits = {document for document, _ in found(index, documents, 1e-9)}
    ours = seconds(lambda: list(matches_of(index, column(documents))), 3)
    alike = sum((d in hits) == theirs["hit"][d] for d in range(len(documents)))
    return {
        "documents": len(documents),
        "alike": alike,
        "hit": len(hits),
        "mb": sum(map(len, documents)) / 1e6,
        "seconds": ours,
        "datatrove_seconds": theirs["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the documents for the peer, fewer rounds")
    quick = parser.parse_args().quick
    items = list(benchmark_items())
    texts = [question + SEAM + answer for _, _, question, answer in items]
    index = index_of([(question, answer) for _, _, question, answer in items])
    planted = list(lines_of("corpora/planted/documents.jsonl.zst"))
    corpus, prose = [row["text"] for row in planted], old_prose()
    found(index, corpus[:50], 1.0)  # compiled
    num_bytes = sum(len(text.encode()) for text in corpus + prose)
    everything = column(corpus + prose)
    scan = seconds(lambda: list(matches_of(index, everything)), 3 if quick else 9)
    mb_s = num_bytes / 1e6 / scan
    recall = recalled(index, texts, " ".join(prose[:3]).split())
    truth = planted_found(index, items, corpus, [row["id"] for row in planted])
    false_items = sorted({i for _, i in found(index, prose, FALSE_COVERAGE)})
    with Peer(python_with("datatrove-decont", *PEER), CHECKOUT / "benchmarks" / "decontaminate_peer.py") as peer:
        installed = peer.ask(ask="versions")
        beside = coinciding(peer, items, corpus[:: 5 if quick else 1])
    promised = [recall[name] for name in NOISES]
    ratio = beside["datatrove_seconds"] / beside["seconds"]
    report(
        "decontaminate",
        [
            ["scan of one core", f"{mb_s:.0f} MB/s", f"{num_bytes / 1e6:.1f} MB, {len(items)} items", ">= 100"],
            *([f"recall, {n}", f"{v:.4f}", f"{len(items) - index.checks.count(Check.NO)} items", ">= 0.998"]
              for n, v in recall.items()),
            ["planted items found", truth["found"], f"of {truth['planted']}, {truth['others']} others", "all"],
            ["items not checkable", index.checks.count(Check.NO), f"of {len(items)}", ""],
            ["false items", len(false_items), f"{sum(map(len, prose)) / 1e6:.1f} MB of old prose", "0"],
            ["decisions equal to datatrove's", beside["alike"], f"of {beside['documents']}, {beside['hit']} hit", "all"],
            ["times datatrove", f"{ratio:.0f}", f"{beside['mb'] / beside['datatrove_seconds']:.2f} MB/s", ""],
        ],
        ("", "found", "of what", "wanted"),
        mb_s=round(mb_s, 1),
        recall=min(promised),
        recalls=recall,
        false_items=len(false_items),
        false_item_names=["/".join(map(str, items[i][:2])) for i in false_items],
        planted=truth,
        agreement=beside["alike"] / beside["documents"],
        ratios={"datatrove": round(ratio, 1)},
        items=len(items),
        mb=round(num_bytes / 1e6, 1),
        versions=versions("numba", "pyarrow") | installed,
    )  # fmt: skip


if __name__ == "__main__":
    main()
