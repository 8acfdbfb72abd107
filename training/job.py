"""The job: everything that the trainer's process is told, in one file in scratch.

Paths stand here and nowhere in an artifact; beside each path stand the size and the blake3 that the file must have.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import not_
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.layouts import LaidOut, Layout
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.manifest import file_entry
from pipelines.provenance.plan import Plan, PlanPart
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.shard_reader import ShardReader
from training.models.recipe import GPTRecipe

SHARED_OUT = {"world_size", "threads", "sharding", "recompute"}  # of numerics: how the work is shared out


class DataError(RuntimeError):
    """A file that a run reads is not the one that was sealed."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobFile(_Frozen):
    """A file of an artifact, on this machine."""

    path: Path
    bytes: int
    blake3: str

    @classmethod
    def of(cls, artifact: Artifact, name: str) -> JobFile:
        entry = artifact.entry(name)
        return cls(path=artifact.local(name), bytes=entry.bytes, blake3=entry.blake3)

    def check(self) -> None:
        """Read every byte.

        Raises:
            DataError: unless the file is the one that was sealed.
        """
        if not self.path.exists():
            raise DataError(f"{self.path}: is missing. Re-materialize the artifact that it belongs to.")
        found = file_entry(self.path.parent, self.path.name)
        if (found.bytes, found.blake3) != (self.bytes, self.blake3):
            raise DataError(
                f"{self.path}: has {found.bytes} bytes and blake3 {found.blake3[:12]}…, the manifest says {self.bytes} "
                f"bytes and {self.blake3[:12]}…. The file changed after sealing; nothing was trained on it. "
                "Re-materialize the artifact that it belongs to."
            )


SETTINGS = ("model", "recipe", "numerics", "header")


class JobPart(_Frozen):
    """The shards of one part and, for held-out ones, the table of its documents."""

    name: str
    shards: list[JobFile]
    documents: JobFile | None = None
    layout: JobFile | None = Field(
        default=None, exclude_if=not_, description="of a part of the plan that does not read the shards as they lie"
    )
    fill: int = Field(default=0, exclude_if=not_)

    @classmethod
    def planned(cls, part: Artifact, mixture: Artifact, planned: PlanPart) -> JobPart:
        """A part of a mixture's plan; ``part`` is that of the shards."""
        layout = JobFile.of(mixture, planned.layout) if planned.layout else None
        return cls.of(part, planned.name).model_copy(update={"layout": layout, "fill": planned.fill})

    @classmethod
    def of(cls, part: Artifact, name: str) -> JobPart:
        names = [n for n in part.names(".arrow") if n.startswith("shard-")]
        documents = JobFile.of(part, "documents.arrow") if "documents.arrow" in part.names() else None
        return cls(name=name, shards=[JobFile.of(part, n) for n in names], documents=documents)

    def reader(self) -> ShardReader:
        return ShardReader([shard.path for shard in self.shards])

    def stream(self) -> ShardReader | LaidOut:
        """The tokens as the plan counts them."""
        return LaidOut(self.reader(), Layout(self.layout.path), self.fill) if self.layout else self.reader()


class Job(_Frozen):
    """One run of the trainer."""

    kind: Literal["pretrain", "classifier", "summary"]
    version: str = Field(description="of the stage")
    run: str
    directory: Path = Field(default=Path(), description="rolling checkpoints, metrics, results")
    track: str = Field(default="", description="trackers, parted by commas; see tracking.py")
    tracking: Path = Field(default=Path(), description="where they write")
    model: GPTRecipe
    recipe: dict[str, Any] = Field(description="PretrainRecipe or FinetuneRecipe, resolved")
    numerics: dict[str, Any]
    plan: Plan
    header: dict[str, str] = Field(description="what weight files say of themselves")
    eos_id: int
    pad_id: int
    parts: list[JobPart] = Field(default_factory=list, description="shards to train on")
    heldout: list[JobPart] = Field(default_factory=list)
    base: JobFile | None = Field(default=None, description="weights that a fine-tune starts from")
    examples: dict[str, JobFile] = Field(default_factory=dict, description="train and test examples of a fine-tune")
    class_weights: list[float] = Field(default_factory=list, description="of a classifier, in the order of its classes")
    teacher: JobFile | None = Field(default=None, exclude_if=not_, description="weights of the one that is learnt from")
    teacher_model: GPTRecipe | None = Field(default=None, exclude_if=not_)
    keep_zeros: bool = Field(default=False, exclude_if=not_, description="weights that are zero in the base stay so")
    num_tokens: int = Field(default=0, description="of the vocabulary, where text is generated or tokens are hidden")
    mask_id: int | None = Field(default=None, description="of an encoder: stands where a token is hidden")
    tokenizer: JobFile | None = Field(default=None, description="where whole words are hidden")

    @property
    def identity(self) -> str:
        """Digest of all that must be equal for a checkpoint to be gone on from; where files lie does not matter.

        Nor does how many processes share the work: they read the same data in the same order. What they give is equal
        to rounding only, so the checkpoint says which steps who took.
        """
        return digest(canonical_json(self._plain()))

    @property
    def made_of(self) -> dict[str, Any]:
        """The same for people: settings by dotted name, and the digest of everything else."""
        found: dict[str, Any] = {}
        for name, value in self._plain().items():
            if name in SETTINGS:
                found |= {f"{name}.{field}": setting for field, setting in value.items()}
            else:
                found[name] = value if isinstance(value, str | int) else digest(canonical_json(value))[:12]
        return found

    def _plain(self) -> dict[str, Any]:
        plain = self.model_dump(mode="json", exclude={"directory", "track", "tracking"})
        plain["numerics"] = {k: v for k, v in plain["numerics"].items() if k not in SHARED_OUT}
        return _without_paths(plain)

    def files(self) -> Iterator[JobFile]:
        for part in [*self.parts, *self.heldout]:
            yield from part.shards
            if part.documents:
                yield part.documents
            if part.layout:
                yield part.layout
        yield from self.examples.values()
        for file in (self.base, self.teacher, self.tokenizer):
            if file:
                yield file

    def write(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "job.json"
        path.write_bytes(canonical_json(self.model_dump(mode="json")))
        return path

    @classmethod
    def read(cls, path: Path) -> Job:
        return cls.model_validate_json(path.read_bytes())


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_paths(v) for k, v in value.items() if k != "path"}
    return [_without_paths(v) for v in value] if isinstance(value, list) else value
