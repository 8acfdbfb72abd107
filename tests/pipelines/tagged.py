"""A corpus on paper whose documents have a licence, a language, a number of words and a score, and whose tokens tell
where they stand: token = 1,000 · (number of the document + 1) + place in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from pipelines import mixture
from pipelines.mixture import MixtureRecipe, mix
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store

PAD = 1
SPECIALS = {"<|endoftext|>": 0, "<|pad|>": PAD, "<|user|>": 2, "<|assistant|>": 3}
DOCUMENTS = pa.schema([
    ("doc_id", pa.binary(16)), ("uri", pa.string()), ("file", pa.string()), ("licence", pa.string()), ("language", pa.string()),
    ("num_words", pa.int64()),
])  # fmt: skip
SIGNALS = pa.schema([("doc_id", pa.binary(16)), ("score", pa.float32()), ("listed", pa.bool_())])


class Given(Recipe):
    """Tells one artifact of a test from the next."""

    mark: str = ""


class Doc(NamedTuple):
    name: str
    size: int
    language: str | None = "en"
    licence: str = "MIT"
    words: int = 10
    score: float | None = 0.5

    @property
    def doc_id(self) -> bytes:
        return self.name.encode().ljust(16, b"\0")


class Tagged(NamedTuple):
    """Everything that a mixture is made from."""

    store: Store
    sources: Mapping[str, Sequence[Doc]]
    token_shards: Artifact
    heldout_shards: Artifact
    vocabulary: Artifact

    def mixture(self, **recipe) -> Artifact:
        chosen = MixtureRecipe(**{"sequence_length": 8, "batch_size": 2, "steps": 10, **recipe})
        inputs = [self.token_shards, self.heldout_shards, self.vocabulary]
        key = Key("mixture", "run")
        return build(
            self.store, key, mixture.VERSION, chosen, inputs, lambda d: mix(inputs[0], inputs[1], inputs[2], chosen, d), force=True
        ).artifact  # fmt: skip

    def model(self, mixed: Artifact) -> Artifact:
        return build(
            self.store, Key("pretrained_model", "run"), "1", Given(mark=mixed.digest), [mixed], lambda d: d.seal()
        ).artifact  # fmt: skip

    def tokens(self) -> dict[str, list[int]]:
        """The stream of each part, as a plain list."""
        numbers = {d.doc_id: n for n, d in enumerate(self.documents())}
        return {
            name: [1000 * (numbers[d.doc_id] + 1) + place for d in sorted(docs) for place in range(d.size)]
            for name, docs in self.sources.items()
        }

    def documents(self) -> list[Doc]:
        return [d for docs in self.sources.values() for d in docs]


def tagged(
    store: Store, sources: Mapping[str, Sequence[Doc]], *, kind: pa.DataType | None = None, cuts: int = 1
) -> Tagged:
    mark = repr(sorted((name, list(docs)) for name, docs in sources.items()))
    kind = kind or pa.uint32()

    def made(asset: str, partition: str, inputs: Sequence[Artifact], make) -> Artifact:
        return build(store, Key(asset, partition), "1", Given(mark=f"{mark} {cuts}"), list(inputs), make).artifact

    vocabulary = made("vocabulary", "v", [], lambda d: d.seal(facts={"eos_id": 0, "size": 320, "specials": SPECIALS}))
    cleans = [made("clean_documents", name, [], lambda d, docs=docs: _clean(d, docs)) for name, docs in sources.items()]
    training = made("training_documents", "mine", cleans, lambda d: _parts(d, sources, cleans, _documents))
    facts = {"vocabulary": vocabulary.content}
    shown = Tagged(store, sources, training, training, vocabulary).tokens()

    def shards(draft: Draft) -> Artifact:
        return _parts(draft, sources, training.parts(), lambda d, docs: _shards(d, docs, shown, kind, cuts), facts)

    heldout = made("heldout_shards", "mine", [vocabulary], lambda d: d.seal(facts=facts))
    return Tagged(store, sources, made("token_shards", "mine", [training, vocabulary], shards), heldout, vocabulary)


def _parts(draft: Draft, sources, inputs: Sequence[Artifact], make, facts=None) -> Artifact:
    parts = [
        draft.part(name, Given(mark=repr(docs)), [i], lambda d, docs=docs: make(d, docs))
        for (name, docs), i in zip(sources.items(), inputs, strict=True)
    ]
    counts = {n: sum(p.counts.get(n, 0) for p in parts) for n in ("docs", "tokens")}
    return draft.seal(parts=parts, facts=facts, counts=counts)


def _clean(draft: Draft, docs: Sequence[Doc]) -> Artifact:
    rows = [{"doc_id": d.doc_id, "score": d.score, "listed": d.words > 10} for d in reversed(docs)]
    rows.append({"doc_id": b"dropped long ago", "score": 0.9, "listed": True})
    draft.write("signals.arrow", pa.Table.from_pylist(rows, schema=SIGNALS))
    return draft.seal()


def _documents(draft: Draft, docs: Sequence[Doc]) -> Artifact:
    rows = [
        {
            "doc_id": d.doc_id,
            "uri": d.name,
            "file": "f",
            "licence": d.licence,
            "language": d.language,
            "num_words": d.words,
        }
        for d in sorted(docs)
    ]
    draft.write("documents.arrow", pa.Table.from_pylist(rows, schema=DOCUMENTS))
    return draft.seal(counts={"docs": len(docs)})


def _shards(draft: Draft, docs: Sequence[Doc], shown, kind: pa.DataType, cuts: int) -> Artifact:
    schema = pa.schema([("doc_id", pa.binary(16)), ("tokens", pa.large_list(kind))])
    (stream,) = [shown[name] for name in shown if name == draft.key.part]
    docs, rows, at = sorted(docs), [], 0
    for doc in docs:
        rows.append({"doc_id": doc.doc_id, "tokens": stream[at : at + doc.size]})
        at += doc.size
    for number in range(cuts):
        some = rows[len(rows) * number // cuts : len(rows) * (number + 1) // cuts]
        draft.write(f"shard-{number:05d}.arrow", pa.Table.from_pylist(some, schema=schema))
    licences = sorted({d.licence for d in docs})
    return draft.seal(counts={"docs": len(docs), "tokens": at}, facts={"licence": " AND ".join(licences)})
