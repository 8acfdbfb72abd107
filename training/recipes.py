"""Training recipes: what a run is, by name. No torch here; see the modules that each field steers."""

from __future__ import annotations

from typing import Literal, Self, TypeVar

from pydantic import Field, model_validator

from pipelines.provenance.recipe import Recipe
from training.models.recipe import GPTRecipe
from training.numerics import bf16_is_fast, device_kind

Dtype = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "off", "on"]


class OptimisationRecipe(Recipe):
    """Optimiser, schedule and arithmetic, the same for pretraining and fine-tunes."""

    learning_rate: float = Field(default=3e-3, gt=0, le=1, description="Peak learning rate, reached after the warm-up")
    warmup_steps: int = Field(default=30, ge=0, description="Steps over which the learning rate rises from 0")
    min_lr_ratio: float = Field(default=0.05, ge=0, le=1, description="Share of the peak at which the cosine ends")
    weight_decay: float = Field(default=0.1, ge=0, le=1, description="Of matrices; vectors are never decayed")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Memory of AdamW's mean")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Memory of AdamW's variance")
    clip: float = Field(default=1.0, ge=0, description="Largest norm of the whole gradient; 0 leaves it as it is")
    microbatch: int = Field(
        default=0, ge=0, description="Sequences of one forward pass, the rest is accumulated; 0 takes all"
    )
    dtype: Dtype = Field(default="auto", description="Arithmetic of matrix products; auto is bf16 where it is fast")
    compile: Compile = Field(default="auto", description="torch.compile; auto is on with a GPU, off with a CPU")
    seed: int = Field(default=1, ge=0, lt=2**31, description="Of the initial weights and of dropout")
    checkpoint_every: int = Field(default=100, ge=1, description="Steps between rolling checkpoints")


class PretrainRecipe(GPTRecipe, OptimisationRecipe):
    """A pretraining run. Steps, batch size and data order stand in the mixture's plan."""

    milestone_every: int = Field(
        default=0, ge=0, description="Steps between checkpoints that are kept for good; 0 keeps none"
    )
    eval_every: int = Field(
        default=0, ge=0, description="Steps between evaluations on held-out documents; 0 only at the end"
    )
    eval_documents: int = Field(
        default=256, ge=1, description="Held-out documents of an evaluation on the way; the last has all"
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
