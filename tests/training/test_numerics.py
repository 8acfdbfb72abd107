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


@pytest.fixture
def bare(monkeypatch):
    """A machine without wishes in its environment."""
    for name in ("STEMMA_DEVICE", "CUDA_VISIBLE_DEVICES", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("torch_version", "driver", "visible", "kind"),
    [
        ("2.9.0+cu128", True, None, "cuda"),
        ("2.9.0", True, "0,1", "cuda"),
        ("2.9.0+cpu", True, None, "cpu"),  # torch without CUDA finds no GPU
        ("2.9.0", False, None, "cpu"),
        ("2.9.0", True, "", "cpu"),  # hidden on purpose
        ("2.9.0", True, "-1", "cpu"),
    ],
)
def test_a_gpu_is_used_where_torch_the_driver_and_the_environment_have_one(bare, torch_version, driver, visible, kind):
    bare.setattr(numerics, "version", lambda name: torch_version)
    exists = Path.exists
    bare.setattr(Path, "exists", lambda p: driver if str(p).startswith("/proc/driver/nvidia") else exists(p))
    if visible is not None:
        bare.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert numerics.device_kind() == kind


def test_a_wish_for_a_device_overrules_and_nonsense_does_not(bare):
    found = numerics.device_kind()
    for wish, kind in (("cuda", "cuda"), ("cpu", "cpu"), ("abacus", found)):
        bare.setenv("STEMMA_DEVICE", wish)
        assert numerics.device_kind() == kind


@pytest.mark.parametrize(
    ("flags", "wish", "found"),
    [
        (numerics.AVX512 | {"avx2"}, "default", "DEFAULT"),
        (numerics.AVX512 | {"avx2"}, "AVX512", "AVX512"),
        (numerics.AVX2, "avx512", "AVX2"),  # no one gets more than the processor has
        (frozenset({"sse2"}), "avx2", "DEFAULT"),
        (numerics.AVX512 - {"avx512vl"} | {"avx2"}, "", "AVX2"),  # torch asks for all of them
        (numerics.AVX512 | {"avx2"}, "gibberish", "AVX512"),
    ],
)
def test_the_instruction_set_is_the_best_there_is_or_less_where_that_is_wished(bare, flags, wish, found):
    bare.setattr(numerics, "cpu_flags", lambda: frozenset(flags))
    bare.setenv("ATEN_CPU_CAPABILITY", wish)
    assert numerics.instruction_set() == found


def test_where_the_processor_lists_no_flags_torch_is_asked(bare):
    bare.setattr(numerics, "cpu_flags", frozenset)
    assert numerics.instruction_set() == torch.backends.cpu.get_cpu_capability()


def test_cores_are_shared_by_the_processes_of_a_run(monkeypatch):
    monkeypatch.setattr(numerics.os, "sched_getaffinity", lambda pid: set(range(10)), raising=False)
    assert [numerics.num_threads(world) for world in (1, 2, 3, 10, 64)] == [10, 5, 3, 1, 1]
    assert numerics.numerics(world_size=2)["threads"] == 5
    assert numerics.numerics(world_size=2, threads=3)["threads"] == 3


def test_what_moves_bits_is_declared_and_nothing_is_where_it_does_not(bare):
    assert set(numerics.numerics()) - {"lock"} == {
        "compile", "device", "instruction_set", "machine", "threads", "torch", "world_size"
    }  # fmt: skip
    bare.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert numerics.numerics()["onednn_max_cpu_isa"] == "AVX2"


def test_another_lock_file_is_another_declaration(bare, tmp_path):
    (tmp_path / "lock").write_text("torch==2.9.0\n")
    bare.setattr(numerics, "LOCK", tmp_path / "lock")
    one = numerics.numerics()["lock"]
    (tmp_path / "lock").write_text("torch==2.9.1\n")
    assert numerics.numerics()["lock"] != one
    bare.setattr(numerics, "LOCK", tmp_path / "nowhere")
    assert "lock" not in numerics.numerics()


def test_a_package_that_is_not_there_has_no_version():
    assert numerics.version("no-such-distribution-anywhere") == "none"
    assert numerics.version("torch") == torch.__version__


def test_a_declared_gpu_that_torch_does_not_find_is_told_with_what_to_do(bare):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    bare.setenv("STEMMA_DEVICE", "cuda")
    with pytest.raises(numerics.NumericsError, match=r"declared cuda, found cpu .*set STEMMA_DEVICE=cpu"):
        numerics.check(numerics.numerics())


def test_what_was_declared_and_is_gone_is_named_too(bare):
    bare.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    declared = numerics.numerics()
    bare.delenv("ONEDNN_MAX_CPU_ISA")
    with pytest.raises(numerics.NumericsError, match="onednn_max_cpu_isa: declared AVX2, found None"):
        numerics.check(declared)
