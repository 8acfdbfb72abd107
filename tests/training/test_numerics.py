from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training import numerics
from training.recipes import PretrainRecipe, classifier, resolve, summary, tiny

ROOT = Path(__file__).parents[2]


def test_resolving_leaves_no_auto_and_repeats():
    for recipe in (tiny(), classifier(), summary()):
        found = resolve(recipe)
        assert "auto" not in (found.dtype, found.compile)
        assert resolve(found) == found


@pytest.mark.parametrize(
    ("flags", "device", "dtype", "mode"),
    [
        (numerics.AVX512 | {"avx512_bf16", "avx2"}, "cpu", "bf16", "off"),
        (numerics.AVX512 | {"amx_bf16", "avx2"}, "cpu", "bf16", "off"),
        (numerics.AVX512 | {"avx2"}, "cpu", "fp32", "off"),
        (numerics.AVX2, "cpu", "fp32", "off"),
        (numerics.AVX2, "cuda", "bf16", "on"),
    ],
)
def test_auto_takes_what_is_fast_on_the_machine(monkeypatch, flags, device, dtype, mode):
    monkeypatch.setattr(numerics, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setenv("STEMMA_DEVICE", device)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    found = resolve(PretrainRecipe())
    assert (found.dtype, found.compile) == (dtype, mode)


def test_what_was_wished_for_is_not_overruled():
    assert resolve(PretrainRecipe(dtype="fp32", compile="on")).model_dump()["dtype"] == "fp32"


def test_declared_instruction_set_is_the_one_that_torch_uses():
    assert numerics.instruction_set() == torch.backends.cpu.get_cpu_capability()
    numerics.check(numerics.numerics())


def test_a_declaration_of_another_machine_is_refused():
    declared = numerics.numerics() | {"torch": "1.0", "instruction_set": "NEON"}
    with pytest.raises(numerics.NumericsError, match=r"instruction_set: declared NEON.*torch: declared 1\.0"):
        numerics.check(declared)


def test_an_instruction_set_capped_by_the_environment_is_declared(monkeypatch):
    monkeypatch.setattr(numerics, "cpu_flags", lambda: frozenset(numerics.AVX512 | {"avx2", "avx512_bf16"}))
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert numerics.numerics()["instruction_set"].startswith("AVX2")
    assert not numerics.bf16_is_fast("cpu")


def test_recipes_stages_and_numerics_need_neither_torch_nor_other_heavy_libraries():
    code = """
import sys
import training.pretrain, training.finetune, training.finetune_data
from training.recipes import resolve, tiny
from training.numerics import numerics
numerics(resolve(tiny()).compile)
heavy = {"torch", "transformers", "tokenizers", "polars", "numba", "datasketch", "dagster"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_room_runs_on_torch_and_the_base_install_alone():
    code = """
import sys
import training.run, training.loop, training.finetuning, training.generate, training.export
heavy = {"transformers", "tokenizers", "polars", "numba", "datasketch", "dagster", "dagster_pipes"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
