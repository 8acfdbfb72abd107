"""The recipe of a mixture: how much is read, in which batches, and from which documents."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from pipelines.batch_sizes import segments
from pipelines.mixture_entries import SOURCE, Entry, parsed_entry, parsed_phase, phases_of
from pipelines.provenance.plan import Segment
from pipelines.provenance.recipe import Recipe


class MixtureRecipe(Recipe):
    """How much is read, in which batches, and from which documents."""

    sequence_length: int = Field(default=256, ge=1, le=1 << 20, description="targets of a sequence")
    batch_size: int = Field(default=32, ge=1, le=1 << 20, description="sequences of a step")
    steps: int = Field(default=320, ge=1, description="steps of the run")
    batch_warmup: list[str] = Field(
        default_factory=list,
        description="STEP=SIZE, ascending: up to this step batches have that size, behind the last of them batch_size",
    )
    seed: int = Field(default=1, ge=0, description="another seed, another order")
    weights: list[str] = Field(
        default_factory=list,
        description="NAME=FACTOR: read a source (or all that match a pattern) so many times as often as its tokens "
        "alone would have it; the first that matches counts; 0 leaves it out; none: by tokens. NAME=N epochs: exactly "
        "so often. Instead of NAME also COLUMN:VALUE (language:de, licence:MIT) or COLUMN>=NUMBER (a signal of "
        "cleaning): factors of different columns multiply",
    )
    phases: list[str] = Field(
        default_factory=list,
        description="FROM: NAME=FACTOR, …: from this fraction of the run (0.8) or step (601) on other weights hold; "
        "epochs go on across phases",
    )
    alpha: float = Field(
        default=1.0, ge=0, le=1,
        description="temperature: a group is read in proportion to its size to the power of alpha, 1: by size, 0: all "
        "groups alike (0.3 for languages, Conneau et al. 2020)",
    )  # fmt: skip
    alpha_over: str = Field(
        default=SOURCE, min_length=1, description="what the groups are: source, language, licence or another column"
    )
    max_epochs: int = Field(
        default=0, ge=0,
        description="no sequence is read more often; what a source cannot give the others do; 0: no limit "
        "(up to 4 epochs are nearly as good as new text, Muennighoff et al. 2023)",
    )  # fmt: skip
    packing: Literal["concatenate", "best_fit"] = Field(
        default="concatenate",
        description="concatenate: documents follow each other and are cut where a sequence ends; best_fit: only "
        "documents longer than a sequence are cut (Ding et al. 2024)",
    )

    @field_validator("weights")
    @classmethod
    def _weights_are_entries(cls, weights: list[str]) -> list[str]:
        for entry in weights:
            parsed_entry(entry)
        return weights

    @field_validator("phases")
    @classmethod
    def _phases_are_phases(cls, phases: list[str]) -> list[str]:
        for phase in phases:
            parsed_phase(phase)
        return phases

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        for _, entries in self.by_phase():
            for entry in entries:
                if entry.is_epochs and self.max_epochs and entry.value > self.max_epochs:
                    raise ValueError(
                        f"{entry.text!r} asks for more epochs than max_epochs, which is {self.max_epochs}."
                    )
        return self

    @model_validator(mode="after")
    def _warms_up(self) -> Self:
        self.batches()
        return self

    def batches(self) -> list[Segment]:
        """Batch sizes by first step."""
        return segments(self.batch_warmup, self.batch_size, self.steps)

    def by_phase(self) -> list[tuple[int, list[Entry]]]:
        """(first step, entries) of every phase."""
        return phases_of(self.weights, self.phases, self.steps)
