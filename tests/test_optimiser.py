from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cifar_fast_utils.network import ResNet9
from cifar_fast_utils.optimiser import build_average, build_optimiser, set_rate
from cifar_fast_utils.recipe import RECIPES, Recipe


class Toy(nn.Module):
    """Two parameters, one of them named bias, and a buffer."""

    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor([0.5, 3.0], dtype=torch.float64))
        self.register_buffer("count", torch.zeros(1, dtype=torch.float64))


RATES = [0.1, 0.4, 0.2, 0.05]
GRADIENTS = np.random.default_rng(0).normal(size=(4, 2, 2))


def by_hand(recipe: Recipe) -> list[np.ndarray]:
    """Nesterov SGD with the rate outside the velocity, in NumPy."""
    found = []
    for k, (start, factor) in enumerate((([1.0, -2.0], 1), ([0.5, 3.0], recipe.bias_factor))):
        w, v = np.array(start), np.zeros(2)
        for rate, gradients in zip(RATES, GRADIENTS, strict=True):
            g = gradients[k] + recipe.weight_decay / factor * w
            v = 0.9 * v + g
            w = w - rate * factor * (g + 0.9 * v)
        found.append(w)
    return found


@pytest.mark.parametrize("loss_scale", [1.0, 512.0])
@pytest.mark.parametrize("name", ["baseline", "frozen_scales_18_x16", "final"])
def test_updates_are_nesterovs_whatever_the_loss_is_scaled_by(name: str, loss_scale: float) -> None:
    toy, recipe = Toy(), replace(RECIPES[name], weight_decay=0.01)
    optimiser = build_optimiser(toy, recipe, loss_scale)
    for rate, (g_weight, g_bias) in zip(RATES, GRADIENTS, strict=True):
        toy.weight.grad = torch.tensor(g_weight * loss_scale)
        toy.bias.grad = torch.tensor(g_bias * loss_scale)
        set_rate(optimiser, rate)
        optimiser.step()
    weight, bias = by_hand(recipe)
    np.testing.assert_allclose(toy.weight.detach().numpy(), weight, rtol=1e-10)
    np.testing.assert_allclose(toy.bias.detach().numpy(), bias, rtol=1e-10)


def test_the_groups_of_the_network() -> None:
    network = ResNet9(RECIPES["final"], 8)
    weights, biases = build_optimiser(network, RECIPES["final"]).param_groups
    assert len(biases["params"]) == 8  # one norm after each of eight convolutions
    assert len(weights["params"]) == 9  # their weights and the linear layer's: no frozen scale, no whitening
    assert biases["weight_decay"] == pytest.approx(5e-4 / 64)
    assert weights["weight_decay"] == 5e-4
    weights, biases = build_optimiser(ResNet9(RECIPES["baseline"], 8), RECIPES["baseline"]).param_groups
    assert len(weights["params"]) == 8 + 1 + 8  # convolutions, linear and the norms' scales, which decay as well
    assert weights["nesterov"]


def test_the_average_is_of_parameters_and_buffers_with_the_articles_momentum() -> None:
    toy, recipe = Toy(), RECIPES["final"]
    average = build_average(toy, recipe)
    assert average is not None
    expected: dict[str, np.ndarray] = {}
    for k in range(6):
        for value in toy.state_dict().values():
            value += k + 1
        average.update_parameters(toy)
        for key, value in toy.state_dict().items():
            old = expected.get(key)
            now = value.numpy().copy()
            expected[key] = now if old is None else 0.99**5 * old + (1 - 0.99**5) * now
    for key, value in average.module.state_dict().items():
        np.testing.assert_allclose(value.numpy(), expected[key], rtol=1e-6)


def test_without_ema_there_is_no_average() -> None:
    assert build_average(Toy(), RECIPES["whitening"]) is None
