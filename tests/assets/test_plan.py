"""stemma plan: what a run would take, from the command line."""

import pytest


def test_a_shape_is_estimated_without_a_gpu(blank, stemma):
    told = stemma(blank, "plan", "gpt2_124m", "--gpus", "8xH200", "--tokens", "10B", "--mfu", "0.5")
    for part in ("124,475,904", "10,000,000,000", "FSDP2, recomputed", "on 8 x H200", "at 50%"):
        assert part in told


def test_programs_get_the_same_as_numbers(blank, stemma):
    found = stemma.json(blank, "plan", "nano", "--gpus", "2xA100", "--tokens", "2.6M", "--price", "1.5")
    assert found["parameters"] == found["network"]["vocab_size"] * 128 + 4 * 184_576 + 128
    assert [way["way"] for way in found["memory"]] == ["DDP", "DDP, recomputed", "FSDP2", "FSDP2, recomputed"]
    assert found["assumed"]["price_per_gpu_hour"] == 1.5
    assert found["tokens"] == 2_600_000


def test_a_run_of_the_spec_is_estimated_as_it_would_be_trained(blank, stemma):
    found = stemma.json(blank, "plan", "demo")
    assert found["network"]["layers"] == 2
    assert found["network"]["sequence_length"] == 16
    assert found["network"]["vocab_size"] == 384
    assert found["tokens"] == 20 * found["parameters"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("8b",), "no shape and no run '8b'; there are: nano, gpt2_124m"),
        (("nano", "--gpus", "8xTPU"), "such as 8xH200"),
        (("nano", "--tokens", "lots"), "such as 140B"),
    ],
)
def test_what_is_wrong_is_told_and_the_exit_code_says_so(blank, stemma, arguments, told):
    assert told in stemma(blank, "plan", *arguments, code=2)
