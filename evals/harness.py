"""The harness: a checkpoint answers a suite through lm-eval, and every answer is kept.

lm-eval's caches are never used: one serves another model's answers, the other old prompts (lm-evaluation-harness
#2715). Our cache is the artifact itself. Its bootstrap is off as well: errors are computed from the records.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from evals.benchmarks import manager, offline
from evals.metrics import AGGREGATIONS, PER_UNIT
from evals.records import METRIC, WEIGHT, EvaluationError, TaskRecords, records, write_records
from evals.suites import items_of, unpacked
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.lineage import ancestors
from pipelines.provenance.recipe import Recipe, canonical_json, digest
from pipelines.provenance.tables import read_batches

SAMPLES_VERSION = "2"
TINY = 1.2e-38  # smallest normal float32: a class that the model rules out
REPORT = "items.arrow"  # of training_documents: how much of every benchmark item was found


class EvalRecipe(Recipe):
    """How a checkpoint is asked. Batches stand here because they move the last bits of a likelihood."""

    num_fewshot: int = Field(
        default=-1, ge=-1, le=64, description="Solved examples before each item; -1: as the task says"
    )
    max_items: int = Field(default=0, ge=0, description="Only the first items of each task, for a quick look; 0: all")
    batch_tokens: int = Field(default=8192, ge=1, description="Tokens of one forward pass, padding included")
    max_new_tokens: int = Field(default=64, ge=1, description="Longest generated text, where the task does not say")
    seed: int = Field(default=1234, ge=0, description="Draws the solved examples")


def run_suite(
    checkpoint: Artifact, suites: list[Artifact], recipe: EvalRecipe, draft: Draft, *, device: str = "cpu"
) -> Artifact:
    """Ask a checkpoint every item of some suites.

    Args:
        checkpoint: a pretrained model.
        suites: benchmark_prompts; task names must differ among them.
        recipe: how it is asked.
        draft: of benchmark_samples[checkpoint].
        device: where the model runs.

    Raises:
        EvaluationError: if a task cannot be evaluated; nothing is sealed then, and nothing scores 0.
    """
    if not suites:
        raise EvaluationError(f"{checkpoint.key}: no suite to answer; name one in the run's `suites`.")
    from evals.language_model import StemmaLM

    model = StemmaLM.of(
        checkpoint, batch_tokens=recipe.batch_tokens, max_new_tokens=recipe.max_new_tokens, device=device
    )
    found = [task for suite in suites for task in answers(model, checkpoint, suite, recipe)]
    write_records(draft, found, checkpoint.content)
    counts = {"tasks": len(found), "items": sum(len(task) for task in found)}
    return draft.seal(
        counts=counts, facts={"checkpoint": checkpoint.content, "suites": {s.key.partition: s.content for s in suites}}
    )


def answers(model: Any, checkpoint: Artifact, suite: Artifact, recipe: EvalRecipe) -> list[TaskRecords]:
    """The records of every task of one suite, from one call of lm-eval."""
    items = items_of(suite)
    coverage, dirty = contamination(checkpoint, suite), dirty_items(checkpoint, suite)
    with offline(), unpacked(suite) as folder:
        task_manager = manager(folder)
        tasks = task_manager.load(list(items))["tasks"]
        check_aggregations(tasks)
        results = _evaluated(model, list(items), task_manager, recipe)
    found = []
    for task, rows in items.items():
        config = results["configs"][task]
        facts = {
            "output": config["output_type"],
            "version": str(results["versions"][task]),
            "config": config_digest(config),
            "suite": suite.content,
            "fewshot": results["n-shot"][task],
            "higher_is_better": {k: bool(v) for k, v in sorted(results["higher_is_better"][task].items())},
        }
        samples = sorted(results["samples"][task], key=lambda s: s["doc_id"])
        check_measured(task, tasks[task].config.metric_list or [], samples)
        identity = {"checkpoint": checkpoint.content, "suite": suite.content, "task": task, "config": facts["config"]}
        made = [_record(tasks[task], sample, rows[sample["doc_id"]], coverage, dirty) | identity for sample in samples]
        found.append(records(task, facts, made))
    return found


def _evaluated(model: Any, tasks: list[str], task_manager: Any, recipe: EvalRecipe) -> dict[str, Any]:
    import lm_eval

    evaluate: Any = lm_eval.simple_evaluate  # its decorator hides the signature
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars; what it logs is still heard
        results = evaluate(
            model=model,
            tasks=tasks,
            task_manager=task_manager,
            limit=recipe.max_items or None,
            num_fewshot=None if recipe.num_fewshot < 0 else recipe.num_fewshot,
            fewshot_random_seed=recipe.seed,
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,  # greedy answers draw no random numbers
            bootstrap_iters=0,
            log_samples=True,
            use_cache=None,
            cache_requests=False,
        )
    missing = [t for t in tasks if not results or not results["samples"].get(t)]
    if missing:
        raise EvaluationError(f"lm-eval gave no answers for {', '.join(missing)}.")
    return results


def check_aggregations(tasks: Mapping[str, Any]) -> None:
    """Before the model runs: can every metric be computed from the records?"""
    for name, task in sorted(tasks.items()):
        for metric in task.config.metric_list or []:
            way = metric.get("aggregation", "mean")
            if not isinstance(way, str) or way not in AGGREGATIONS:
                raise EvaluationError(
                    f"task {name}: metric {metric['metric']} is aggregated by {way!r}; "
                    f"known are {', '.join(sorted(AGGREGATIONS))}. Leave it out of metric_list."
                )


def check_measured(name: str, wanted: list[dict[str, Any]], samples: list[dict[str, Any]]) -> None:
    """lm-eval passes over a metric that it does not know, or not for this kind of task; the scores would lack it."""
    missing = sorted({str(each["metric"]) for each in wanted} - {m for s in samples for m in s["metrics"]})
    if missing:
        raise EvaluationError(
            f"task {name}: lm-eval did not measure {', '.join(missing)}. Correct the name or leave it out of metric_list."
        )


def config_digest(config: dict[str, Any]) -> str:
    """Digest of a task's merged configuration, without where it lay; the data are named by the suite's digest."""
    kept = {k: v for k, v in config.items() if k not in {"dataset_kwargs", "dataset_path", "dataset_name"}}
    kept["metadata"] = {k: v for k, v in (config.get("metadata") or {}).items() if k != "config_source"}
    return digest(canonical_json(json.loads(json.dumps(kept, default=_code))))


def _code(value: Any) -> str:
    """Functions of a task by their source text: their addresses differ from run to run."""
    return inspect.getsource(value)


def _record(
    task: Any, sample: dict[str, Any], item: dict[str, Any], coverage: Mapping[str, float], dirty: set[str]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "item_id": item["item_id"],
        "cluster": item["cluster"],
        "doc_hash": sample["doc_hash"],
        "prompt_hash": sample["prompt_hash"],
        "target_hash": sample["target_hash"],
        "coverage": coverage.get(item["item_id"]),
        "dirty": item["item_id"] in dirty if item["item_id"] in coverage else None,
        "reference": str(sample["target"]),
    }
    answered = sample["filtered_resps"]
    if task.OUTPUT_TYPE == "generate_until":
        row["answer"] = str(answered[0])
    elif task.OUTPUT_TYPE == "loglikelihood_rolling":
        row |= {"logliks": [float(answered[0])], "num_bytes": [len(str(sample["target"]).encode())]}
    else:
        choices = len(task.doc_to_choice(sample["doc"])) if task.OUTPUT_TYPE == "multiple_choice" else 1
        asked = list(zip(answered, sample["arguments"], strict=True))[:choices]
        row |= {
            "logliks": [float(loglik) for (loglik, _), _ in asked],
            "greedy": [bool(greedy) for (_, greedy), _ in asked],
            "num_bytes": [len(args[1].encode()) for _, args in asked],
            "gold": _gold(task, sample) if task.OUTPUT_TYPE == "multiple_choice" else None,
        }
    for name in sample["metrics"]:
        row |= _measured(name, sample[name])
    return row


def _gold(task: Any, sample: dict[str, Any]) -> int:
    """Index of the right choice; in tasks of the Winograd kind it stands where the text usually does."""
    gold = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    gold = gold[0] if isinstance(gold, list) else gold
    return task.doc_to_choice(sample["doc"]).index(gold) if isinstance(gold, str) else int(gold)


def _measured(name: str, value: Any) -> dict[str, float]:
    """A metric of one item: a number, or (log-likelihood, units) for bits per byte and perplexities."""
    if isinstance(value, (list, tuple)):
        if name not in PER_UNIT or len(value) != 2:
            raise EvaluationError(
                f"metric {name} gives {type(value).__name__} of {len(value)} for one item, "
                "not a number; leave it out of metric_list."
            )
        return {METRIC + name: float(value[0]), WEIGHT + name: float(value[1])}
    number = float(value)
    if not math.isfinite(number):
        raise EvaluationError(f"metric {name} is {number} for an item; the weights have diverged.")
    return {METRIC + name: number}


# -- fine-tunes: they were asked when they were trained --------------------------------------------------------


def finetune_samples(checkpoint: Artifact, recipe: EvalRecipe, draft: Draft) -> Artifact:
    """The answers that a fine-tune gave on its own held-out examples, as records.

    Args:
        checkpoint: a finetuned model with ``predictions.arrow`` or ``generations.arrow``.
        recipe: ``max_items`` is what it uses.
        draft: of benchmark_samples[checkpoint].
    """
    task = str(checkpoint.facts["task"])
    shards = checkpoint.input("finetuning_shards")
    output = "classification" if task == "classifier" else "generation"
    found = _predictions(checkpoint) if output == "classification" else _generations(checkpoint)
    found = found[: recipe.max_items or None]
    config = digest(canonical_json([task, checkpoint.facts.get("classes")]))
    clusters = _files_of(shards.input("heldout_documents"), {row["doc_id"] for row in found})
    rows = [
        {
            "checkpoint": checkpoint.content,
            "suite": shards.content,
            "task": task,
            "config": config,
            "item_id": f"{task}-{row['doc_id'].hex()}",
            "cluster": clusters.get(row["doc_id"], ""),
            "doc_hash": row["doc_id"].hex(),
            **{name: row[name] for name in ("answer", "reference", "logliks", "gold", "prompt_hash") if name in row},
        }
        for row in found
    ]
    facts = {"output": output, "version": SAMPLES_VERSION, "config": config, "suite": shards.content, "fewshot": 0}
    write_records(draft, [records(task, facts, rows)], checkpoint.content)
    return draft.seal(
        counts={"tasks": 1, "items": len(rows)},
        facts={"checkpoint": checkpoint.content, "suites": {shards.key.partition: shards.content}},
    )


def _predictions(checkpoint: Artifact) -> list[dict[str, Any]]:
    classes = checkpoint.facts["classes"]
    return [
        {
            "doc_id": row["doc_id"],
            "answer": classes[row["predicted"]],
            "reference": classes[row["label"]],
            "logliks": [math.log(max(p, TINY)) for p in row["probabilities"]],
            "gold": row["label"],
        }
        for row in checkpoint.table("predictions.arrow").to_pylist()
    ]


def _generations(checkpoint: Artifact) -> list[dict[str, Any]]:
    return [
        {
            "doc_id": row["doc_id"],
            "answer": row["generated"],
            "reference": row["reference"],
            "prompt_hash": digest(row["prompt"].encode()),
        }
        for row in checkpoint.table("generations.arrow").to_pylist()
    ]


def _files_of(documents: Artifact, wanted: set[bytes]) -> dict[bytes, str]:
    """The file that each document stands in: documents of one file are alike, so errors are clustered by it."""
    found = {}
    for part in documents.parts():
        for batch in read_batches(part.local("documents.arrow"), ["doc_id", "file"]):
            pairs = zip(batch["doc_id"].to_pylist(), batch["file"].to_pylist(), strict=True)
            found.update((doc_id, f"{part.key.part}:{file}") for doc_id, file in pairs if doc_id in wanted)
    return found


# -- contamination, from our own lineage -----------------------------------------------------------------------


def contamination(checkpoint: Artifact, suite: Artifact) -> dict[str, float]:
    """By item: the highest share of it that one document shows which this very checkpoint was trained on.

    Decontamination leaves a report in training_documents; which one is this checkpoint's is a matter of lineage.
    Items that it could not check, and suites that it did not know with these bytes, are absent.
    """
    found: dict[str, float] = {}
    for row in _reported(checkpoint, suite):
        found[row["item_id"]] = max(row["kept_coverage"], found.get(row["item_id"], 0.0))
    return found


def dirty_items(checkpoint: Artifact, suite: Artifact) -> set[str]:
    """Items that decontamination found in the documents which this very checkpoint was trained on, and let stay."""
    return {row["item_id"] for row in _reported(checkpoint, suite) if row.get("status") == "dirty"}


def _reported(checkpoint: Artifact, suite: Artifact) -> Iterator[dict[str, Any]]:
    """Rows of the reports on this suite, of the items that could be checked."""
    for artifact in ancestors(checkpoint):
        if artifact.key.asset != "training_documents" or REPORT not in artifact.names():
            continue
        scanned = {s.key.partition for s in artifact.inputs("benchmark_prompts") if s.content == suite.content}
        for row in artifact.table(REPORT).to_pylist():
            if row["suite"] in scanned and row["check"] != "no":
                yield row
