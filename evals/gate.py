"""The gate: may this checkpoint take the champion's place? And the champion, which asks the gate itself.

:func:`judge` decides from sealed artifacts alone. A blocking asset check calls it, but a check binds only its own
run; therefore :func:`champion` calls it again on what it is given, and no verdict can be handed to it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from evals.compare import Comparison, compare
from evals.metrics import ACCURACIES
from evals.records import read_records
from evals.scores import FILE as SCORES_FILE
from evals.statistics import holm
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe

CHAMPION_VERSION = "1"
FILE = "champion.json"

Decision = Literal["PROMOTE", "HOLD", "REJECT", "INCOMPARABLE"]


class GateRefused(RuntimeError):  # noqa: N818 (a refusal is an answer, not an error of the program)
    """The gate did not say PROMOTE. Nothing was published; the incumbent stays."""


class GateRecipe(Recipe):
    """What a checkpoint must show to be promoted."""

    primary: list[str] = Field(default=["bpb"], description="Tasks of which at least one must be better, beyond chance")
    guards: list[str] = Field(default=[], description="Tasks that must not get worse; empty: all others of the suite")
    margin_bits: float = Field(default=0.02, ge=0, description="Bits per byte that a guard may lose")
    margin_ratio: float = Field(default=0.05, ge=0, le=1, description="Accuracy, F1 or ROUGE that a guard may lose")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of every one-sided bound")
    require_superiority: bool = Field(
        default=True, description="False: not being worse is enough for the primary tasks as well"
    )
    min_gain: float = Field(
        default=0.0,
        ge=-1,
        lt=1,
        description="Share by which held-out bits per byte must beat the bigram baseline; negative: may be worse by",
    )
    max_coverage: float = Field(
        default=0.8, gt=0, le=1, description="An item of which this share of n-grams was trained on is contaminated"
    )
    require_coverage: bool = Field(
        default=False, description="Also refuse a checkpoint whose items were never scanned for contamination"
    )
    bootstrap_seed: int = Field(default=0, ge=0, description="Of the replicates behind the error of macro-F1")

    @model_validator(mode="after")
    def _something_to_be_better_at(self) -> Self:
        if self.require_superiority and not self.primary:
            raise ValueError(
                "primary names no task, so that no checkpoint could ever be better: name one, or set "
                "require_superiority to false."
            )
        return self


@dataclass(frozen=True)
class Finding:
    """What the gate found about one task."""

    task: str
    metric: str
    role: Literal["primary", "guard", "watched"]
    outcome: str
    advantage: float | None
    stderr: float | None
    lower: float | None
    upper: float | None
    margin: float
    n: int
    clusters: int


@dataclass(frozen=True)
class Verdict:
    """The gate's answer, bound to the contents that it was given on.

    Attributes:
        checkpoint: content digest of the candidate.
        incumbent: content digest of the champion's checkpoint; empty where there is none.
        scores: content digest of the scores that were judged.
    """

    verdict: Decision
    reasons: list[str]
    checkpoint: str
    incumbent: str
    scores: str
    findings: list[Finding]

    @property
    def promoted(self) -> bool:
        return self.verdict == "PROMOTE"


def reigns(incumbent: Artifact | None, checkpoint: Artifact) -> bool:
    """Whether the champion already is this very checkpoint: then there is nothing to decide."""
    return incumbent is not None and incumbent.json(FILE)["checkpoint"]["content"] == checkpoint.content


def judge(
    scores: Artifact,
    incumbent: Artifact | None,
    checkpoint: Artifact,
    recipe: GateRecipe,
    *,
    incumbent_scores: Artifact | None = None,
) -> Verdict:
    """Decide from sealed artifacts; nothing is written.

    Args:
        scores: benchmark_scores of the candidate.
        incumbent: the champion artifact in charge, or None.
        checkpoint: the candidate itself.
        recipe: what it must show.
        incumbent_scores: newer scores of the incumbent, say on a suite that was added since; by default those that it
            was promoted with.
    """
    defender = incumbent.json(FILE)["checkpoint"]["content"] if incumbent else ""

    def verdict(decision: Decision, reasons: list[str], findings: list[Finding] | None = None) -> Verdict:
        return Verdict(decision, reasons, checkpoint.content, defender, scores.content, findings or [])

    stranger = mismatch(scores, checkpoint.content)
    if stranger:
        return verdict("INCOMPARABLE", [stranger])
    broken = broken_limits(scores, checkpoint, recipe)
    if broken:
        return verdict("REJECT", broken)
    if incumbent is None:
        return verdict("PROMOTE", ["first champion: there is no incumbent, and all hard limits hold"])
    if reigns(incumbent, checkpoint):
        return verdict("PROMOTE", ["this checkpoint is the champion already"])
    theirs = incumbent_scores or incumbent.input("benchmark_scores")
    stranger = mismatch(theirs, defender)
    if stranger:
        return verdict("INCOMPARABLE", [f"the incumbent: {stranger}"])
    answers = scores.input("benchmark_samples"), theirs.input("benchmark_samples")
    return verdict(*decide(compare(*answers, recipe.bootstrap_seed), recipe))


def champion(
    scores: Artifact,
    incumbent: Artifact | None,
    checkpoint: Artifact,
    recipe: GateRecipe,
    draft: Draft,
    *,
    incumbent_scores: Artifact | None = None,
) -> Artifact:
    """Promote a checkpoint if the gate, asked here and now, says so.

    Raises:
        GateRefused: if it does not; then nothing is sealed, and the incumbent stays.
    """
    verdict = judge(scores, incumbent, checkpoint, recipe, incumbent_scores=incumbent_scores)
    if not verdict.promoted:
        raise GateRefused(
            f"{checkpoint.key}: {verdict.verdict}. {'; '.join(verdict.reasons)}. "
            f"{'The champion stays' if incumbent else 'There is no champion yet'}."
        )
    draft.write_json(
        FILE,
        {
            "checkpoint": {**checkpoint.key._asdict(), "digest": checkpoint.digest, "content": checkpoint.content},
            "scores": {**scores.key._asdict(), "digest": scores.digest, "content": scores.content},
            "incumbent": {**incumbent.key._asdict(), "digest": incumbent.digest} if incumbent else None,
            "verdict": verdict.verdict,
            "reasons": verdict.reasons,
            "comparison": [asdict(finding) for finding in verdict.findings],
            "gate": recipe.identity(),
        },
    )
    return draft.seal(
        facts={
            "checkpoint": checkpoint.content,
            "partition": checkpoint.key.partition,
            "verdict": verdict.verdict,
            "reasons": verdict.reasons,
        }
    )


# -- hard limits -----------------------------------------------------------------------------------------------


def mismatch(scores: Artifact, checkpoint: str) -> str:
    """Why these are not the scores of the checkpoint with that content; empty where they are. The records are asked."""
    samples = scores.input("benchmark_samples")
    named = {scores.json(SCORES_FILE)["checkpoint"]}
    for task in read_records(samples):
        named.update(task.strings("checkpoint"))
    if named != {checkpoint}:
        others = ", ".join(sorted(f"{content[:12]}…" for content in named - {checkpoint}))
        return f"the scores are those of {others}, the checkpoint is {checkpoint[:12]}…; score it first"
    if scores.json(SCORES_FILE)["samples"] != samples.content:
        return "the scores were computed from other samples; score again"
    return ""


def broken_limits(scores: Artifact, checkpoint: Artifact, recipe: GateRecipe) -> list[str]:
    """Hard limits that no comparison can outweigh."""
    return [*_diverged(checkpoint), *_no_better_than_bigrams(checkpoint, recipe), *_contaminated(scores, recipe)]


def _diverged(checkpoint: Artifact) -> list[str]:
    losses = checkpoint.table("losses.arrow", ["loss"])["loss"].to_numpy()
    bad = int((~np.isfinite(losses)).sum())
    return [f"{bad} of {len(losses)} training losses are not finite"] if bad or not len(losses) else []


def _no_better_than_bigrams(checkpoint: Artifact, recipe: GateRecipe) -> list[str]:
    found, bigram = (checkpoint.facts.get(name) for name in ("heldout_bpb", "bigram_bpb"))
    if found is None or bigram is None:
        return [
            "the checkpoint has no held-out bits per byte beside a bigram baseline; only pretrained models are judged"
        ]
    limit = bigram * (1 - recipe.min_gain)
    if found < limit:
        return []
    return [
        f"held-out bits per byte {found:.3f} are not below {limit:.3f} (bigram {bigram:.3f}, gain {recipe.min_gain:.0%})"
    ]


def _contaminated(scores: Artifact, recipe: GateRecipe) -> list[str]:
    problems = []
    for task in read_records(scores.input("benchmark_samples")):
        coverage = task.floats("coverage")  # NaN where it was not measured
        bad = int((coverage >= recipe.max_coverage).sum())
        if bad:
            problems.append(
                f"{bad} of {len(task)} items of {task.task} have {recipe.max_coverage:.0%} of their n-grams in training text"
            )
        unknown = int(np.isnan(coverage).sum())
        if recipe.require_coverage and unknown:
            problems.append(f"{unknown} of {len(task)} items of {task.task} were not scanned for contamination")
    return problems


# -- the decision ----------------------------------------------------------------------------------------------


def decide(comparisons: list[Comparison], recipe: GateRecipe) -> tuple[Decision, list[str], list[Finding]]:
    """PROMOTE if no guard may be worse by more than its margin and a primary task is better, beyond chance.

    REJECT if a task certainly is worse by more than its margin; HOLD where the items are too few to tell.
    """
    unlike = [f"{c.task}: {c.unlike}" for c in comparisons if c.unlike]
    missing = [name for name in [*recipe.primary, *recipe.guards] if name not in {c.task for c in comparisons}]
    unlike += [f"{name}: no one answered it; name other tasks in the gate" for name in missing]
    if unlike or not comparisons:
        return "INCOMPARABLE", unlike or ["the two have no task in common"], []
    findings = [_finding(c, recipe) for c in comparisons]
    worse = [f for f in findings if f.outcome == "worse"]
    unclear = [f for f in findings if f.outcome == "unclear" and f.role != "watched"]
    superior = _superior([c for c in comparisons if c.task in recipe.primary], recipe)
    if [f for f in worse if f.role != "watched"]:
        return "REJECT", [_told(f) for f in worse], findings
    if unclear:
        by_task = {c.task: c for c in comparisons}
        needs = [f"{_told(f)}; {_would_tell(f, by_task[f.task])}" for f in unclear]
        return "HOLD", needs, findings
    if recipe.require_superiority and not superior:
        primary = [f for f in findings if f.role == "primary"]
        return "HOLD", [f"no primary task is better beyond chance: {_told(f)}" for f in primary], findings
    return "PROMOTE", [_told(f) for f in findings if f.task in superior or not superior], findings


def _finding(comparison: Comparison, recipe: GateRecipe) -> Finding:
    found = comparison.advantage
    assert found is not None
    margin = recipe.margin_ratio if _is_ratio(comparison.metric) else recipe.margin_bits
    role: Literal["primary", "guard", "watched"] = "watched"
    if comparison.task in recipe.primary:
        role = "primary"
    elif not recipe.guards or comparison.task in recipe.guards:
        role = "guard"
    lower, upper = found.lower(recipe.confidence), found.upper(recipe.confidence)
    outcome = "not worse" if lower >= -margin else "worse" if upper < -margin else "unclear"
    return Finding(
        comparison.task,
        comparison.metric,
        role,
        outcome,
        found.value,
        found.stderr,
        lower if found.stderr is not None else None,
        upper if found.stderr is not None else None,
        margin,
        found.num_items,
        found.num_clusters,
    )


def _would_tell(finding: Finding, comparison: Comparison) -> str:
    if finding.stderr is None:
        return "items of more files would tell"
    number = comparison.needed(finding.margin)
    return f"about {number} items would tell" if number else "a margin above 0 would tell"


def _is_ratio(metric: str) -> bool:
    return metric in {*ACCURACIES, "accuracy", "macro_f1", "rouge_l", "exact_match", "choice_prob"}


def _superior(primary: list[Comparison], recipe: GateRecipe) -> set[str]:
    """Primary tasks with an advantage beyond chance, after Holm's adjustment for their number."""
    adjusted = holm([c.p_value for c in primary])
    return {c.task for c, p in zip(primary, adjusted, strict=True) if p < 1 - recipe.confidence}


def _told(finding: Finding) -> str:
    spread = "of unknown error" if finding.stderr is None else f"± {finding.stderr:.4f}"
    return (
        f"{finding.task} ({finding.role}): {finding.metric} advantage {finding.advantage:+.4f} {spread}, "
        f"margin {finding.margin}, n {finding.n} in {finding.clusters} clusters: {finding.outcome}"
    )
