"""Fine-tuning as tasks of the loop: batches of unequal examples, what starts from which weights, what is answered."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from echo import V, echo, silent

from pipelines.provenance.manifest import file_entry
from pipelines.provenance.tables import read_table, write_table
from training import numerics
from training.finetune import plan_of
from training.finetuning import GENERATED, PREDICTIONS, ExampleSource, finetuning, predictions
from training.job import Job, JobFile
from training.models.classifier import GPTClassifier
from training.models.gpt import initialise
from training.recipes import FinetuneRecipe
from training.weights import load_weights, save_weights

ROWS = [[2, 9, 9, 3, 9, 0], [2, 7, 3, 7, 7, 7, 0], [2, 5, 5, 5, 3, 5, 0], [2, 3, 8, 0]]
STARTS = [4, 3, 5, 2]


def table(rows=ROWS, starts=STARTS, labels=None):
    return pa.table({
        "doc_id": pa.array([bytes([i]) * 16 for i in range(len(rows))], pa.binary(16)),
        "tokens": pa.array(rows, pa.large_list(pa.uint16())),
        "answer_start": pa.array(starts, pa.int32()),
        "label": pa.array(labels or [-1] * len(rows), pa.int32()),
    })  # fmt: skip


def file_of(path):
    entry = file_entry(path.parent, path.name)
    return JobFile(path=path, bytes=entry.bytes, blake3=entry.blake3)


def job_of(folder, kind="summary", network=None, rows=None, change=None, **fields):
    """A fine-tune of the echo on four examples, as a job."""
    network = network or echo()
    weights = dict(network.state_dict())
    if change:
        change(weights)
    save_weights(folder / "base.safetensors", weights, {})
    write_table(folder / "train.arrow", rows or table(labels=[0, 1, 0, 1]))
    write_table(folder / "test.arrow", rows or table(labels=[0, 1, 0, 1]))
    recipe = FinetuneRecipe(**{"dtype": "fp32", "compile": "off", "batch_size": 2, "epochs": 1, **fields})
    return Job(
        kind=kind, version="1", run="r", directory=folder, model=network.recipe, recipe=recipe.identity(),
        numerics=numerics.numerics("off", threads=1), plan=plan_of(4, recipe, 16), header={}, eos_id=0, pad_id=1,
        base=file_of(folder / "base.safetensors"), num_tokens=V,
        examples={name: file_of(folder / f"{name}.arrow") for name in ("train", "test")},
        class_weights=[0.5, 1.5] if kind == "classifier" else [],
    ), recipe  # fmt: skip


def task_of(folder, **fields):
    job, recipe = job_of(folder, **fields)
    return finetuning(job, recipe, torch.device("cpu"), 0, 1)


# -- batches of examples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3], [3], [2, 0], [1, 1]])
def test_a_batch_holds_every_example_and_nothing_but_padding_behind_it(chosen):
    source = ExampleSource(table(), 1, [])
    index = np.array(chosen)
    inputs = source.collate(source.rows(index, index), index)
    assert inputs.tokens_BT.shape == (len(chosen), 16)  # a multiple of 16, so that few shapes occur
    for row, which in zip(inputs.tokens_BT.tolist(), chosen, strict=True):
        assert row[: len(ROWS[which])] == ROWS[which]
        assert set(row[len(ROWS[which]) :]) == {1}
    assert source.total(index) == inputs.weights_BT.sum().item()


def test_an_example_of_seventeen_tokens_needs_two_widths():
    long = [[2, *[9] * 13, 3, 9, 0]]
    source = ExampleSource(table(long, [15]), 1, [])
    assert source.collate(source.rows(np.array([0]), np.array([0])), np.array([0])).tokens_BT.shape == (1, 32)


def test_only_the_answer_is_learnt_whatever_the_prompt_and_the_padding_are():
    """Changing a prompt's last target, or the padding, changes no gradient of the echo beyond what it reads."""
    source = ExampleSource(table(), 1, [])
    index = np.arange(4)
    inputs = source.collate(source.rows(index, index), index)
    losses = silent().losses(inputs.tokens_BT)
    answers = [row[start:] for row, start in zip(ROWS, STARTS, strict=True)]
    weighed = (losses * inputs.weights_BT).sum().item()
    assert weighed == pytest.approx(sum(map(len, answers)) * np.log(V), rel=1e-5)
    counted = [row[1:][weights > 0].tolist() for row, weights in zip(inputs.tokens_BT, inputs.weights_BT, strict=True)]
    assert counted == answers


def test_the_weight_of_a_batch_is_that_of_its_classes():
    source = ExampleSource(table(labels=[0, 1, 0, 1]), 1, [0.5, 1.5])
    assert source.total(np.array([0, 1, 3])) == 0.5 + 1.5 + 1.5
    assert source.total(np.array([2])) == 0.5


def test_examples_in_several_record_batches_are_the_same_examples():
    whole = table()
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])
    for one, other in ((whole, pieces), (whole.slice(1), pieces.slice(1))):
        a, b = ExampleSource(one, 1, []), ExampleSource(other, 1, [])
        assert [row.tolist() for row in a.tokens] == [row.tolist() for row in b.tokens]
        assert a.starts.tolist() == b.starts.tolist()
    assert [row.tolist() for row in ExampleSource(whole.slice(1), 1, []).tokens] == ROWS[1:]


# -- what a task starts from -----------------------------------------------------------------------------------


def test_a_fine_tune_starts_from_the_weights_of_its_base(tmp_path):
    task = task_of(tmp_path)
    for name, weight in load_weights(tmp_path / "base.safetensors").items():
        assert torch.equal(task.objective.network.state_dict()[name], weight), name


def test_the_head_of_a_classifier_is_drawn_by_the_seed_and_the_rest_is_the_base(tmp_path):
    one, same, other = (
        task_of(tmp_path, kind="classifier", seed=seed).objective.network.state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(one["score.weight"], same["score.weight"])
    assert not torch.equal(one["score.weight"], other["score.weight"])
    assert torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    "change",
    [lambda w: w.pop("model.norm.weight"), lambda w: w.update({"model.extra": torch.ones(1)})],
    ids=["missing", "left over"],
)
def test_a_base_that_does_not_fit_is_told_with_the_key(tmp_path, change):
    with pytest.raises(ValueError, match=r"base\.safetensors does not fit the model: .*model\.(norm\.weight|extra)"):
        task_of(tmp_path, change=change)


def test_a_classifier_is_no_base_for_a_writer(tmp_path):
    with pytest.raises(ValueError, match=r"does not fit the model: .*score\.weight"):
        task_of(tmp_path, change=lambda w: w.update({"score.weight": torch.ones(2, V)}))


def test_a_base_of_another_width_is_told(tmp_path):
    with pytest.raises(RuntimeError, match=r"size mismatch for model\.norm\.weight"):
        task_of(tmp_path, change=lambda w: w.update({"model.norm.weight": torch.ones(32)}))


# -- what is answered ------------------------------------------------------------------------------------------


def test_the_echo_answers_every_prompt_with_its_mark_and_stops_at_the_limit(tmp_path):
    """The last token of every prompt is <|assistant|> (3): the echo says it until it may say no more."""
    task = task_of(tmp_path, max_answer_tokens=5)
    task.finish(tmp_path)
    found = read_table(tmp_path / GENERATED).to_pylist()
    assert [row["tokens"] for row in found] == [[3] * 5] * 4
    assert [row["doc_id"] for row in found] == [bytes([i]) * 16 for i in range(4)]
    assert task.objective.training


def test_an_answer_never_outgrows_the_context(tmp_path):
    task = task_of(tmp_path, max_answer_tokens=500)
    task.finish(tmp_path)
    assert {len(row) for row in read_table(tmp_path / GENERATED)["tokens"].to_pylist()} == {15}  # the context has 16


def biased():
    """Class 1 if the last token is 7, class 0 if it is 9, no opinion otherwise."""
    network = GPTClassifier(echo().recipe, 2).eval()
    network.load_state_dict(echo().state_dict(), strict=False)
    with torch.no_grad():
        network.score.weight.zero_()
        network.score.weight[1, 7] = network.score.weight[0, 9] = 1.0
    return network


@torch.no_grad()
def predicted(network, rows, labels=None):
    return predictions(network, table(rows, [len(row) for row in rows], labels), 1, torch.device("cpu"))


def test_predictions_by_hand_in_the_order_of_the_examples():
    """The last tokens are 7, 9, 7 and 5; a hidden channel is 8 there, so that the odds are e^8 : 1."""
    found = predicted(biased(), [[4, 5, 7], [9], [8, 8, 8, 8, 7], [5, 5]], [1, 0, 0, 0]).to_pylist()
    assert [row["predicted"] for row in found] == [1, 0, 1, 0]
    assert [row["label"] for row in found] == [1, 0, 0, 0]
    sure = float(1 / (1 + np.exp(-8.0)))
    for row, wanted in zip(found, ([1 - sure, sure], [sure, 1 - sure], [1 - sure, sure], [0.5, 0.5]), strict=True):
        assert row["probabilities"] == pytest.approx(wanted, abs=1e-4)


def test_predictions_do_not_depend_on_what_else_is_asked():
    network = GPTClassifier(echo().recipe, 3).eval()
    initialise(network, 2, 0)
    draw = np.random.default_rng(0)
    rows = [draw.integers(2, V, int(size)).tolist() for size in draw.integers(1, 16, 150)]  # three batches of 64
    whole = predicted(network, rows)["probabilities"]
    for index in (0, 77, 149):
        alone = predicted(network, [rows[index]])["probabilities"]
        assert alone[0].as_py() == pytest.approx(whole[index].as_py(), abs=1e-5)


def test_a_classifier_writes_its_predictions_beside_the_checkpoint(tmp_path):
    task = task_of(tmp_path, kind="classifier")
    assert task.evaluate(last=True) == {}
    task.finish(tmp_path)
    found = read_table(tmp_path / PREDICTIONS)
    assert found["label"].to_pylist() == [0, 1, 0, 1]
    assert [len(p) for p in found["probabilities"].to_pylist()] == [2] * 4
    assert not (tmp_path / GENERATED).exists()
