"""Matrices as small integers: the numbers of torchao, round trips, and what is refused."""

from __future__ import annotations

import pytest
import torch

from training.pruning import dense
from training.quantisation import (
    INT8,
    DynamicLinear,
    _rounded,
    _scale,
    groups_int4,
    multiplied,
    packed,
    quantised,
    restored,
    rows_int8,
    unpacked,
)


def matrix(rows: int = 6, columns: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_numbers_and_scales_are_torchaos():
    """Int8Tensor.from_hp(w, PerRow()) and the symmetric int4 groups of torchao 0.18.0, of the same matrix."""
    primitives = pytest.importorskip("torchao.quantization.quant_primitives", reason="pip install torchao==0.18.0")
    symmetric = primitives.MappingType.SYMMETRIC
    for block, low, high, ours in (((1, 64), -128, 127, rows_int8), ((1, 32), -8, 7, None)):
        weight = matrix()
        scale, zero = primitives.choose_qparams_affine(weight, symmetric, block, torch.int8, low, high)
        theirs = primitives.quantize_affine(weight, block, scale, zero, torch.int8, low, high)
        if ours is not None:
            numbers, mine = ours(weight)
            assert torch.equal(mine.flatten(), scale.flatten())
            assert torch.equal(numbers, theirs)
        else:
            pairs, mine = groups_int4(weight, 32)
            assert torch.allclose(mine.float(), scale.view(6, 2), rtol=1e-3)  # ours are stored in 16 bits
            assert (unpacked(pairs) - theirs).abs().max() <= 1
            assert (unpacked(pairs) != theirs).float().mean() < 0.01


def test_the_numbers_of_one_row_are_these():
    """The scale is 2 / 127.5: half a step is lost at either end, none in between."""
    numbers, scale = rows_int8(torch.tensor([[0.5, -1.0, 2.0, 0.0], [-2.0, 0.01, 0.0, 1.0]]))
    assert scale.flatten().tolist() == pytest.approx([2 / 127.5] * 2)
    assert numbers.tolist() == [[32, -64, 127, 0], [-127, 1, 0, 64]]


def test_no_weight_is_off_by_more_than_half_a_step():
    weight = matrix()
    back = restored(quantised({"a.weight": weight}, {"a.weight": 8}, 32, transposed=False))["a.weight"]
    assert ((back - weight).abs() <= weight.abs().amax(1, keepdim=True) / 127.5 * 0.501).all()
    four = restored(quantised({"a.weight": weight}, {"a.weight": 4}, 16, transposed=False))["a.weight"]
    largest = weight.view(6, 4, 16).abs().amax(-1).repeat_interleave(16, 1)
    assert ((four - weight).abs() <= largest / 7.5 * 0.51).all()
    assert (four - weight).norm() > 10 * (back - weight).norm()


def test_pairs_of_numbers_come_back_from_their_bytes():
    numbers = torch.arange(-8, 8, dtype=torch.int8).repeat(3, 2)
    assert packed(numbers).shape == (3, 16)
    assert torch.equal(unpacked(packed(numbers)), numbers)


def test_rows_of_zeros_and_what_is_no_matrix_stay():
    weights = {"a.weight": torch.zeros(2, 32), "norm.weight": torch.ones(5)}
    for bits in (8, 4):
        back = restored(quantised(weights, {"a.weight": bits}, 32, transposed=False))
        assert torch.equal(back["a.weight"], weights["a.weight"])
        assert back["norm.weight"] is weights["norm.weight"]


def test_matrices_that_lie_transposed_have_scales_by_output_all_the_same():
    weight = matrix(8, 32)
    stored = quantised({"h.c_fc.weight": weight.t().contiguous()}, {"h.c_fc.weight": 8}, 32, transposed=True)
    assert sorted(stored) == ["h.c_fc.weight.int8t", "h.c_fc.weight.scale"]
    plain = restored(quantised({"x.weight": weight}, {"x.weight": 8}, 32, transposed=False))["x.weight"]
    assert torch.equal(restored(stored)["h.c_fc.weight"], plain.t())


def test_other_peoples_names_stay_as_they_are():
    plain = {"attn.scale": torch.ones(3), "attn.values": torch.ones(2), "a.columns": torch.ones(1)}
    assert dense(restored(plain)) == plain


def test_groups_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="rows of 48 cannot be cut into groups of 32: give an even divisor"):
        groups_int4(matrix(2, 48), 32)


def test_integer_products_are_exact():
    left, right = (torch.randint(-128, 128, size, dtype=torch.int8) for size in ((5, 40), (40, 7)))
    assert torch.equal(multiplied(left, right), (left.long() @ right.long()).int())


def test_quantised_activations_give_the_product_of_both_roundings():
    weight, x = matrix(), matrix(10, 64, seed=1).view(2, 5, 64)
    numbers, scale = rows_int8(weight)
    steps = _scale(x, INT8)
    rounded = _rounded(x, steps, INT8).float() * steps
    out = DynamicLinear(numbers, scale)(x)
    assert out.shape == (2, 5, 6)
    assert torch.allclose(out, rounded @ (numbers.float() * scale).t(), rtol=1e-4, atol=1e-5)
    assert float((out - x @ weight.t()).norm() / (x @ weight.t()).norm()) < 0.02
