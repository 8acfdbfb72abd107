"""From checkpoint to records through the real lm-eval, with the network denied."""

import json
import math

import pyarrow as pa
import pytest

from evals.harness import EvalRecipe, answers, config_digest, contamination, finetune_samples, run_suite
from evals.records import EvaluationError, read_records
from evals.scores import ScoreRecipe, score, task_rows
from evals.suites import SuiteRecipe
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store

RECIPE = EvalRecipe()


def asked(store, checkpoint, suites, recipe=RECIPE):
    draft = store.draft(Key("benchmark_samples", "again"), "1", recipe.identity(), [checkpoint, *suites])
    return run_suite(checkpoint, suites, recipe, draft)


def test_every_item_of_every_task_is_answered_once(world):
    samples = world.samples["first"]
    assert samples.names() == ["bpb.parquet", "continuation.parquet", "lastword.parquet", "samples.json"]
    assert samples.counts == {"tasks": 3, "items": 48}
    items = world.suite.table("items.arrow").to_pylist()
    for task in read_records(samples):
        assert task.strings("item_id") == [row["item_id"] for row in items if row["task"] == task.task]
        assert task.strings("cluster") == [row["cluster"] for row in items if row["task"] == task.task]
        assert set(task.strings("checkpoint")) == {world.checkpoints["first"].content}
        assert set(task.strings("suite")) == {world.suite.content}


def test_records_hold_what_a_score_needs(world):
    bpb, continuation, lastword = read_records(world.samples["first"])
    choices = [json.loads(line) for line in world.suite.local("continuation.jsonl").read_text().splitlines()]
    assert continuation.table["gold"].to_pylist() == [doc["gold"] for doc in choices]
    assert continuation.lists("num_bytes") == [[len(c.encode()) for c in doc["choices"]] for doc in choices]
    for lls, sizes, gold, right in zip(
        continuation.lists("logliks"),
        continuation.lists("num_bytes"),
        continuation.table["gold"].to_pylist(),
        continuation.floats("metric.acc_bytes"),
        strict=True,
    ):
        rates = [ll / size for ll, size in zip(lls, sizes, strict=True)]
        assert right == float(rates.index(max(rates)) == gold)
    assert lastword.lists("greedy") == [[bool(acc)] for acc in lastword.floats("metric.acc")]
    assert bpb.floats("metric.bits_per_byte").tolist() == [ll for [ll] in bpb.lists("logliks")]


def test_answering_again_gives_the_same_bytes(world):
    again = asked(world.store, world.checkpoints["first"], [world.suite])
    assert again.content == world.samples["first"].content
    assert again.content != world.samples["second"].content


def test_nothing_of_this_machine_or_hour_is_sealed(world):
    for artifact in (world.suite, world.samples["first"], world.scores["first"]):
        told = artifact.manifest.canonical().decode()
        told += "".join(artifact.local(name).read_text() for name in artifact.names(".json"))
        assert str(world.store.url) not in told
        assert "/tmp" not in told
        assert "time" not in told


def test_a_quick_look_answers_the_first_items_only(world):
    quick = asked(world.store, world.checkpoints["first"], [world.suite], EvalRecipe(max_items=3))
    for task, whole in zip(read_records(quick), read_records(world.samples["first"]), strict=True):
        assert task.strings("item_id") == whole.strings("item_id")[:3]


def test_a_diverged_model_has_no_score_at_all(world, make_checkpoint, tmp_path):
    store = Store(tmp_path)
    for name, value, told in (("huge", 3e38, "no finite log-likelihood"), ("broken", math.nan, "NaN or infinite")):
        spoilt = make_checkpoint(store, name, spoil=lambda model, value=value: model.model.norm.weight.fill_(value))
        with pytest.raises((EvaluationError, ValueError), match=told):
            asked(store, spoilt, [world.suite])
    assert store.sealed(Key("benchmark_samples", "again")) == []


def test_two_suites_may_not_share_a_task(world):
    with pytest.raises(EvaluationError, match="two suites hold a task named bpb"):
        asked(world.store, world.checkpoints["first"], [world.suite, world.suite])
    with pytest.raises(EvaluationError, match="no suite to answer"):
        asked(world.store, world.checkpoints["first"], [])


def test_coverage_comes_from_the_documents_this_checkpoint_was_trained_on(world, make_checkpoint):
    ids = world.suite.table("items.arrow")["item_id"].to_pylist()
    draft = world.store.draft(Key("training_documents", "small"), "1", {}, [world.suite])
    rows = [
        ("small", ids[0], "ngram", 0.9, 0.9),
        ("small", ids[1], "phrase", 1.0, 0.1),
        ("small", ids[2], "no", 0.0, 0.0),
        ("another", ids[3], "ngram", 0.9, 0.9),
    ]
    names = ["suite", "item_id", "check", "coverage", "kept_coverage"]
    draft.write("items.arrow", pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]))
    model = make_checkpoint(world.store, "traced", inputs=[draft.seal()])
    assert contamination(model, world.suite) == {ids[0]: 0.9, ids[1]: 0.1}
    assert contamination(world.checkpoints["first"], world.suite) == {}
    records = {t.task: t for t in read_records(asked(world.store, model, [world.suite]))}
    known = records[ids[0].split("-")[0]]
    assert known.table["coverage"].to_pylist()[:3] == [0.9, 0.1, None]
    rows = task_rows(known, ScoreRecipe())
    assert {(r["subset"], r["n"]) for r in rows} == {("all", 16), ("clean", 1)}


def test_an_item_that_was_flagged_is_not_among_the_clean_ones(world, make_checkpoint):
    """Also one of which less is shown than scores would forgive."""
    ids = [i for i in world.suite.table("items.arrow")["item_id"].to_pylist() if i.startswith("bpb-")][:3]
    draft = world.store.draft(Key("training_documents", "small"), "2", {}, [world.suite])
    rows = [
        ("small", ids[0], "ngram", 0.45, "dirty"),
        ("small", ids[1], "ngram", 0.3, "clean"),
        ("small", ids[2], "ngram", 0.0, "clean"),
    ]
    names = ["suite", "item_id", "check", "kept_coverage", "status"]
    draft.write("items.arrow", pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]))
    model = make_checkpoint(world.store, "flagged", inputs=[draft.seal()])
    records = {t.task: t for t in read_records(asked(world.store, model, [world.suite]))}["bpb"]
    dirty = dict(zip(records.strings("item_id"), records.strings("dirty"), strict=True))
    assert [dirty[i] for i in ids] == [True, False, False]
    clean = [r for r in task_rows(records, ScoreRecipe()) if r["subset"] == "clean"]
    assert {r["n"] for r in clean} == {2}
    assert all(r["stderr"] is not None for r in clean)


def test_a_tasks_configuration_is_known_by_its_settings_not_its_place():
    one = {
        "task": "t",
        "doc_to_text": "x",
        "dataset_kwargs": {"data_files": "/a"},
        "metadata": {"config_source": "/a/t"},
    }
    two = {
        "task": "t",
        "doc_to_text": "x",
        "dataset_kwargs": {"data_files": "/b"},
        "metadata": {"config_source": "/b/t"},
    }
    assert config_digest(one) == config_digest(two) != config_digest({**one, "doc_to_text": "y"})


def test_lm_eval_computes_the_same_numbers(world):
    """Our aggregates against those in lm-eval's own results."""
    import lm_eval

    from evals.benchmarks import manager, offline
    from evals.language_model import StemmaLM
    from evals.suites import unpacked

    model = StemmaLM.of(world.checkpoints["first"], batch_tokens=8192, max_new_tokens=8)
    with offline(), unpacked(world.suite) as folder:
        found = lm_eval.simple_evaluate(
            model=model, tasks=["bpb", "continuation", "lastword"], task_manager=manager(folder), bootstrap_iters=0
        )["results"]
    ours = {(r["task"], r["metric"]): r for r in world.scores["first"].json("scores.json")["scores"]}
    for task, metric in (
        ("bpb", "bits_per_byte"),
        ("continuation", "acc"),
        ("continuation", "acc_bytes"),
        ("lastword", "acc"),
        ("lastword", "perplexity"),
    ):
        assert ours[task, metric]["value"] == pytest.approx(found[task][f"{metric},none"], rel=1e-9)


def test_scores_carry_n_error_interval_and_baseline(world):
    scores = world.scores["first"]
    assert scores.facts["checkpoint"] == world.checkpoints["first"].content
    assert scores.facts["samples"] == world.samples["first"].content
    table = scores.table("scores.arrow").to_pylist()
    assert [(r["task"], r["metric"]) for r in table if r["headline"]] == [
        ("bpb", "bits_per_byte"),
        ("continuation", "acc_bytes"),
        ("lastword", "acc"),
    ]
    for row in table:
        assert row["n"] == 16
        assert 2 <= row["clusters"] <= 16
        assert row["low"] <= row["value"] <= row["high"]
        assert row["stderr"] >= 0
    baseline = {(r["task"], r["metric"]): r["baseline"] for r in table}
    assert (baseline["continuation", "acc"], baseline["bpb", "bits_per_byte"]) == (0.25, 8.0)
    again = score(world.samples["first"], ScoreRecipe(), world.store.draft(Key("benchmark_scores", "x"), "1", {}, []))
    assert again.content == scores.content


def test_the_model_asked_is_the_one_that_is_recorded(world):
    class Parrot:
        pass

    with pytest.raises(TypeError, match="LM"):
        answers(Parrot(), world.checkpoints["first"], world.suite, RECIPE)


def finetuned(store, task, file, table, classes=()):
    heldout = store.draft(Key("heldout_documents", "small"), "1", {}, [])

    def documents(draft):
        draft.write("documents.arrow", pa.table({"doc_id": table["doc_id"], "file": ["a.py", "a.py", "b.py"]}))
        return draft.seal()

    part = heldout.part("docs.a/1", SuiteRecipe(), [], documents)
    shards = store.draft(Key("finetuning_shards", task), "1", {}, [heldout.seal(parts=[part])]).seal(
        facts={"task": task}
    )
    draft = store.draft(Key("finetuned_model", task), "1", {}, [shards])
    draft.write(file, table)
    return draft.seal(facts={"task": task, "classes": list(classes)})


def finetune_scores(store, model):
    draft = store.draft(Key("benchmark_samples", "f"), "1", RECIPE.identity(), [model])
    samples = finetune_samples(model, RECIPE, draft)
    scores = score(samples, ScoreRecipe(), store.draft(Key("benchmark_scores", "f"), "1", {}, [samples]))
    return read_records(samples)[0], {r["metric"]: r for r in scores.json("scores.json")["scores"]}


def test_a_classifier_is_scored_by_what_it_said_of_held_out_passages(tmp_path):
    ids = pa.array([bytes([i]) * 16 for i in range(3)], pa.binary(16))
    table = pa.table(
        {
            "doc_id": ids,
            "label": [0, 1, 1],
            "predicted": pa.array([0, 1, 0], pa.int32()),
            "probabilities": pa.array([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]], pa.list_(pa.float32())),
        }
    )
    store = Store(tmp_path)
    records, scores = finetune_scores(
        store, finetuned(store, "classifier", "predictions.arrow", table, ["numpy", "polars"])
    )
    assert records.strings("answer") == ["numpy", "polars", "numpy"]
    assert records.strings("cluster") == ["docs.a/1:a.py", "docs.a/1:a.py", "docs.a/1:b.py"]
    assert scores["accuracy"]["value"] == pytest.approx(2 / 3)
    assert (scores["accuracy"]["baseline"], scores["accuracy"]["clusters"]) == (0.5, 2)
    assert scores["macro_f1"]["value"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert scores["macro_f1"]["headline"]


def test_a_summary_writer_is_scored_by_rouge(tmp_path):
    ids = pa.array([bytes([i]) * 16 for i in range(3)], pa.binary(16))
    table = pa.table(
        {
            "doc_id": ids,
            "prompt": ["x", "y", "z"],
            "reference": ["Return the value."] * 3,
            "generated": ["Return the value.", "Return a value.", ""],
        }
    )
    store = Store(tmp_path)
    records, scores = finetune_scores(store, finetuned(store, "summary", "generations.arrow", table))
    assert records.output == "generation"
    assert scores["rouge_l"]["value"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert scores["rouge_l"]["n"] == 3
