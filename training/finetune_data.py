"""Examples for fine-tunes, with labels that the corpus gives for nothing.

classifier: a passage, and the source that it comes from (the part's name without its version).
summary: <|user|> body <|assistant|> first paragraph <|endoftext|>; only what follows <|assistant|> is learnt.

Training examples come from training documents, test examples from held-out ones, so that no test text was seen in
pretraining either. Documents come in the order of their ids, which are hashes: the first thousand are a fair sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.tables import read_batches
from training.recipes import FinetuneDataRecipe

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FINETUNE_DATA_VERSION = "1"
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|endoftext|>"
MIN_SUMMARY_WORDS = 3  # "Deprecated." or "See also." says nothing of the text


@dataclass(frozen=True)
class Candidate:
    """A document that could be an example."""

    doc_id: bytes
    source: str  # part name without version
    prompt: str
    reference: str  # the summary; empty for a passage


def make_finetuning_shards(
    training_documents: Artifact,
    heldout_documents: Artifact,
    vocabulary: Artifact,
    recipe: FinetuneDataRecipe,
    draft: Draft,
) -> Artifact:
    """Write ``train.arrow`` and ``test.arrow`` (doc_id, tokens, answer_start, label), ``test_texts.arrow`` and fates.

    Raises:
        ValueError: if no training or no test example is left, or only one class.
    """
    from pipelines.vocabulary import plain_tokenizer

    tokenizer = plain_tokenizer(vocabulary)  # <|assistant|> in a text is text and ends no prompt
    books = fates.FateRows()
    train = _candidates(training_documents, recipe, books, recipe.max_train)
    test = _candidates(heldout_documents, recipe, books, recipe.max_test)
    classes, left_out = _classes(train, recipe) if recipe.task == "classifier" else ([], {})
    train = _chosen(train, classes, recipe.max_train, books, fates.KEPT)
    test = _chosen(test, classes, recipe.max_test, books, fates.HELD_OUT)
    _check(train, test, classes, left_out, recipe)
    specials = vocabulary.facts["specials"]
    wide = pa.uint16() if int(vocabulary.facts["size"]) <= 2**16 else pa.uint32()
    for name, candidates in (("train.arrow", train), ("test.arrow", test)):
        draft.write(name, _table(candidates, classes, recipe, tokenizer, specials, wide))
    draft.write("test_texts.arrow", _texts(test))
    draft.write(fates.FILE, books.table())
    counts = fates.counted(books.table())
    fates.check_conservation(counts, _num_docs(training_documents) + _num_docs(heldout_documents))
    facts = {
        "task": recipe.task,
        "classes": classes,
        "class_weights": _class_weights(train, classes),
        "left_out": left_out,
        "vocabulary": vocabulary.digest,
    }
    return draft.seal(counts={**counts, "train": len(train), "test": len(test)}, facts=facts)


def source_of(part: str) -> str:
    """``pypi-docs.polars/2.1.0`` is a snapshot of the source ``pypi-docs.polars``."""
    return part.rsplit("/", 1)[0]


def summary_of(text: str, recipe: FinetuneDataRecipe) -> tuple[str, str] | None:
    """(body, summary) of a text that begins with one sentence in a paragraph of its own; None if it does not."""
    first, _, rest = text.strip().partition("\n\n")
    summary, body = " ".join(first.split()), rest.strip()
    fits = MIN_SUMMARY_WORDS <= len(summary.split()) <= recipe.max_summary_words
    return (body, summary) if fits and summary.endswith(".") and len(body.split()) >= recipe.min_words else None


def _candidates(documents: Artifact, recipe: FinetuneDataRecipe, books: fates.FateRows, enough: int) -> list[Candidate]:
    """Up to ``enough`` candidates of each part, in the order of the document ids."""
    found = []
    for part in sorted(documents.parts(), key=lambda part: part.key.part):
        if not part.names("texts.arrow"):
            continue
        source, before = source_of(part.key.part), len(found)
        for doc_id, text in _each_text(part):
            if len(found) - before == enough:
                books.add(doc_id, fates.DROPPED, "not_needed")
                continue
            pair = summary_of(text, recipe) if recipe.task == "summary" else (text.strip(), "")
            words = len(text.split())
            if pair is None:
                books.add(doc_id, fates.DROPPED, "no_summary")
            elif words < recipe.min_words:
                books.add(doc_id, fates.DROPPED, "too_short", float(words))
            else:
                found.append(Candidate(doc_id, source, *pair))
    return found


def _each_text(part: Artifact) -> Iterator[tuple[bytes, str]]:
    for batch in read_batches(part.local("texts.arrow")):
        yield from zip(batch["doc_id"].to_pylist(), batch["text"].to_pylist(), strict=True)


def _num_docs(documents: Artifact) -> int:
    parts = (part for part in documents.parts() if part.names("texts.arrow"))
    return sum(batch.num_rows for part in parts for batch in read_batches(part.local("texts.arrow"), ["doc_id"]))


def _classes(train: Sequence[Candidate], recipe: FinetuneDataRecipe) -> tuple[list[str], dict[str, int]]:
    """Sources with enough passages, by name; the others with how many they have."""
    sizes = Counter(candidate.source for candidate in train)
    kept = sorted(source for source, size in sizes.items() if size >= recipe.min_examples)
    return kept, {source: sizes[source] for source in sorted(sizes) if source not in kept}


def _chosen(
    candidates: list[Candidate], classes: list[str], enough: int, books: fates.FateRows, fate: str
) -> list[Candidate]:
    """The first ``enough`` of all parts together, in the order of the ids; every candidate gets its fate."""
    known = set(classes)
    found = []
    for candidate in sorted(candidates, key=lambda c: (c.doc_id, c.source)):
        if known and candidate.source not in known:
            books.add(candidate.doc_id, fates.DROPPED, "class_too_small")
        elif len(found) == enough:
            books.add(candidate.doc_id, fates.DROPPED, "not_needed")
        else:
            books.add(candidate.doc_id, fate)
            found.append(candidate)
    return found


def _check(
    train: Sequence[Candidate],
    test: Sequence[Candidate],
    classes: Sequence[str],
    left_out: dict[str, int],
    recipe: FinetuneDataRecipe,
) -> None:
    if recipe.task == "classifier" and len(classes) < 2:
        raise ValueError(
            f"a classifier needs two sources with at least {recipe.min_examples} passages, found "
            f"{', '.join(classes) or 'none'} (too small: {left_out or 'none'}). Lower min_examples or add sources."
        )
    if not train or not test:
        what = "passages" if recipe.task == "classifier" else "texts that begin with a summary sentence"
        raise ValueError(
            f"found {len(train)} training and {len(test)} test {what}; both are needed. Hold out a larger share of "
            f"the corpus, or lower min_words ({recipe.min_words})."
        )


def _class_weights(train: Sequence[Candidate], classes: Sequence[str]) -> list[float]:
    """N / (classes · size of the class): all classes weigh the same together, an example weighs 1 on average."""
    sizes = Counter(candidate.source for candidate in train)
    return [len(train) / (len(classes) * max(1, sizes[name])) for name in classes]


def _table(
    candidates: Sequence[Candidate],
    classes: Sequence[str],
    recipe: FinetuneDataRecipe,
    tokenizer: Tokenizer,
    specials: dict[str, int],
    wide: pa.DataType,
) -> pa.Table:
    prompts = tokenizer.encode_batch([c.prompt for c in candidates], add_special_tokens=False)
    answers = tokenizer.encode_batch([c.reference for c in candidates], add_special_tokens=False)
    rows: dict[str, list[Any]] = {"tokens": [], "answer_start": []}
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens, start = _tokens(prompt.ids, answer.ids, recipe, specials)
        rows["tokens"].append(tokens)
        rows["answer_start"].append(start)
    places = {name: index for index, name in enumerate(classes)}
    return pa.table({
        "doc_id": pa.array([c.doc_id for c in candidates], pa.binary(16)),
        "tokens": pa.array(rows["tokens"], pa.large_list(wide)),
        "answer_start": pa.array(rows["answer_start"], pa.int32()),
        "label": pa.array([places.get(c.source, -1) for c in candidates], pa.int32()),
    })  # fmt: skip


def _tokens(
    prompt: list[int], answer: list[int], recipe: FinetuneDataRecipe, specials: dict[str, int]
) -> tuple[list[int], int]:
    """Tokens of one example and where its answer starts; a passage has no answer and is read at its end of text."""
    if recipe.task == "classifier":
        tokens = [*prompt[: recipe.max_tokens - 1], specials[END]]
        return tokens, len(tokens)
    answer = answer[: recipe.max_tokens // 2]
    room = recipe.max_tokens - len(answer) - 3
    before = [specials[USER], *prompt[:room], specials[ASSISTANT]]
    return [*before, *answer, specials[END]], len(before)


def _texts(test: Sequence[Candidate]) -> pa.Table:
    return pa.table({
        "doc_id": pa.array([c.doc_id for c in test], pa.binary(16)),
        "prompt": pa.array([c.prompt for c in test], pa.large_string()),
        "reference": pa.array([c.reference or c.source for c in test], pa.large_string()),
    })  # fmt: skip
