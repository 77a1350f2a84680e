import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cifar_fast_utils.evaluate import accuracy_of, cross_entropy_of, evaluate, logits_of


class LeftHalf(nn.Module):
    """A network that sees the left half only: its two logits are the mean brightness there, and 0.1."""

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        left = x[..., : x.shape[3] // 2].mean((1, 2, 3))
        return torch.stack([left, torch.full_like(left, 0.1)], 1)


def half_lit(left: float, right: float) -> Tensor:
    image = torch.full((3, 32, 32), float(left))
    image[..., 16:] = right
    return image


def test_tta_averages_the_logits_of_image_and_mirror() -> None:
    network = LeftHalf()
    lit = [(0, 1), (0, 0.8), (0, 0.05), (1, 0), (0.15, 0)]
    images = torch.stack([half_lit(*sides) for sides in lit])
    labels = torch.tensor([0, 0, 1, 0, 0])
    assert evaluate(network, images, labels) == (0.6, None)
    # mirrored, the first two are seen as well; the last was right and its average, 0.075, is below 0.1
    assert evaluate(network, images, labels, tta=True) == (0.6, 0.8)
    mirrored = logits_of(network, images, mirror=True)[:, 0].numpy()
    np.testing.assert_allclose(mirrored, [1, 0.8, 0.05, 0, 0], atol=1e-6)
    assert network.training  # as it was
    logits_of(network.eval(), images)
    assert not network.training


def test_images_beyond_one_batch_count_once() -> None:
    images = torch.stack([half_lit(float(k % 2), 0) for k in range(2500)])
    labels = torch.tensor([1 - k % 2 for k in range(2500)])
    assert evaluate(LeftHalf(), images, labels)[0] == 1.0
    assert accuracy_of(torch.eye(4), torch.tensor([0, 1, 3, 3])) == 0.75


def test_the_cross_entropy_is_that_of_the_share_that_is_right() -> None:
    logits = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    # Three of four right, all equally sure: the best temperature makes them sure to three quarters.
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert cross_entropy_of(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(entropy, abs=1e-6)
    # Wrong more often than right: unsure is best, and no temperature turns the answers round.
    assert cross_entropy_of(-logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(math.log(2), abs=0.01)


@given(seed=st.integers(0, 1000), scale=st.floats(0.2, 5))
def test_the_cross_entropy_does_not_care_how_sure_the_network_says_it_is(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (200,), generator=generator)
    logits = torch.randn(200, 10, generator=generator) + 2 * F.one_hot(labels, 10)
    found = cross_entropy_of(logits, labels)
    assert found == pytest.approx(cross_entropy_of(scale * logits, labels), abs=1e-5)
    assert found <= F.cross_entropy(logits, labels).item() + 1e-6
