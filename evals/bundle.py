"""The audit bundle: what an auditor needs to say which documents a step read, with neither our store nor the texts.

    bundle.json                 what this is about: key, digests and step of the checkpoint; counts of fates by stage
    plan.json                   the closed-form order of the run
    documents/<n>.arrow         of part n of the plan: doc_id, uri, file, licence, and its place in the token stream
    layouts/<n>.arrow           where a part of the plan does not read its documents as they lie: how it does
    parts.arrow                 name of every part, its file here, tokens and sequences
    manifests/<digest>.json     every manifest behind the checkpoint, canonical, named by its blake3

Texts and tokens stay behind. That the shards hold what the manifests say is proved where they lie (`verify`); the
bundle proves that manifests, order and index belong together.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.layouts import FILL, Layout
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.fates import FATES
from pipelines.provenance.files import StoreError
from pipelines.provenance.lineage import ancestor, ancestors
from pipelines.provenance.manifest import Manifest, ManifestError, file_entry
from pipelines.provenance.plan import Plan, PlanPart
from pipelines.provenance.recipe import Recipe, canonical_json, digest
from pipelines.provenance.tables import read_batches, read_table, write_batches

BUNDLE_VERSION = "1"

DOCUMENTS = pa.schema([
    ("doc_id", pa.binary(16)),
    ("uri", pa.string()),
    ("file", pa.string()),
    ("licence", pa.string()),
    ("start", pa.int64()),  # of its first token in the stream of the part
    ("length", pa.int64()),  # in tokens, end-of-text included
])  # fmt: skip
PARTS = pa.schema([("part", pa.string()), ("file", pa.string()), ("tokens", pa.int64()), ("sequences", pa.int64())])


class BundleRecipe(Recipe):
    """Nothing to choose yet: a bundle holds everything but texts and tokens."""


def audit_bundle(checkpoint: Artifact, recipe: BundleRecipe, draft: Draft) -> Artifact:
    """Gather everything behind a checkpoint that is not text.

    Args:
        checkpoint: a pretrained or finetuned model.
        recipe: what to gather.
        draft: of audit_bundle[checkpoint].
    """
    del recipe
    family = list(ancestors(checkpoint))
    for artifact in family:
        draft.path(f"manifests/{artifact.digest}.json").write_bytes(artifact.manifest.canonical())
    counts = {"manifests": len(family)}
    try:
        mixture = ancestor(checkpoint, "mixture")
    except StoreError:  # a model from elsewhere has no order of ours; its manifests are all there is to say
        mixture = None
    if mixture is not None:
        counts["documents"] = _write_order(mixture, draft)
    written = sorted(p.relative_to(draft.directory).as_posix() for p in draft.directory.rglob("*.arrow"))
    written += ["plan.json"] if mixture is not None else []
    draft.write_json("bundle.json", {
        "checkpoint": {**checkpoint.key._asdict(), "digest": checkpoint.digest, "content": checkpoint.content},
        "facts": checkpoint.facts,
        "step": pretrained(checkpoint).facts.get("step"),
        "fates": fates_by_stage(family),
        "files": {name: file_entry(draft.directory, name).blake3 for name in written},
    })  # fmt: skip
    return draft.seal(counts=counts, facts={"checkpoint": checkpoint.digest})


def pretrained(checkpoint: Artifact) -> Artifact:
    """The pretrained model itself, or the one that a fine-tune began from."""
    found = [a for a in ancestors(checkpoint) if a.key.asset == "pretrained_model"]
    return found[0] if found else checkpoint


def fates_by_stage(family: Iterable[Artifact | Manifest]) -> list[dict[str, Any]]:
    """Counts of fates of every whole artifact that decides about documents, in the order of asset and partition."""
    rows = [
        {"asset": a.key.asset, "partition": a.key.partition, **{n: a.counts[n] for n in ("seen", *FATES)}}
        for a in family
        if not a.key.part and all(name in a.counts for name in ("seen", *FATES))
    ]
    return sorted(rows, key=lambda row: (row["asset"], row["partition"]))


def _write_order(mixture: Artifact, draft: Draft) -> int:
    draft.path("plan.json").write_bytes(mixture.local("plan.json").read_bytes())
    plan = Plan.model_validate(mixture.json("plan.json"))
    shards = mixture.input("token_shards")
    documents = shards.input("training_documents")
    files: dict[str, str] = {}  # by part of the shards, which several parts of the plan may read
    rows, num_docs = [], 0
    for number, planned in enumerate(plan.parts):
        part = shards.part(planned.shards)
        if planned.shards not in files:
            files[planned.shards] = f"documents/{number:05d}.arrow"
            index = _index(part, documents.part(planned.shards))
            num_docs += write_batches(draft.path(files[planned.shards]), DOCUMENTS, index)
        if planned.layout:
            shutil.copyfile(mixture.local(planned.layout), draft.path(planned.layout))
        rows.append({"part": planned.name, "file": files[planned.shards], "tokens": part.counts["tokens"],
                     "sequences": planned.num_sequences})  # fmt: skip
    draft.write("parts.arrow", pa.Table.from_pylist(rows, schema=PARTS))
    return num_docs


def _index(shards: Artifact, documents: Artifact) -> Iterator[pa.Table]:
    """Documents of one part with their places, batch by batch; the rows of shards and documents are aligned."""
    start = 0
    spans = _Spans(shards)
    for about in read_batches(documents.local("documents.arrow"), ["doc_id", "uri", "file", "licence"]):
        ids, lengths = spans.take(about.num_rows)
        if ids != about["doc_id"].to_pylist():
            raise ManifestError(f"{shards.key}: its rows are not those of {documents.key}; remake token_shards.")
        starts = start + np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        start = int(starts[-1])
        places = [pa.array(starts[:-1]), pa.array(lengths)]
        yield pa.table([*about.columns, *places], names=DOCUMENTS.names).cast(DOCUMENTS)


class _Spans:
    """Ids and token counts of the documents of all shards of a part, in any portions."""

    def __init__(self, shards: Artifact) -> None:
        self._batches = (
            batch
            for name in shards.names(".arrow")
            if name.startswith("shard-")
            for batch in read_batches(shards.local(name))
        )
        self._ids: list[bytes] = []
        self._lengths: list[int] = []

    def take(self, number: int) -> tuple[list[bytes], np.ndarray]:
        while len(self._ids) < number and (batch := next(self._batches, None)) is not None:
            self._ids += batch["doc_id"].to_pylist()
            for chunk in batch["tokens"].chunks:
                self._lengths += np.diff(chunk.offsets.to_numpy()).tolist()
        ids, lengths = self._ids[:number], self._lengths[:number]
        self._ids, self._lengths = self._ids[number:], self._lengths[number:]
        return ids, np.array(lengths, np.int64)


# -- reading a bundle ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadDocument:
    """Tokens of one document that a step read, from ``start`` on inside the document."""

    slot: int
    part: str
    doc_id: bytes
    uri: str
    file: str
    licence: str
    start: int
    length: int


class Bundle:
    """A bundle in a directory, wherever it was copied to. Needs none of our store."""

    def __init__(self, directory: Path) -> None:
        if not (directory / "bundle.json").is_file():
            raise ManifestError(f"{directory}: no audit bundle; bundle.json is missing.")
        self.directory = directory
        self._layouts: dict[str, Layout] = {}
        self.about: dict[str, Any] = json.loads((directory / "bundle.json").read_bytes())

    @cached_property
    def plan(self) -> Plan:
        if not (self.directory / "plan.json").is_file():
            raise ManifestError(f"{self.directory}: this checkpoint has no order of ours; it was not trained here.")
        return Plan.model_validate_json((self.directory / "plan.json").read_bytes())

    @cached_property
    def _files(self) -> dict[str, str]:
        table = read_table(self.directory / "parts.arrow", ["part", "file"])
        return dict(zip(table["part"].to_pylist(), table["file"].to_pylist(), strict=True))

    def documents(self, step: int) -> list[ReadDocument]:
        """Everything that a step read, slot by slot: T + 1 tokens each, the last one as a target only."""
        last = self.about["step"] or self.plan.num_steps
        if not 1 <= step <= last:
            raise ValueError(f"the checkpoint has read steps 1 to {last}, not {step}.")
        slots = self.plan.slots(step)
        parts, sequences = self.plan.sequences(slots)
        found = []
        for slot, part, sequence in zip(slots, parts.tolist(), sequences.tolist(), strict=True):
            planned, first = self.plan.parts[part], sequence * self.plan.stride(part)
            for start, stop in self._ranges(planned, first, first + self.plan.sequence_length + 1):
                found += self._reads(slot, planned, start, stop)
        return found

    def _ranges(self, planned: PlanPart, start: int, stop: int) -> list[tuple[int, int]]:
        """Where the tokens of a part of the plan lie in the stream of its shards."""
        if not planned.layout:
            return [(start, stop)]
        if planned.name not in self._layouts:
            self._layouts[planned.name] = Layout(self.directory / planned.layout)
        _, places, sizes = self._layouts[planned.name].pieces(np.array([start]), np.array([stop]))
        return [(at, at + size) for at, size in zip(places.tolist(), sizes.tolist(), strict=True) if at != FILL]

    def _reads(self, slot: int, planned: PlanPart, start: int, stop: int) -> list[ReadDocument]:
        table = self._table(planned.name)
        starts = table["start"].to_numpy()
        rows = table.slice(low := int(np.searchsorted(starts, start, side="right")) - 1,
                           int(np.searchsorted(starts, stop, side="left")) - low)  # fmt: skip
        found = []
        for row in rows.to_pylist():
            begin, end = max(start, row["start"]), min(stop, row["start"] + row["length"])
            if begin < end:
                found.append(ReadDocument(slot, planned.shards, row["doc_id"], row["uri"], row["file"], row["licence"],
                                          begin - row["start"], end - begin))  # fmt: skip
        return found

    def _table(self, part: str) -> pa.Table:
        return read_table(self.directory / self._files[part])

    def verify(self) -> int:
        """Whether every file is what it was and every manifest that another refers to is here; returns how many.

        Raises:
            ManifestError: naming the first that is not.
        """
        folder = self.directory / "manifests"
        manifests: dict[str, Manifest] = {}
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            if digest(data) != path.stem:
                raise ManifestError(f"{path.name}: has blake3 {digest(data)[:12]}…; the file was changed.")
            manifests[path.stem] = Manifest.parse(data, path.name)
        for manifest in manifests.values():
            needed = [*(i.manifest for i in manifest.inputs), *(p.manifest for p in manifest.parts)]
            missing = [name for name in needed if name not in manifests]
            if missing:
                raise ManifestError(f"{manifest.key} was made from {missing[0][:12]}…, whose manifest is missing.")
        root = self.about["checkpoint"]
        if root["digest"] not in manifests or manifests[root["digest"]].content != root["content"]:
            raise ManifestError(f"the manifest of the checkpoint, {root['digest'][:12]}…, is missing or another's.")
        for name, expected in self.about["files"].items():
            if not (self.directory / name).is_file() or file_entry(self.directory, name).blake3 != expected:
                raise ManifestError(f"{name} is missing, or is not the file that was bundled; it was changed.")
        self._check_about(manifests)
        self._check_order(list(manifests.values()))
        return len(manifests)

    def _check_about(self, manifests: dict[str, Manifest]) -> None:
        """Figures in bundle.json are read first and believed, so each must stand in a manifest as well."""
        root = manifests[self.about["checkpoint"]["digest"]]
        bases = [manifests[i.manifest] for i in root.inputs if i.asset == "pretrained_model"]
        base = bases[0] if bases and root.asset != "pretrained_model" else root
        named = {name: self.about["checkpoint"][name] for name in root.key._fields}
        pairs = {
            "checkpoint": (named, root.key._asdict()),
            "facts": (self.about["facts"], root.facts),
            "step": (self.about["step"], base.facts.get("step")),
            # as sets of rows: of two artifacts of one name either may come first
            "fates": (_rows(self.about["fates"]), _rows(fates_by_stage(manifests.values()))),
        }
        for name, (found, expected) in pairs.items():
            if found != expected:
                raise ManifestError(f"bundle.json: its {name} are not those of the manifests; it was changed.")

    def _check_order(self, manifests: Sequence[Manifest]) -> None:
        """Plan and index are there where a mixture is, and no document is missing among the tokens of a part."""
        plans = {f.blake3 for m in manifests if m.asset == "mixture" for f in m.files if f.path == "plan.json"}
        if not plans:
            return
        for name in ("plan.json", "parts.arrow"):
            self._check_listed(name)
        if digest((self.directory / "plan.json").read_bytes()) not in plans:
            raise ManifestError("plan.json is not the plan of the mixture in this family tree; it was changed.")
        sealed = {f.blake3 for m in manifests if m.asset == "mixture" for f in m.files}
        planned = {part.name: part for part in self.plan.parts}
        for part, name in sorted(self._files.items()):
            self._check_listed(name)
            if layout := planned[part].layout:
                self._check_listed(layout)
                if self.about["files"][layout] not in sealed:
                    raise ManifestError(f"{layout} is not a layout of the mixture in this family tree; it was changed.")
            shards = planned[part].shards
            tokens = {m.counts.get("tokens") for m in manifests if m.asset == "token_shards" and m.part == shards}
            found = sum(self._table(part)["length"].to_pylist())
            if found not in tokens:
                told = " or ".join(str(each) for each in tokens) or "no"
                raise ManifestError(f"{name}: documents of {found} tokens, {part} has {told} tokens; it was changed.")

    def _check_listed(self, name: str) -> None:
        if name not in self.about["files"]:
            raise ManifestError(f"{name} is missing from the files that bundle.json lists; it was changed.")


def _rows(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    return sorted(canonical_json(row) for row in rows)
