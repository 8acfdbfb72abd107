"""Everything that training reads, as small artifacts: documents, vocabulary, shards and a mixture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.order import order_key, permute
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store
from pipelines.shard_reader import ShardReader

SPECIALS = {"<|endoftext|>": 0, "<|pad|>": 1, "<|user|>": 2, "<|assistant|>": 3}
THINGS = ["column", "frame", "buffer", "index", "token", "schema", "shard", "table"]
ACTS = ["Return", "Sort", "Count", "Merge", "Drop", "Read"]
ENDS = ["of the query", "in place", "by name", "from disk", "with care", "in order"]


class Given(Recipe):
    """Stands for whatever made the input of a test."""


def doc_id(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def docstrings(count: int, flavour: str, first: int = 0) -> list[str]:
    """Texts with a summary line and a body, the same on every call; flavours differ in some words."""
    texts = []
    for number in range(first, first + count):
        a, b, c, d = (order_key(flavour, number, place) for place in range(4))
        act, thing, end = ACTS[a % 6], THINGS[b % 8], ENDS[c % 6]
        body = f"The {flavour} {thing} number {d % 97} is {act.lower()}ed {end}, then the next {thing} follows it."
        texts.append(f"{act} the {thing} {end}.\n\n{body}")
    return texts


class World:
    """A store with what a run is made from.

    Args:
        root: of the store.
        train: texts by part.
        heldout: texts by part.
    """

    def __init__(self, root: Path, train: Mapping[str, Sequence[str]], heldout: Mapping[str, Sequence[str]],
                 vocab_size: int = 320) -> None:  # fmt: skip
        self.store = Store(root)
        self.train, self.heldout = train, heldout
        self.vocabulary = self.made("vocabulary", "small", [], lambda draft: _vocabulary(draft, train, vocab_size))
        documents = [self.documents("training_documents", train), self.documents("heldout_documents", heldout)]
        self.token_shards = self.shards("token_shards", documents[0])
        self.heldout_shards = self.shards("heldout_shards", documents[1])

    def made(self, asset: str, partition: str, inputs: list[Artifact], make: Callable[[Draft], Artifact]) -> Artifact:
        return build(self.store, Key(asset, partition), "1", Given(), inputs, make).artifact

    def documents(self, asset: str, texts: Mapping[str, Sequence[str]]) -> Artifact:
        def make(draft: Draft) -> Artifact:
            parts = [
                draft.part(name, Given(), [], lambda d, t=t: _documents(d, t)) for name, t in sorted(texts.items())
            ]
            return draft.seal(parts=parts)

        return self.made(asset, "small", [], make)

    def shards(self, asset: str, documents: Artifact) -> Artifact:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.vocabulary.local("tokenizer.json")))

        def make(draft: Draft) -> Artifact:
            parts = [
                draft.part(part.key.part, Given(), [part], lambda d, part=part: _shards(d, part, tokenizer))
                for part in documents.parts()
            ]
            counts = {name: sum(part.counts[name] for part in parts) for name in ("docs", "tokens")}
            return draft.seal(parts=parts, counts=counts, facts={"vocabulary": self.vocabulary.content})

        return self.made(asset, "small", [documents, self.vocabulary], make)

    def mixture(self, name: str = "run", length: int = 32, batch: int = 8, steps: int = 12) -> Artifact:
        readers = {part.key.part: ShardReader.open(part) for part in self.token_shards.parts()}
        sizes = {part: reader.num_sequences(length) for part, reader in readers.items()}
        slots = [batch * steps * size // sum(sizes.values()) for size in sizes.values()]
        slots[0] += batch * steps - sum(slots)
        plan = Plan(
            seed=7, sequence_length=length, phases=[PlanPhase(slots=slots)],
            parts=[PlanPart(name=part, num_sequences=size) for part, size in sizes.items()],
            segments=[Segment(first_step=1, first_slot=0, batch_size=batch)],
        )  # fmt: skip

        def make(draft: Draft) -> Artifact:
            draft.write_json("plan.json", plan.model_dump(mode="json"))
            return draft.seal()

        return self.made("mixture", name, [self.token_shards, self.heldout_shards, self.vocabulary], make)


def small_world(root: Path) -> World:
    """Two sources of 200 short docstrings and 20 held-out ones each."""
    flavours = {"docs.alpha/1.0": "alpha", "docs.beta/2.1": "beta"}
    train = {part: docstrings(200, flavour) for part, flavour in flavours.items()}
    return World(root, train, {part: docstrings(20, flavour, first=1000) for part, flavour in flavours.items()})


def _vocabulary(draft: Draft, texts: Mapping[str, Sequence[str]], size: int) -> Artifact:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(name, special=True) for name in SPECIALS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((text for part in sorted(texts) for text in texts[part]), trainer)
    tokenizer.save(str(draft.path("tokenizer.json")))
    facts = {"size": tokenizer.get_vocab_size(), "eos_id": 0, "eos_token": "<|endoftext|>", "specials": SPECIALS}
    return draft.seal(facts=facts)


def _documents(draft: Draft, texts: Sequence[str]) -> Artifact:
    rows = sorted({doc_id(text): text for text in texts}.items())
    ids = pa.array([each for each, _ in rows], pa.binary(16))
    sizes = [len(text.encode()) for _, text in rows]
    draft.write("documents.arrow", pa.table({"doc_id": ids, "num_bytes": pa.array(sizes, pa.int64())}))
    draft.write("texts.arrow", pa.table({"doc_id": ids, "text": pa.array([t for _, t in rows], pa.large_string())}))
    draft.write(fates.FILE, fates.all_kept(ids))
    return draft.seal(counts=fates.counted(fates.all_kept(ids)))


def _shards(draft: Draft, documents: Artifact, tokenizer) -> Artifact:
    ids = documents.table("documents.arrow")["doc_id"]
    texts = documents.table("texts.arrow")["text"].to_pylist()
    tokens = [[*e.ids, 0] for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    lists = pa.array(tokens, pa.large_list(pa.uint16()))
    table = pa.table({"doc_id": ids, "tokens": lists})
    half = max(1, table.num_rows // 2)
    draft.write("shard-00000.arrow", table.slice(0, half))
    if table.num_rows > half:
        draft.write("shard-00001.arrow", table.slice(half))
    if draft.key.asset == "heldout_shards":
        sizes = documents.table("documents.arrow")["num_bytes"]
        # overlaps 0.0, 0.1, …, 0.9 over and over, in the order of the documents
        overlaps = permute(range(table.num_rows), table.num_rows, 1) % 10 / 10
        draft.write("documents.arrow", pa.table({"doc_id": ids, "num_bytes": sizes, "overlap": pa.array(overlaps)}))
    return draft.seal(counts={"docs": table.num_rows, "tokens": sum(map(len, tokens))}, facts={"licence": "MIT"})
