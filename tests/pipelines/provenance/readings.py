"""A run on paper: documents whose tokens are written in the test, their shards, a plan, and the model that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store
from pipelines.provenance.trace import Tracer

DOCUMENTS = pa.schema([("doc_id", pa.binary(16)), ("uri", pa.string()), ("licence", pa.string())])
TEXTS = pa.schema([("doc_id", pa.binary(16)), ("text", pa.large_string())])
SHARDS = pa.schema([("doc_id", pa.binary(16)), ("tokens", pa.large_list(pa.uint16()))])


class Chosen(Recipe):
    """Tells one artifact of a test from the next."""

    mark: str = ""


class Written(NamedTuple):
    """A document as a source wrote it, and as a vocabulary reads it. Ids are names: they sort as one reads them."""

    name: str
    text: str
    tokens: Sequence[int] = (1, 2, 0)

    @property
    def doc_id(self) -> bytes:
        return self.name.encode().ljust(16, b"\0")


def made(store: Store, key: Key, inputs: Sequence[Artifact], make, mark: str = "") -> Artifact:
    return build(store, key, "1", Chosen(mark=mark), list(inputs), make).artifact


def raw(store: Store, source: str, documents: Sequence[Written], gone: Mapping[str, str] = {}) -> Artifact:
    """``gone``: by the name of a document that has no text, what was wrong with it."""

    def make(draft: Draft) -> Artifact:
        _write_documents(draft, documents)
        rows = fates.FateRows()
        for document in documents:
            rows.add(document.doc_id, fates.KEPT)
        for name, reason in gone.items():
            rows.add(Written(name, "").doc_id, fates.QUARANTINED, reason)
        draft.write(fates.FILE, rows.table())
        return draft.seal(counts={"docs": len(documents)})

    return made(store, Key("raw_documents", source), [], make, repr((documents, sorted(gone.items()))))


def clean(store: Store, made_from: Artifact, documents: Sequence[Written]) -> Artifact:
    """The given texts in the place of the raw ones; what is not given was dropped."""

    def make(draft: Draft) -> Artifact:
        _write_documents(draft, documents)
        kept = {document.doc_id for document in documents}
        rows = fates.FateRows()
        for doc_id in made_from.table("documents.arrow")["doc_id"].to_pylist():
            rows.add(doc_id, *([fates.KEPT] if doc_id in kept else [fates.DROPPED, "too_short", 3.0]))
        draft.write(fates.FILE, rows.table())
        return draft.seal(counts={"docs": len(documents)})

    return made(store, Key("clean_documents", made_from.key.partition), [made_from], make, repr(documents))


def training(store: Store, cleans: Sequence[Artifact], name: str = "mine") -> Artifact:
    """Every clean document, a part for each source, sorted by doc_id."""

    def part(source: Artifact, draft: Draft) -> Artifact:
        for file in ("documents.arrow", "texts.arrow"):
            draft.write(file, source.table(file).sort_by("doc_id"))
        draft.write(fates.FILE, fates.all_kept(source.table("documents.arrow").sort_by("doc_id")["doc_id"]))
        return draft.seal()

    def make(draft: Draft) -> Artifact:
        parts = [draft.part(c.key.partition, Chosen(), [c], lambda d, c=c: part(c, d)) for c in cleans]
        return draft.seal(parts=parts)

    return made(store, Key("training_documents", name), cleans, make)


def shards(store: Store, documents: Artifact, tokens: Mapping[bytes, Sequence[int]], cuts: int = 1) -> Artifact:
    """``cuts``: the number of files into which the rows of a part are dealt, one after another."""

    def part(source: Artifact, draft: Draft) -> Artifact:
        ids = source.table("documents.arrow")["doc_id"].to_pylist()
        for number in range(cuts):
            here = ids[len(ids) * number // cuts : len(ids) * (number + 1) // cuts]
            columns = [pa.array(here, pa.binary(16)), pa.array([list(tokens[i]) for i in here], SHARDS.types[1])]
            draft.write(f"shard-{number:05d}.arrow", pa.table(columns, schema=SHARDS))
        return draft.seal(counts={"tokens": sum(len(tokens[i]) for i in ids)})

    def make(draft: Draft) -> Artifact:
        return draft.seal(
            parts=[draft.part(p.key.part, Chosen(), [p], lambda d, p=p: part(p, d)) for p in documents.parts()]
        )

    return made(store, Key("token_shards", documents.key.partition), [documents], make, repr(sorted(tokens.items())))


def plan_of(
    tokens: Mapping[str, int], length: int, slots: Sequence[Sequence[int]], segments: Sequence[tuple[int, int, int]]
) -> Plan:
    """``tokens``: how many each part has; parts that are too short for one sequence must not be named."""
    return Plan(
        seed=3,
        sequence_length=length,
        parts=[PlanPart(name=name, num_sequences=(number - 1) // length) for name, number in tokens.items()],
        phases=[PlanPhase(slots=list(phase)) for phase in slots],
        segments=[Segment(first_step=a, first_slot=b, batch_size=c) for a, b, c in segments],
    )


def mixture(token_shards: Artifact, plan: Plan, name: str = "run") -> Artifact:
    def make(draft: Draft) -> Artifact:
        draft.write_json("plan.json", plan.model_dump(mode="json"))
        return draft.seal(facts={"plan": plan.digest})

    return made(token_shards.store, Key("mixture", name), [token_shards], make, plan.digest)


def model(mixed: Artifact, step: int, milestones: Sequence[int] = ()) -> Artifact:
    """A checkpoint of the mixture's name, with parts for earlier steps."""

    def milestone(draft: Draft, at: int) -> Artifact:
        draft.path("model.safetensors").write_bytes(b"weights at step %d" % at)
        return draft.seal(facts={"step": at})

    def make(draft: Draft) -> Artifact:
        draft.path("model.safetensors").write_bytes(b"weights at step %d" % step)
        parts = [
            draft.part(f"step-{at:08d}", Chosen(), [mixed], lambda d, at=at: milestone(d, at)) for at in milestones
        ]
        return draft.seal(facts={"step": step}, parts=parts)

    return made(mixed.store, Key("pretrained_model", mixed.key.partition), [mixed], make, f"{step} {milestones}")


def finetuned(base: Artifact, name: str, asset: str = "finetuned_model") -> Artifact:
    def make(draft: Draft) -> Artifact:
        draft.path("model.safetensors").write_bytes(b"tuned " + name.encode())
        return draft.seal(facts={"step": 1})

    return made(base.store, Key(asset, name), [base], make)


def trained(
    store: Store, sources: Mapping[str, Sequence[Written]], length: int, slots: Sequence[Sequence[int]],
    segments: Sequence[tuple[int, int, int]] = ((1, 0, 1),), cuts: int = 1,
) -> Tracer:  # fmt: skip
    """Everything from the sources to a model that has read the whole plan."""
    cleans = [clean(store, raw(store, name, documents), documents) for name, documents in sources.items()]
    tokens = {d.doc_id: d.tokens for documents in sources.values() for d in documents}
    numbers = {name: sum(len(d.tokens) for d in documents) for name, documents in sources.items()}
    plan = plan_of({n: t for n, t in numbers.items() if t > length}, length, slots, segments)
    mixed = mixture(shards(store, training(store, cleans), tokens, cuts), plan)
    return Tracer(model(mixed, plan.num_steps))


def _write_documents(draft: Draft, documents: Sequence[Written]) -> None:
    ids = [document.doc_id for document in documents]
    rows = [[f"test:{d.name}" for d in documents], ["MIT" for _ in documents]]
    draft.write("documents.arrow", pa.table([pa.array(ids, pa.binary(16)), *rows], schema=DOCUMENTS))
    texts = pa.array([document.text for document in documents], pa.large_string())
    draft.write("texts.arrow", pa.table([pa.array(ids, pa.binary(16)), texts], schema=TEXTS))
