import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cifar_fast_utils.errors import UserError
from cifar_fast_utils.layers import Conv, GhostBatchNorm


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 4), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_each_group_is_pytorchs_batch_norm_of_it(groups: int, each: int, c: int, side: int, last: bool) -> None:
    norm = GhostBatchNorm(c, groups, momentum=0.4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(groups * each, c, side + 1, side + 1) * 3 + 1
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    y = norm(x)
    assert y.shape == x.shape
    means, variances = [], []
    for part, out in zip(x.chunk(groups), y.chunk(groups), strict=True):
        plain = nn.BatchNorm2d(c)
        plain.load_state_dict({**plain.state_dict(), "weight": norm.weight.data, "bias": norm.bias.data})
        torch.testing.assert_close(out, plain(part), rtol=1e-5, atol=1e-5)
        means.append(part.mean((0, 2, 3)))
        variances.append(part.transpose(0, 1).flatten(1).var(1, correction=1))
    torch.testing.assert_close(norm.running_mean, 0.4 * torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, 0.6 + 0.4 * torch.stack(variances).mean(0), rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([2, 4, 8]), st.integers(2, 4), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_all_groups_at_once_are_the_groups_in_turn(groups: int, each: int, c: int, side: int, last: bool) -> None:
    norm = GhostBatchNorm(c, groups).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(groups * each, c, side, side + 1, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    weights = torch.randn_like(x)
    seen = []
    for way in (norm._in_turn, norm._at_once):
        norm.zero_grad()
        leaf = x.clone().requires_grad_()
        means, variances = torch.zeros(2, groups, c, dtype=torch.float64)
        y = way(leaf, means, variances)
        (y * weights).sum().backward()
        assert norm.weight.grad is not None
        assert norm.bias.grad is not None
        seen.append([y.detach(), means, variances, leaf.grad, norm.weight.grad.clone(), norm.bias.grad.clone()])
    torch.testing.assert_close(seen[1], seen[0])


def test_gradients_are_pytorchs() -> None:
    torch.manual_seed(0)
    norm, x = GhostBatchNorm(5, 4).double(), torch.randn(8, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(8, 5, 3, 3, dtype=torch.float64)
    (norm(x) * weights).sum().backward()
    assert x.grad is not None
    plain, z = nn.BatchNorm2d(5).double(), x.detach().clone().requires_grad_()
    sum((plain(part) * w).sum() for part, w in zip(z.chunk(4), weights.chunk(4), strict=True)).backward()
    torch.testing.assert_close(x.grad, z.grad)
    torch.testing.assert_close(norm.weight.grad, plain.weight.grad)
    torch.testing.assert_close(norm.bias.grad, plain.bias.grad)


def test_in_evaluation_it_uses_the_running_statistics_and_moves_nothing() -> None:
    norm = GhostBatchNorm(3, 2)
    for _ in range(3):
        norm(torch.randn(4, 3, 4, 4) * 2 + 1)
    norm.eval()
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    x = torch.randn(5, 3, 4, 4)  # five cannot be split in two, and need not be
    plain = nn.BatchNorm2d(3).eval()
    plain.load_state_dict({**plain.state_dict(), **before})
    torch.testing.assert_close(norm(x), plain(x))
    assert all(torch.equal(before[key], value) for key, value in norm.state_dict().items())


def test_a_batch_it_cannot_split_is_refused() -> None:
    with pytest.raises(UserError, match="7 cannot be split into 2 equal ghost groups"):
        GhostBatchNorm(3, 2)(torch.randn(7, 3, 4, 4))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layout_and_dtype_stay_and_statistics_are_float32(groups: int, dtype: torch.dtype) -> None:
    norm = GhostBatchNorm(6, groups)
    x = torch.randn(8, 6, 5, 5).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = norm(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.float().square().sum().backward()
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
    assert {value.dtype for value in norm.state_dict().values()} == {torch.float32}
    contiguous = norm(x.detach().contiguous())
    assert contiguous.is_contiguous()


def test_frozen_scales_stay_one() -> None:
    norm = GhostBatchNorm(3, freeze_scale=True)
    norm(torch.randn(4, 3, 2, 2)).sum().backward()
    assert norm.weight.grad is None
    assert norm.bias.grad is not None
    assert torch.equal(norm.weight, torch.ones(3))


def test_conv_is_pytorchs_and_casts_its_weights_at_use() -> None:
    conv = Conv(3, 8)
    plain = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(conv(x), plain(x))
    low = conv(x.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), plain(x), rtol=0.05, atol=0.05)
    low.float().sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == torch.float32
