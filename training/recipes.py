"""Training recipes: what a run is, by name. No torch here; see the modules that each field steers."""

from __future__ import annotations

from operator import not_
from typing import Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from pipelines.provenance.recipe import Recipe
from training.models.recipe import GPTRecipe
from training.numerics import bf16_is_fast, device_kind
from training.tracking import named

Dtype = Literal["auto", "fp32", "bf16", "fp16", "fp8"]
Compile = Literal["auto", "off", "on"]
FP8_MULTIPLE = 16  # what the inner dimensions of a product in fp8 must divide by (cuBLASLt)


class OptimisationRecipe(Recipe):
    """Optimiser, schedule and arithmetic, the same for pretraining and fine-tunes."""

    learning_rate: float = Field(default=3e-3, gt=0, le=1, description="Peak learning rate, reached after the warm-up")
    warmup_steps: int = Field(default=30, ge=0, description="Steps over which the learning rate rises from 0")
    schedule: Literal["cosine", "wsd", "linear", "constant"] = Field(
        default="cosine", description="Way of the learning rate after the warm-up; wsd: stable, then straight down"
    )
    decay_ratio: float = Field(default=0.2, gt=0, le=1, description="Share of the steps in which wsd comes down")
    min_lr_ratio: float = Field(default=0.05, ge=0, le=1, description="Share of the peak at which the schedule ends")
    optimizer: Literal["adamw", "muon"] = Field(
        default="adamw", description="muon: for the matrices of the blocks, with AdamW for everything else"
    )
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Memory of Muon")
    weight_decay: float = Field(default=0.1, ge=0, le=1, description="Of matrices; vectors are never decayed")
    decay_embeddings: bool = Field(default=True, description="Weight decay on embeddings too")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Memory of AdamW's mean")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Memory of AdamW's variance")
    clip: float = Field(default=1.0, ge=0, description="Largest norm of the whole gradient; 0 leaves it as it is")
    microbatch: int = Field(
        default=0, ge=0, description="Sequences of one forward pass, the rest is accumulated; 0 takes all"
    )
    dtype: Dtype = Field(
        default="auto",
        description="Arithmetic of matrix products; auto is bf16 where it is fast. fp16 scales the loss, and skips steps "
        "that overflow; fp8 needs a GPU that has it and the extra fp8",
    )
    compile: Compile = Field(default="auto", description="torch.compile; auto is on with a GPU, off with a CPU")
    seed: int = Field(default=1, ge=0, lt=2**31, description="Of the initial weights and of dropout")
    checkpoint_every: int = Field(default=100, ge=1, description="Steps between rolling checkpoints")
    max_skips: int = Field(
        default=0,
        ge=0,
        description="Steps that may be skipped because loss or gradient is no number, or the loss a spike; 0: the first "
        "that is no number ends the run",
    )
    spike_deviations: float = Field(
        default=0.0,
        ge=0,
        description="A loss so many standard deviations above the mean of the last 64 is a spike; 0: none is",
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.spike_deviations and not self.max_skips:
            raise ValueError(
                f"spike_deviations ({self.spike_deviations}) needs max_skips: how many steps may be skipped."
            )
        return self


class PretrainRecipe(GPTRecipe, OptimisationRecipe):
    """A pretraining run. Steps, batch size and data order stand in the mixture's plan."""

    attend: Literal["sequence", "document"] = Field(
        default="sequence",
        exclude_if=lambda value: value == "sequence",  # as runs were named before there was a choice
        description="What a token sees: its sequence, whoever stands there; or its own document alone, read as if it "
        "stood there alone",
    )

    mask_ratio: float = Field(
        default=0.15, gt=0, lt=1, description="Share of the tokens that are hidden from an encoder"
    )
    whole_words: bool = Field(default=False, description="Hide all tokens of a word together (objective masked)")
    sentence_order: float = Field(
        default=0.0,
        exclude_if=not_,
        ge=0,
        le=10,
        description="How much it counts whether two halves of a document are told to be in order or exchanged (objective "
        "masked); 1 is ALBERT's, 0 does not ask",
    )
    contrast: float = Field(
        default=0.0,
        exclude_if=not_,
        ge=0,
        le=10,
        description="How much it counts that a document read twice through dropout has one embedding and others have "
        "others (SimCSE; objective masked, attend document); 0 does not ask",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Probability spread over the vocabulary instead of the next token's own"
    )
    z_loss: float = Field(
        default=0.0, ge=0, le=1, description="Factor of log² Z, which keeps logits small; 1e-4 by custom, 0 is none"
    )
    mtp_depth: int = Field(
        default=0,
        exclude_if=not_,
        ge=0,
        le=8,
        description="Tokens behind the next one that are learnt as well (multi-token prediction), each in a block that is "
        "kept in ahead.safetensors and not exported; 0: none",
    )
    mtp_weight: float = Field(
        default=0.3,
        exclude_if=lambda value: value == 0.3,
        gt=0,
        le=10,
        description="How much those tokens count together, the next one counting 1 (mtp_depth)",
    )
    distil_weight: float = Field(
        default=0.0,
        ge=0,
        le=1,
        exclude_if=lambda value: value == 0.0,  # as runs without a teacher were always named
        description="Share of the loss that is the distance from the teacher (a run with `teacher`; 0.5 if left out)",
    )
    distil_temperature: float = Field(
        default=2.0,
        gt=0,
        le=100,
        exclude_if=lambda value: value == 2.0,
        description="Softens what teacher and student say before they are compared",
    )
    milestone_every: int = Field(
        default=0, ge=0, description="Steps between checkpoints that are kept for good; 0 keeps none"
    )
    eval_every: int = Field(
        default=0, ge=0, description="Steps between evaluations on held-out documents; 0 only at the end"
    )
    eval_documents: int = Field(
        default=256, ge=1, description="Held-out documents of an evaluation on the way; the last has all"
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="Evaluations without a better one after which the run stops; its best checkpoint is the result; "
        "0 trains to the end",
    )
    clean_overlap: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="A held-out document counts as clean below this share of 13-grams seen in training",
    )
    baseline_tokens: int = Field(
        default=20_000_000,
        ge=1000,
        description="Training tokens that the n-gram baselines count, shared out over the parts",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.patience and not self.eval_every:
            raise ValueError(f"patience ({self.patience}) counts evaluations: set eval_every.")
        if self.objective == "masked" and (self.label_smoothing or self.z_loss):
            raise ValueError("label_smoothing and z_loss are for objective = 'causal'.")
        if self.objective == "masked" and self.distil_weight:
            raise ValueError("a teacher (distil_weight) is for objective = 'causal'.")
        if self.objective == "masked" and self.mtp_depth:
            raise ValueError(f"mtp_depth ({self.mtp_depth}) learns tokens further on: it needs objective = 'causal'.")
        if self.mtp_depth >= self.sequence_length:
            raise ValueError(f"mtp_depth ({self.mtp_depth}) must be below sequence_length ({self.sequence_length}).")
        if self.mtp_depth and self.distil_weight:
            raise ValueError("a teacher (distil_weight) says the next token alone: set mtp_depth to 0.")
        if self.whole_words and self.objective != "masked":
            raise ValueError("whole_words hides words from an encoder: it needs objective = 'masked'.")
        if self.sentence_order and self.objective != "masked":
            raise ValueError("sentence_order is asked of an encoder: it needs objective = 'masked'.")
        return self

    @model_validator(mode="after")
    def _contrasts(self) -> Self:
        missing = [
            name
            for name, is_met in (
                ("objective = 'masked'", self.objective == "masked"),
                ("attend = 'document': an embedding is one document's", self.attend == "document"),
                ("dropout above 0, by which the two readings differ", self.dropout > 0),
                ("microbatch = 0: all other sequences of a step are negatives", self.microbatch == 0),
                ("sentence_order = 0, which moves words", not self.sentence_order),
            )
            if not is_met
        ]
        if self.contrast and missing:
            raise ValueError(f"contrast ({self.contrast}) needs {'; '.join(missing)}.")
        return self

    @model_validator(mode="after")
    def _multiplies_in_fp8(self) -> Self:
        sizes = {"width": self.width, "mlp_width": self.mlp_width, "kv_heads times the width of a head":
                 self.kv_heads * self.head_width, "sequence_length": self.sequence_length}  # fmt: skip
        odd = [f"{name} ({size})" for name, size in sizes.items() if size % FP8_MULTIPLE]
        if self.dtype == "fp8" and odd:
            raise ValueError(f"dtype = 'fp8' multiplies matrices whose sides divide by 16; {', '.join(odd)} does not.")
        return self


class Compute(Recipe):
    """How the work of a run is shared out; it is declared with the checkpoint, for it moves last bits."""

    processes: int = Field(default=1, ge=1, le=1024, description="Processes in all, one a GPU")
    sharding: Literal["ddp", "fsdp"] = Field(
        default="ddp", description="ddp: each process has the whole model; fsdp: a share of every weight (FSDP2)"
    )
    recompute: bool = Field(
        default=False, description="Compute activations again in the backward pass: less memory, a third more work"
    )
    track: str = Field(
        default="", description="Trackers that are told too, parted by commas: tensorboard, mlflow, wandb"
    )

    @field_validator("track")
    @classmethod
    def _exists(cls, said: str) -> str:
        named(said)
        return said


class FinetuneDataRecipe(Recipe):
    """Examples of a task whose labels the corpus gives for nothing."""

    task: Literal["classifier", "summary"] = Field(
        default="classifier",
        description="classifier: which source does a passage come from; summary: a text's first paragraph from its rest",
    )
    max_train: int = Field(default=3000, ge=1, description="Training examples, taken in the order of document ids")
    max_test: int = Field(default=300, ge=1, description="Test examples, from held-out documents")
    max_tokens: int = Field(default=128, ge=8, description="Length of an example; passages and bodies are cut to fit")
    min_words: int = Field(default=10, ge=1, description="Shorter passages or bodies are no examples")
    min_examples: int = Field(default=20, ge=1, description="Classes with fewer training passages are left out")
    max_summary_words: int = Field(default=30, ge=3, description="A longer first paragraph is no summary")


class FinetuneRecipe(OptimisationRecipe):
    """A fine-tune of a pretrained model on examples."""

    epochs: int = Field(default=2, ge=1, description="Times that every example is read")
    max_steps: int = Field(default=0, ge=0, description="Stop there, however many examples remain; 0 reads all")
    batch_size: int = Field(default=32, ge=1, description="Examples of one step")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the activations dropped before each residual sum"
    )
    max_answer_tokens: int = Field(default=48, ge=1, description="Summary task: where greedy decoding gives up")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.microbatch > self.batch_size:
            raise ValueError(f"microbatch ({self.microbatch}) is larger than batch_size ({self.batch_size}).")
        if self.dtype == "fp8":
            raise ValueError("dtype = 'fp8' is for pretraining: examples have lengths that do not divide by 16.")
        return self


R = TypeVar("R", bound=OptimisationRecipe)


def resolve(recipe: R) -> R:
    """Replace every ``auto`` by what this machine gives, before the recipe is hashed."""
    device = device_kind()
    dtype = ("bf16" if bf16_is_fast(device) else "fp32") if recipe.dtype == "auto" else recipe.dtype
    mode = ("on" if device == "cuda" else "off") if recipe.compile == "auto" else recipe.compile
    return recipe.model_copy(update={"dtype": dtype, "compile": mode})


def tiny() -> PretrainRecipe:
    """The demo's: 4 blocks of 128, 1.0 M parameters with a vocabulary of 2,048; minutes on two cores."""
    return PretrainRecipe(checkpoint_every=100, eval_every=160)


def classifier() -> FinetuneRecipe:
    """The demo's classifier: under half a minute on two cores."""
    return FinetuneRecipe(learning_rate=1e-3, warmup_steps=10, weight_decay=0.05, epochs=3, max_steps=100)


def summary() -> FinetuneRecipe:
    """The demo's summary writer: under half a minute on two cores."""
    return FinetuneRecipe(learning_rate=1e-3, warmup_steps=10, weight_decay=0.05, epochs=3, max_steps=100)
