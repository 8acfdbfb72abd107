"""Distillation: the loss in closed form, who learns, and that teacher and resume are exact."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from jobs import ONE_THREAD, Interrupted, launch_in_process, small_model, small_recipe, stopping

from pipelines.provenance.lineage import bases, teacher
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.verify import verify_artifact
from training.distillation import Distilled, softened
from training.models.gpt import GPT, initialise
from training.models.recipe import GPTRecipe
from training.objectives import NextToken
from training.pretrain import PRETRAIN_VERSION, pretrain
from training.recipes import PretrainRecipe
from training.replay import replay
from training.weights import weights_metadata

SHAPE = GPTRecipe(vocab_size=64, layers=1, width=16, heads=2, kv_heads=1, mlp_width=16, sequence_length=8)


def network(seed: int, **fields: Any) -> GPT:
    made = GPT(SHAPE.model_copy(update=fields))
    initialise(made, 1, seed)
    return made.eval()


def test_the_distance_is_the_divergence_of_two_coins():
    """p = (0.8, 0.2) from q = (0.5, 0.5): KL = 0.8 log 1.6 + 0.2 log 0.4; at T = 2 the odds of 4 become 2."""
    teacher_logits, student_logits = torch.tensor([[math.log(4.0), 0.0]]), torch.zeros(1, 2)
    assert float(softened(student_logits, teacher_logits, 1.0)) == pytest.approx(
        0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    )
    third = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert float(softened(student_logits, teacher_logits, 2.0)) == pytest.approx(4 * third, rel=1e-5)
    assert float(softened(teacher_logits, teacher_logits, 3.0)) == pytest.approx(0.0, abs=1e-6)


def test_at_high_temperature_the_gradient_is_that_of_squared_differences():
    """Hinton et al. 2015, equation 4: T² dKL/dz -> (z - v) / N for logits of mean zero."""
    student = torch.randn(1, 5, dtype=torch.float64)
    student = (student - student.mean()).requires_grad_()
    taught = torch.randn(1, 5, dtype=torch.float64)
    taught -= taught.mean()
    (gradient,) = torch.autograd.grad(softened(student, taught, 1e4).sum(), student)
    assert torch.allclose(gradient, (student - taught) / 5, atol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_text_and_teacher_are_weighed(weight):
    student, master = network(1), network(2, layers=1)
    tokens = torch.randint(0, 64, (3, 9), generator=torch.Generator().manual_seed(0))
    loss = Distilled(student, master, weight, 2.0, 0.0, 0.0)(tokens)
    here, there = student(tokens[:, :-1]).flatten(0, 1), master(tokens[:, :-1]).flatten(0, 1)
    hard = F.cross_entropy(here, tokens[:, 1:].flatten(), reduction="sum")
    assert loss.item() == pytest.approx(
        float((1 - weight) * hard + weight * softened(here, there, 2.0).sum()), rel=1e-5
    )
    if not weight:
        assert loss.item() == pytest.approx(float(NextToken(student)(tokens)), rel=1e-6)


def test_the_teacher_is_asked_and_never_trained():
    objective = Distilled(network(1), network(2), 0.5, 2.0, 0.0, 0.0)
    assert all(name.startswith("network.") for name, _ in objective.named_parameters())
    objective.train()
    objective(torch.zeros(1, 9, dtype=torch.int64)).backward()
    assert not objective.asked[0].training
    assert all(weight.grad is None for weight in objective.asked[0].parameters())
    assert all(weight.grad is not None for weight in objective.network.parameters())


@pytest.fixture(scope="module")
def master(world):
    return small_model(world, "master", steps=60, launch=launch_in_process)


def student(world, master, name: str = "student", launch: Any = launch_in_process, **fields: Any):
    mixture = world.mixture(name, steps=12)
    recipe = small_recipe(layers=1, distil_weight=0.7, dropout=0.1, **fields)

    def make(draft: Any) -> Any:
        return pretrain(
            mixture, recipe, draft, teacher=master, numerics=ONE_THREAD, launch=launch, say=lambda line: None
        )

    key = Key("pretrained_model", name)
    return build(world.store, key, PRETRAIN_VERSION, recipe, [mixture, master], make, numerics=ONE_THREAD).artifact


def test_a_student_names_its_teacher_and_does_not_begin_from_it(world, master):
    found = student(world, master)
    assert verify_artifact(found) == []
    assert master.digest in [i.manifest for i in found.manifest.inputs]
    assert found.facts["teacher"] == master.digest == weights_metadata(found.local("model.safetensors"))["teacher"]
    assert teacher(found) == master
    assert list(bases(found)) == []
    assert teacher(master) is None
    assert found.input("mixture").key.partition == "student"


def test_a_step_with_a_teacher_can_be_taken_again(world, master):
    assert replay(student(world, master), 7, say=lambda line: None)["equal"]


def test_killed_and_resumed_gives_the_bytes_of_the_uninterrupted(world, master, own_world):
    theirs = small_model(own_world, "master", steps=60, launch=launch_in_process)
    with pytest.raises(Interrupted), stopping(after=7):
        student(own_world, theirs)
    assert student(own_world, theirs).digest == student(world, master).digest


def test_another_teacher_or_share_is_another_model(world, master):
    other = small_model(world, "other-master", steps=20, launch=launch_in_process)
    digests = {
        student(world, master).digest,
        student(world, other).digest,
        student(world, master, distil_temperature=4.0).digest,
    }
    assert len(digests) == 3


def test_a_teacher_with_another_vocabulary_is_refused(world, master, tmp_path):
    from small_world import World, docstrings

    texts = {"docs.alpha/1.0": docstrings(40, "alpha")}
    other = World(tmp_path / "store", texts, {"docs.alpha/1.0": docstrings(5, "alpha", first=1000)}, vocab_size=300)
    with pytest.raises(ValueError, match=r"is not the one that pretrained_model.* was trained with"):
        student(other, master)


def test_a_run_without_a_teacher_is_named_as_it_always_was():
    assert not {"distil_weight", "distil_temperature"} & PretrainRecipe().identity().keys()
    with pytest.raises(ValueError, match="is for objective = 'causal'"):
        PretrainRecipe(objective="masked", distil_weight=0.5)
