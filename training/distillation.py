"""Distillation: a run learns what a larger one would say, beside what stands in the text.

    loss = (1 - w) · cross-entropy + w · T² · KL(teacher || student),  both softened by temperature T

(Hinton et al. 2015, arXiv:1503.02531, section 2; T² keeps the gradients' size when T is changed.) Imports torch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor

from training.job import Job
from training.models.gpt import GPT
from training.networks import network_of
from training.objectives import NextToken
from training.recipes import PretrainRecipe


class Distilled(NextToken):
    """Next tokens, weighed between the text's and the teacher's.

    Args:
        network: student.
        teacher: is asked, never trained: no part of what is optimised, saved or sharded.
        weight: of the teacher, from 0 to 1.
        temperature: of both distributions.
        label_smoothing, z_loss: of the cross-entropy, as :class:`NextToken` has them.
    """

    def __init__(
        self, network: GPT, teacher: GPT, weight: float, temperature: float, label_smoothing: float, z_loss: float
    ) -> None:
        super().__init__(network, label_smoothing, z_loss)
        self.weight, self.temperature = weight, temperature
        self.asked = (teacher.eval().requires_grad_(False),)  # in a tuple, where torch does not look for modules

    def forward(
        self, tokens_BT: Tensor, weights_BT: Tensor | None = None, labels_B: Tensor | None = None,
        ends_B: Tensor | None = None, places_BK: Tensor | None = None, truths_BK: Tensor | None = None,
        documents_BT: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        del labels_B, ends_B, places_BK, truths_BK
        documents_BT = None if documents_BT is None else documents_BT[:, 1:]
        logits_NV = self.network(tokens_BT[:, :-1], documents_BT=documents_BT).flatten(0, 1).float()
        taught_NV = self._taught(tokens_BT[:, :-1], documents_BT)
        hard_N = self.costs(logits_NV, tokens_BT[:, 1:].flatten())
        costs_N = (1 - self.weight) * hard_N + self.weight * softened(logits_NV, taught_NV, self.temperature)
        return (costs_N.view(len(tokens_BT), -1) * (1.0 if weights_BT is None else weights_BT)).sum()

    def _taught(self, tokens_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
        teacher = self.asked[0].to(tokens_BT.device)
        with torch.no_grad():
            return teacher(tokens_BT, documents_BT=documents_BT).flatten(0, 1).float()


def softened(student_NV: Tensor, teacher_NV: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher || student) at a temperature, [N]; rows of the vocabulary that only one of them has are left out."""
    size = min(student_NV.shape[1], teacher_NV.shape[1])
    student_NV = F.log_softmax(student_NV[:, :size] / temperature, -1)
    teacher_NV = F.log_softmax(teacher_NV[:, :size] / temperature, -1)
    return temperature**2 * F.kl_div(student_NV, teacher_NV, reduction="none", log_target=True).sum(-1)


def distilled(network: GPT, job: Job, recipe: PretrainRecipe) -> Distilled:
    """The objective of a job with a teacher."""
    assert job.teacher is not None
    assert job.teacher_model is not None
    teacher = network_of(job.teacher_model, job.teacher.path)
    return Distilled(
        network, teacher, recipe.distil_weight, recipe.distil_temperature, recipe.label_smoothing, recipe.z_loss
    )
