"""The changes of `benchmarks/by_hand.py`: what becomes of a network that is widened, and what its training costs."""

from dataclasses import replace

import by_hand
import pytest
import torch

from cifar_fast_utils.data import Dataset
from cifar_fast_utils.lean import LeanNet
from cifar_fast_utils.network import run_flops

RECIPE = replace(by_hand.RECIPE, batch_size=100)


def test_a_widened_network_answers_as_before_and_learns_with_all_of_it() -> None:
    torch.manual_seed(0)
    narrow, wide = LeanNet(by_hand.NARROW, 8), LeanNet(by_hand.RECIPE, 8)
    images = torch.randn(16, 3, 24, 24)
    for _ in range(3):
        narrow(images)  # moves the running statistics
    by_hand.widen(narrow, wide)
    with torch.no_grad():
        assert torch.allclose(narrow.eval()(images), wide.eval()(images), atol=1e-5)
    wide.train()(images).square().sum().backward()
    grad = wide.get_parameter("linear.weight").grad
    assert grad is not None
    assert grad[:, narrow.linear.in_features :].abs().min() > 0, "the new channels are not learned from"


@pytest.mark.parametrize("way", by_hand.WAYS)
def test_each_way_trains_all_its_steps(way: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand, "RECIPE", RECIPE)
    monkeypatch.setattr(by_hand, "NARROW", replace(by_hand.NARROW, batch_size=100))
    monkeypatch.setattr(by_hand, "WIDTH", 4)
    training = by_hand.WAYS[way](tiny, "float32", 0)
    assert training.step == training.steps == 5 * training.steps_per_epoch
    assert training.losses.isfinite().all()
    assert isinstance(training.network, LeanNet)
    assert training.network.linear.in_features == 8 * 4
    one, other = training.network.whiten.weight.split(12)
    assert torch.equal(other, one if way == "one_sign" else -one)
    as_it_is = run_flops(RECIPE, 4, training.steps_per_epoch)
    spent = by_hand.flops(way, training.steps_per_epoch)
    assert (spent < 0.9 * as_it_is) if way == "fewer_channels" else (spent == as_it_is)
