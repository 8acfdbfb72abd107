"""Runs with a teacher in the spec."""

from __future__ import annotations

import pytest

from assets.blueprint import BLUEPRINTS
from pipelines.provenance.manifest import Key
from pipelines.spec import Spec, SpecError

STUDENT = """
[runs.student]
corpus = "small"
[runs.student.mixture]
sequence_length = 16
[runs.student.training]
layers = 1
teacher = "demo"
"""


def with_student(place, text: str = STUDENT) -> Spec:
    return Spec(place.spec_path.read_text() + text, place.spec_path)


def test_a_student_needs_its_teacher_and_listens_by_half(blank):
    made = BLUEPRINTS["pretrained_model"](with_student(blank), "student")
    assert made.needs == [Key("mixture", "student"), Key("pretrained_model", "demo")]
    assert (made.recipe.distil_weight, made.recipe.distil_temperature) == (0.5, 2.0)
    assert "teacher" not in made.recipe.identity()
    plain = BLUEPRINTS["pretrained_model"](with_student(blank), "demo")
    assert (plain.needs, plain.recipe.distil_weight) == ([Key("mixture", "demo")], 0.0)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('teacher = "demo"', 'teacher = "demon"', "no 'demon' in [runs]. Did you mean 'demo'?"),
        ('teacher = "demo"', 'teacher = "student"', "student stands on student; a run cannot learn from itself"),
        ("[runs.student]\n", '[runs.student]\nbase = "demo"\n', "has demo for base and for teacher"),
        ('teacher = "demo"', "distil_weight = 0.3", "distillation needs a teacher: write teacher = RUN"),
        ("layers = 1", "distil_weight = 0", "the teacher 'demo' would have no say"),
        ("layers = 1", "distil_weight = 1.5", "distil_weight: Input should be less than or equal to 1, found 1.5"),
        ("layers = 1", 'objective = "masked"', "is for objective = 'causal'"),
    ],
)
def test_a_teacher_that_cannot_be_is_refused_with_its_line(blank, before, after, told):
    with pytest.raises(SpecError) as error:
        BLUEPRINTS["pretrained_model"](with_student(blank, STUDENT.replace(before, after, 1)), "student")
    assert told in str(error.value)
    assert str(error.value).startswith("stemma.toml:")
