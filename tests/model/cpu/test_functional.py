"""The hand-written gradients and values against autograd and the plain forms, compiled and in torch's operations."""

import pytest
import torch
from gradients import KEY, FixedDropout, check, tensors
from torch import Tensor
from torch.nn import functional as F

from submillion.model.cpu import build, kernels
from submillion.model.cpu.dropout import Drop
from submillion.model.cpu.functional import add_norm, gelu, linear, merged_linear
from submillion.model.cpu.products import linear_int8, merged_weight, pack, pack_int8, packed_linear

HIDDEN = 48
pytestmark = pytest.mark.usefixtures("operations")


@pytest.mark.parametrize("dropped", [False, True])
def test_add_norm(dropped: bool) -> None:
    x, residual = inputs = tensors((3, 5, HIDDEN), (3, 5, HIDDEN))
    weight, bias = tensors((HIDDEN,), (HIDDEN,), seed=1, grad=False)
    dropout, keep = None, torch.ones(3, 5, HIDDEN)
    if dropped and build.built().libraries:
        dropout, drop = FixedDropout(), Drop.at(0.3, KEY)
        _, total, _ = kernels.add_norm(keep, torch.zeros_like(keep), weight, bias, 1e-5, drop, keep_total=True)
        assert total is not None
        keep = total
    elif dropped:
        keep = (torch.rand(3, 5, HIDDEN) > 0.3).float() / 0.7
        dropout = FixedDropout(keep)
    assert bool((keep == 0).any()) == dropped
    plain = F.layer_norm(residual + x * keep, (HIDDEN,), weight, bias, 1e-5)
    check(add_norm(x, residual, weight, bias, 1e-5, 0.3, dropout), plain, inputs)


def test_add_norm_whose_scale_and_shift_train() -> None:
    x, residual, weight, bias = inputs = tensors((3, 5, HIDDEN), (3, 5, HIDDEN), (HIDDEN,), (HIDDEN,))
    plain = F.layer_norm(residual + x, (HIDDEN,), weight, bias, 1e-5)
    check(add_norm(x, residual, weight, bias, 1e-5), plain, inputs)


def test_add_norm_of_a_sum_far_from_zero() -> None:
    x, residual = (tensor.detach() + 300 for tensor in tensors((3, 5, HIDDEN), (3, 5, HIDDEN)))
    found = add_norm(x, residual, torch.ones(HIDDEN), torch.zeros(HIDDEN), 1e-5)
    plain = F.layer_norm((x + residual).double(), (HIDDEN,), eps=1e-5)
    torch.testing.assert_close(found.double(), plain, atol=1e-3, rtol=0)


def test_gelu() -> None:
    x = torch.linspace(-12, 12, 4800).view(2, 50, HIDDEN).requires_grad_()
    check(gelu(x * 1), F.gelu(x), [x], tolerance=2e-6)


def test_gelu_of_every_bf16_number() -> None:
    x = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    x = x[x.isfinite() & (x.abs() < 100)]
    x = x[: len(x) // 16 * 16].requires_grad_()
    exact = x.detach().double().requires_grad_()
    found, expected = gelu(x * 1), F.gelu(exact)
    found.sum().backward()
    expected.sum().backward()
    assert x.grad is not None and exact.grad is not None
    # Rounding alone may be off by 2^-9 of the value.
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=2**-8, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
def test_gelu_of_what_is_no_number_is_none(value: float, dtype: torch.dtype) -> None:
    found, expected = gelu(torch.full((16,), value, dtype=dtype)), F.gelu(torch.full((16,), value, dtype=dtype))
    assert bool(found.isfinite().all()) == bool(expected.isfinite().all())


def test_linear() -> None:
    (x,) = inputs = tensors((4, 6, HIDDEN))
    weight, bias = tensors((9, HIDDEN), (9,), seed=1, grad=False)
    check(linear(x, weight, bias), F.linear(x, weight, bias), inputs)


@pytest.mark.parametrize("tokens", [1, 24, 700])
def test_linear_by_packed_weights(tokens: int) -> None:
    (x,) = inputs = tensors((tokens, 64))
    weight, bias = (tensor.bfloat16() for tensor in tensors((48, 64), (48,), seed=1, grad=False))
    packed, turned = pack(weight), pack(weight.t())
    if packed is None:
        pytest.skip("this processor has no bf16 products with packed weights")
    plain = F.linear(x.bfloat16().float(), weight.float(), bias.float())
    found = linear(x.bfloat16(), weight, bias, packed, turned)
    check(found.float(), plain, inputs, tolerance=2**-7)  # of the largest: a few roundings to bf16
    assert torch.equal(packed_linear(x.bfloat16().detach(), packed, bias, then_gelu=False), found)


def near_int8(x: Tensor, weight: Tensor, bias: Tensor, found: Tensor) -> bool:
    """Whether it is x weight^T + bias but for what rounding x, the weight and the result can do at most."""
    x, weight = x.double(), weight.double()
    lowest, highest = x.amin(-1, keepdim=True).clamp_max(0), x.amax(-1, keepdim=True).clamp_min(0)
    step_x, step_weight = (highest - lowest) / 255, weight.abs().amax(dim=1) / 127
    exact = x @ weight.T + bias.double()
    # The zero is rounded too, and the largest number may then lie a step beyond the last.
    bound = step_x * (weight.abs().sum(dim=1) + step_weight * x.shape[-1]) + x.abs().sum(-1, keepdim=True) * step_weight
    return bool(((found.double() - exact).abs() <= bound + exact.abs() * 2**-8 + 1e-6).all())


@pytest.mark.parametrize("tokens", [1, 47, 48, 97, 600])
@pytest.mark.parametrize("sizes", [(16, 16), (48, 64), (64, 48), (192, 128), (9, 20)], ids=str)
def test_linear_int8(sizes: tuple[int, int], tokens: int) -> None:
    weight, bias = (tensor.bfloat16() for tensor in tensors(sizes, sizes[:1], seed=1, grad=False))
    weight[0] = 0
    x = tensors((tokens, sizes[1]), grad=False)[0]
    x[:1] *= 1e4
    x[-1:] = x[-1:].abs()
    packed, x = pack_int8(weight, bias), x.bfloat16()
    found = linear_int8(x, packed, then_gelu=False)
    assert found.dtype == torch.bfloat16 and near_int8(x, weight, bias, found)
    assert (found[1:] - F.linear(x, weight, bias)[1:]).abs().mean() < 0.02 * found[1:].abs().mean() or tokens == 1
    expected = F.gelu(found.double())
    torch.testing.assert_close(linear_int8(x, packed, True).double(), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("sizes", [(16, 32), (48, 64), (128, 192), (9, 20)], ids=str)
def test_packed_in_int8_a_weight_and_its_transpose_are_rounded_to_127_steps(sizes: tuple[int, int]) -> None:
    weight = tensors(sizes, seed=1, grad=False)[0].bfloat16()
    weight[2] = weight[:, 3] = 0
    for transpose, given in ((False, weight), (True, weight.t())):
        packed = pack_int8(weight, transpose=transpose)
        values, (rows, columns) = packed.values, given.shape
        if packed.panel:
            values = (
                values.view(rows // packed.panel, columns // 4, packed.panel, 4).transpose(1, 2).reshape(given.shape)
            )
        exact = given.double()
        step = exact.abs().amax(dim=1, keepdim=True) / 127
        torch.testing.assert_close(packed.scale.double(), step[:, 0])
        assert ((values.double() * step - exact).abs() <= step * 0.5001).all()
        assert torch.equal(packed.total, values.sum(dim=1).float())


def test_the_gradient_in_int8() -> None:
    x, weight, bias = tensors((3, 50, 64), (48, 64), (48,))
    weight, bias = weight.detach().bfloat16(), bias.detach().bfloat16()
    (direction,) = tensors((3, 50, 48), seed=9, grad=False)
    y = linear(x.bfloat16(), weight, bias, pack_int8(weight, bias), pack_int8(weight, transpose=True))
    (found,) = torch.autograd.grad(y, x, direction.bfloat16())
    assert near_int8(x.detach().bfloat16(), weight, bias, y.detach())
    assert near_int8(direction.bfloat16(), weight.t(), torch.zeros(64), found)


def test_a_row_s_result_in_int8_is_its_own() -> None:
    weight, bias = tensors((64, 96), (64,), seed=1, grad=False)
    x = tensors((3, 50, 96), grad=False)[0].bfloat16()
    packed = pack_int8(weight, bias)
    together = linear_int8(x, packed, then_gelu=True)
    assert torch.equal(linear_int8(x[1:2, 7:9], packed, then_gelu=True), together[1:2, 7:9])
    x[0] *= 100
    assert torch.equal(linear_int8(x, packed, then_gelu=True)[1:], together[1:])


@pytest.mark.parametrize("x", [torch.full((5, 32), value) for value in (0.0, 3.0, -0.25, 1e-37, -1e-20)], ids=str)
def test_int8_of_equal_numbers(x: Tensor) -> None:
    weight, bias = tensors((16, 32), (16,), seed=1, grad=False)
    assert near_int8(x, weight, bias, linear_int8(x.bfloat16(), pack_int8(weight, bias), then_gelu=False))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_none_in_int8_either(value: float) -> None:
    weight, bias = tensors((16, 32), (16,), seed=1, grad=False)
    x = torch.ones(2, 32, dtype=torch.bfloat16)
    x[0, 5] = value
    found = linear_int8(x, pack_int8(weight, bias), then_gelu=False)
    assert not found[0].isfinite().any() and found[1].isfinite().all()


ADAPTED = [[(0, 32)], [(16, 32)], [(0, 16), (32, 48)], [(0, 16), (16, 32), (32, 48)], [(3, 10)]]


@pytest.mark.parametrize("rank", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", ADAPTED, ids=str)
def test_merged_linear(rows: list[tuple[int, int]], rank: int) -> None:
    shapes = [shape for first, end in rows for shape in ((rank, HIDDEN), (end - first, rank))]
    x, *adapters = inputs = tensors((5, 15, HIDDEN), *shapes)  # 75 tokens: more than are summed at once
    weight, bias = tensors((48, HIDDEN), (48,), seed=1, grad=False)
    plain = F.linear(x, weight, bias)
    for (first, end), lora_A, lora_B in zip(rows, adapters[::2], adapters[1::2], strict=True):
        plain = plain + F.pad(1.5 * x @ lora_A.T @ lora_B.T, (first, 48 - end))
    check(merged_linear(x, weight, bias, 1.5, rows, False, *adapters), plain, inputs)


def test_merged_linear_below_which_nothing_trains() -> None:
    lora_A, lora_B = tensors((3, HIDDEN), (16, 3))
    x, weight, bias = tensors((4, 6, HIDDEN), (16, HIDDEN), (16,), seed=1, grad=False)
    merged_linear(x, weight, bias, 1.0, [(0, 16)], False, lora_A, lora_B).sum().backward()
    assert lora_A.grad is not None and lora_B.grad is not None and x.grad is None


def test_rows_without_an_adapter_keep_their_weights() -> None:
    (weight,) = tensors((48, HIDDEN), grad=False)
    adapters = tensors((2, HIDDEN), (16, 2), seed=1, grad=False)
    merged = merged_weight(weight, 2.0, [(16, 32)], adapters, torch.bfloat16)
    plain = weight.bfloat16()
    assert torch.equal(merged[:16], plain[:16]) and torch.equal(merged[32:], plain[32:])
    assert not torch.equal(merged[16:32], plain[16:32])


@pytest.mark.parametrize("int8", [False, True], ids=["bf16", "int8"])
def test_bf16_and_int8_are_near_fp32(int8: bool) -> None:
    x, lora_A, lora_B = tensors((4, 6, 64), (3, 64), (48, 3))
    weight, bias = tensors((48, 64), (48,), seed=1, grad=False)
    exact = merged_linear(x, weight, bias, 1.0, [(0, 48)], False, lora_A, lora_B)
    rounded = merged_linear(x.bfloat16(), weight, bias.bfloat16(), 1.0, [(0, 48)], int8, lora_A, lora_B)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=1.0 if int8 else 0.25, rtol=0.02)


@pytest.mark.parametrize("name", ["add_norm", "gelu"])
def test_bf16_values_and_gradients_are_fp32_s_rounded(name: str) -> None:
    """Each computes in fp32 and rounds what it stores: a few parts in 2^8 of the largest number."""
    (x,) = tensors((4, 7, 3 * HIDDEN))
    (direction,) = tensors((4, 7, 3 * HIDDEN), seed=9, grad=False)
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        given = x.detach().bfloat16().to(dtype).requires_grad_()
        y = {
            "add_norm": lambda given=given: add_norm(given, given * 2, torch.ones(144), torch.zeros(144), 1e-5),
            "gelu": lambda given=given: gelu(given * 1),
        }[name]()
        (grad,) = torch.autograd.grad(y, given, direction[..., : y.shape[-1]].bfloat16().to(dtype))
        found.append((y.float(), grad.float()))
    for rounded, exact in zip(*found, strict=True):
        torch.testing.assert_close(rounded, exact, atol=2**-6 * exact.abs().max().item(), rtol=0)
