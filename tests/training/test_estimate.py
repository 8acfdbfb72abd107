"""What a run would take, from the network itself: counts, bytes, operations, and what fits where."""

from __future__ import annotations

import pytest
import torch

from training import estimate as estimating
from training.estimate import Gpus, estimate, measured, memory, parse_count
from training.models.gpt import GPT
from training.models.recipe import GPTRecipe
from training.shapes import network

SMALL = GPTRecipe(vocab_size=512, sequence_length=64, layers=3, width=64, heads=4, kv_heads=2, mlp_width=160)


def test_fake_tensors_keep_what_real_ones_keep():
    real = GPT(SMALL)
    kept = estimating._saved(real, SMALL)
    _, _, fake = measured(SMALL)
    wide = 2 * 2 * (4 + 2) * 16 * 64 * 3  # attention in float32 on a CPU, in bf16 on a GPU
    assert fake.kept == kept - wide
    assert fake.recomputed < fake.kept / 2


def test_what_autograd_keeps_grows_with_blocks_and_length_as_it_should():
    one, two = (measured(SMALL.model_copy(update={"layers": n}))[2] for n in (4, 8))
    block = (two.kept - one.kept) / 4
    inputs = (two.recomputed - one.recomputed) / 4
    assert inputs == pytest.approx(64 * 64 * 4, rel=0.01)  # the residual stream before each block, float32
    # Korthikanti et al. 2022, arXiv:2205.05198, equation 1 without the scores, which no fused kernel keeps:
    # 34 bytes a channel at 4 times the width in the feed-forward
    assert 0.5 * 34 < block / (64 * 64) < 1.5 * 34


@pytest.mark.parametrize("name", ["nano", "gpt2_124m", "eurobert_210m"])
def test_parameters_are_counted_on_the_network_and_agree_with_the_recipe(name):
    shape = network(name)
    assert measured(shape)[0] == shape.num_parameters


def test_shares_of_a_sharded_model_get_smaller_and_a_copy_does_not():
    ways = {world: {way.way: way for way in memory(SMALL, world)[1]} for world in (2, 8)}
    parameters = SMALL.num_parameters
    assert ways[2]["DDP"] == ways[8]["DDP"]
    assert ways[2]["DDP"].moments == 8 * parameters
    assert ways[8]["FSDP2"].moments == parameters
    assert ways[8]["FSDP2"].fixed < ways[2]["FSDP2"].fixed < ways[2]["DDP"].fixed
    assert [way.way for way in memory(SMALL, 1)[1]] == ["one GPU", "one GPU, recomputed"]


def test_what_fits_fills_the_memory_and_one_more_would_not():
    way = memory(SMALL, 1)[1][0]
    number = way.largest_microbatch(1e9)
    assert way.total(number) <= estimating.USABLE * 1e9 < way.total(number + 1)
    assert way.largest_microbatch(way.fixed) == 0


def test_time_and_cost_are_arithmetic():
    found = estimate(network("gpt2_124m"), Gpus(8, "H200"), 10**10, mfu=0.5, price=2.0)
    assert found["flops"] == found["flops_per_token"] * 10**10
    assert found["seconds"] == pytest.approx(found["flops"] / (0.5 * 8 * 989e12))
    assert found["seconds"] * found["tokens_per_second"] == pytest.approx(10**10)
    assert found["cost"] == pytest.approx(found["seconds"] / 3600 * 8 * 2.0)


@pytest.mark.parametrize(
    ("text", "number"), [("140B", 140 * 10**9), ("2.6M", 2_600_000), ("1t", 10**12), ("5,000", 5000), ("7_000", 7000)]
)
def test_numbers_of_tokens_are_read(text, number):
    assert parse_count(text) == number


@pytest.mark.parametrize("text", ["", "many", "-3B", "0", "3X", "1.2.3"])
def test_what_is_no_number_of_tokens_is_told(text):
    with pytest.raises(ValueError, match="such as 140B"):
        parse_count(text)


def test_devices_are_read_by_number_and_name():
    assert Gpus.parse("8xH200") == Gpus(8, "H200")
    assert Gpus.parse("4 x h100 pcie") == Gpus(4, "H100 PCIe")
    assert Gpus.parse("B200") == Gpus(1, "B200")
    for wrong in ("8xTPU", "0xH200", "xH200", ""):
        with pytest.raises(ValueError, match="such as 8xH200"):
            Gpus.parse(wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to measure on")
def test_the_estimate_is_what_a_gpu_needs():
    shape = network("gpt2_124m", sequence_length=512)
    model = GPT(shape).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    rows = torch.zeros(8, 513, dtype=torch.long, device="cuda")
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            loss = model.loss(rows)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.cuda.max_memory_allocated() == pytest.approx(memory(shape, 1)[1][0].total(8), rel=0.25)
