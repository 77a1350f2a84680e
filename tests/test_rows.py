"""Images in rows: the same gradients, only where a processor has tiles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cifar_fast_utils import rows
from cifar_fast_utils.layers import Conv
from cifar_fast_utils.rows import ConvInRows, abreast, in_rows


def images(b: int, c: int, h: int, w: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(b, c, h, w).to(dtype).to(memory_format=torch.channels_last)


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 9))
def test_a_convolution_in_rows_has_the_gradients_of_any(some: int, number: int, c: int, h: int, w: int) -> None:
    """In float64, where another order of summation cannot be told from an error."""
    x, weight = images(some * number, c, h, w), images(3, c, 3, 3)
    grad = images(some * number, 3, h, w)
    found = []
    for conv in (lambda x, f: F.conv2d(x, f, padding=1), lambda x, f: ConvInRows.apply(x, f, number)):
        leaves = [part.clone().requires_grad_() for part in (x, weight)]
        out = conv(*leaves)
        out.backward(grad)
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_only_the_wanted_gradients_are_computed() -> None:
    x, weight = images(4, 2, 3, 3), images(5, 2, 3, 3)
    for wanted in ((True, False), (False, True)):
        leaves = [part.clone().requires_grad_(want) for part, want in zip((x, weight), wanted, strict=True)]
        ConvInRows.apply(*leaves, 2).sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [*wanted]


def test_images_stand_beside_one_another_with_zeros_between() -> None:
    x = images(4, 1, 2, 3)
    row = in_rows(x, 2)
    assert row.shape == (2, 1, 2, 8)
    assert row.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(row[1, :, :, :3], x[2])
    assert torch.equal(row[1, :, :, 4:7], x[3])
    assert not row[..., 3::4].any()


@pytest.mark.parametrize(("batch", "side", "number"), [(512, 7, 4), (512, 3, 8), (512, 15, 2), (512, 31, 1), (7, 7, 1)])
def test_as_many_as_fill_a_tile_and_divide_the_batch(
    monkeypatch: pytest.MonkeyPatch, batch: int, side: int, number: int
) -> None:
    monkeypatch.setattr(rows, "has_tiles", lambda: True)
    x = torch.empty(batch, 1, side, side, dtype=torch.bfloat16)
    assert abreast(x) == number
    assert abreast(x.float()) == abreast(x.to("meta")) == 1
    with monkeypatch.context() as patch:
        patch.setattr(rows, "TILE", 0)  # as `benchmarks/rows.py` asks for images one by one
        assert abreast(x) == 1
    monkeypatch.setattr(rows, "has_tiles", lambda: False)
    assert abreast(x) == 1


def test_the_layer_takes_it_where_there_are_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    apply: Any = ConvInRows.apply

    def noted(x: Tensor, weight: Tensor, number: int) -> Tensor:
        taken.append(number)
        out: Tensor = apply(x, weight, number)
        return out

    monkeypatch.setattr(ConvInRows, "apply", noted)
    monkeypatch.setattr(rows, "has_tiles", lambda: True)
    x = images(8, 4, 3, 3, torch.bfloat16)
    for conv in (Conv(4, 4), Conv(4, 4, kernel=1), Conv(4, 4, padding=0), Conv(4, 4, bias=True)):
        out = conv(x)
        out.float().sum().backward()
        assert conv.weight.grad is not None
    assert taken == [8]
