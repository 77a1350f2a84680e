from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cifar_fast_utils import network
from cifar_fast_utils.network import ConvBlock, ResNet9, build_network, count_flops, new_network, stages
from cifar_fast_utils.recipe import MODERN, MODERN_WITHOUT, RECIPES, Recipe, at, get

BASELINE = RECIPES["baseline"]


def plain_resnet9(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The baseline's network in training mode, written out flat with PyTorch's own layers."""

    def block(x: Tensor, name: str, pool: bool = False) -> Tensor:
        x = F.conv2d(x, state[f"{name}.conv.weight"], padding=1)
        x = F.batch_norm(x, None, None, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"], training=True)
        return F.max_pool2d(x.relu(), 2) if pool else x.relu()

    x = block(x, "prep")
    x = block(x, "layer1.0", pool=True)
    x = x + block(block(x, "layer1.1.first"), "layer1.1.second")
    x = block(x, "layer2", pool=True)
    x = block(x, "layer3.0", pool=True)
    x = x + block(block(x, "layer3.1.first"), "layer3.1.second")
    return F.max_pool2d(x, 4).flatten(1) @ state["linear.weight"].T / 8


@pytest.mark.parametrize("side", [32, 16])
def test_flops_are_counted_once_for_each_shape_and_are_those_of_the_recipe(side: int) -> None:
    for recipe in (RECIPES | MODERN | MODERN_WITHOUT).values():
        if side == 32 or recipe.network == "lean":
            with torch.device("meta"), FlopCounterMode(display=False) as counter:
                new_network(recipe, 4)(torch.empty(recipe.batch_size, 3, side, side)).sum().backward()
            assert count_flops(recipe, 4, side) == counter.get_total_flops(), recipe.name
    before = network._counted.cache_info().misses
    assert count_flops(replace(get("final"), name="another", epochs=3, celu_alpha=0.2), 4) > 0
    assert network._counted.cache_info().misses == before


def test_the_baselines_network_is_the_articles() -> None:
    torch.manual_seed(0)
    network = ResNet9(BASELINE, width=8)
    x = torch.randn(16, 3, 32, 32)
    torch.testing.assert_close(network(x), plain_resnet9(dict(network.named_parameters()), x))


@pytest.mark.parametrize(("name", "millions"), [("baseline", 6.57), ("final", 6.57)])
def test_size(name: str, millions: float) -> None:
    network = ResNet9(RECIPES[name])
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions
    widths = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [*([27] if name == "final" else []), 64, 128, 128, 128, 256, 512, 512, 512]
    assert [key for key, _ in network.named_parameters() if key.endswith("bias") and "norm" not in key] == []


def test_the_small_network_has_a_quarter_of_the_width() -> None:
    widths = {m.out_channels for m in ResNet9(BASELINE, width=16).modules() if isinstance(m, nn.Conv2d)}
    assert widths == {16, 32, 64, 128}


def test_initialisation_is_pytorchs_default() -> None:
    torch.manual_seed(3)
    network = ResNet9(BASELINE, width=8)
    torch.manual_seed(3)
    first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert torch.equal(network.prep.conv.weight, first.weight)


def outputs_and_gradients(recipe: Recipe) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    block = ConvBlock(recipe, 5, 7, pool=True)
    x = torch.randn(16, 5, 8, 8, requires_grad=True)
    y = block(x)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert x.grad is not None
    assert block.conv.weight.grad is not None
    return y.detach(), x.grad, block.conv.weight.grad, block.norm.weight.grad, block.norm.bias.grad  # type: ignore[return-value]


def test_with_relu_pooling_before_the_activation_changes_no_bit() -> None:
    after, before = (outputs_and_gradients(replace(BASELINE, pool=place)) for place in ("after_act", "before_act"))
    # Where all four values of a window are negative, max-pool after ReLU sees four zeros: the gradient is 0 either way.
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_with_celu_it_changes_rounding_only() -> None:
    celu = replace(BASELINE, activation="celu", celu_alpha=0.075)
    after, before = (outputs_and_gradients(replace(celu, pool=place)) for place in ("after_act", "before_act"))
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_pooling_before_the_norm_changes_the_function() -> None:
    after, before = (outputs_and_gradients(replace(BASELINE, pool=place)) for place in ("after_act", "before_norm"))
    assert (after[0] - before[0]).abs().max() > 0.1


def test_frozen_scales_at_one_are_scales_at_a_quarter_with_alpha_over_four() -> None:
    torch.manual_seed(0)
    frozen, quarter = RECIPES["frozen_scales"], replace(RECIPES["frozen_scales"], celu_alpha=0.075)
    one, other = ConvBlock(frozen, 3, 4), ConvBlock(quarter, 3, 4)
    other.load_state_dict(one.state_dict())
    nn.init.constant_(other.norm.weight, 1 / 4)
    nn.init.normal_(one.norm.bias)
    other.norm.bias.data = one.norm.bias.data / 4
    x = torch.randn(32, 3, 8, 8)
    torch.testing.assert_close(one(x) / 4, other(x))


def test_celu_is_relu_shifted_in_the_limit_and_the_activation_is_used() -> None:
    x = torch.randn(16, 5, 8, 8)
    blocks = [ConvBlock(replace(BASELINE, activation="celu", celu_alpha=a), 5, 7) for a in (0.075, 1e-6)]
    relu = ConvBlock(BASELINE, 5, 7)
    for block in blocks:
        block.load_state_dict(relu.state_dict())
    torch.testing.assert_close(blocks[1](x), relu(x), atol=1e-5, rtol=0)
    assert -0.075 <= blocks[0](x).min() < -0.05


def test_the_whitening_layer_is_fixed_and_takes_the_filters() -> None:
    filters = torch.randn(27, 3, 3, 3)
    network = ResNet9(RECIPES["whitening"], 8, filters)
    assert torch.equal(network.whiten.weight, filters)  # type: ignore[arg-type]
    network(torch.randn(16, 3, 32, 32)).sum().backward()
    assert network.whiten.weight.grad is None
    assert network.prep.conv.weight.shape == (8, 27, 1, 1)


@pytest.mark.parametrize("name", ["baseline", "ghost_norm", "final"])
def test_logits_are_float32_and_scaled(name: str) -> None:
    recipe = RECIPES[name]
    torch.manual_seed(0)
    network = ResNet9(recipe, 8)
    torch.manual_seed(0)
    unscaled = ResNet9(replace(recipe, logit_scale=1.0), 8)
    x = torch.randn(16, 3, 32, 32)
    torch.testing.assert_close(network(x), unscaled(x) * recipe.logit_scale)
    low = network(x.bfloat16().contiguous(memory_format=torch.channels_last))
    assert low.dtype == torch.float32
    assert low.shape == (16, 10)


@pytest.mark.parametrize(
    ("precision", "master", "weights"),
    [
        ("float32", False, torch.float32),
        ("bfloat16", False, torch.float32),  # always: it would lose updates
        ("float16", False, torch.float16),
        ("float16", True, torch.float32),
    ],
)
def test_which_weights_are_kept_in_what(precision: str, master: bool, weights: torch.dtype) -> None:
    network = build_network(replace(RECIPES["final"], master_weights=master), 8, precision)
    for name, parameter in network.named_parameters():
        assert parameter.dtype == (torch.float32 if "norm" in name else weights), name
    assert isinstance(network, ResNet9)
    assert network.layer2.conv.weight.is_contiguous(memory_format=torch.channels_last)


@given(
    st.floats(0.5, 12),
    st.integers(1, 97),
    st.dictionaries(st.integers(1, 9), st.integers(16, 32), max_size=4),
    st.dictionaries(st.integers(1, 9), st.just(1), max_size=1),
    st.integers(0, 2),
)
def test_each_step_is_counted_at_the_side_that_it_is_trained_at_and_without_what_is_not_trained(
    epochs: float, per_epoch: int, later: dict[int, int], frozen: dict[int, int], resting: int
) -> None:
    sides = ((0.0, 16), *((float(epoch), later[epoch]) for epoch in sorted(later)))
    recipe = replace(
        get("airbench94"), epochs=epochs, sides=sides, frozen=((0, 0), *frozen.items()), resting=((0, resting),)
    )
    counted = [(side, blocks) for side, blocks, steps in stages(recipe, per_epoch) for _ in range(steps)]
    assert sorted(counted) == sorted(
        (at(recipe.sides, step / per_epoch), max(at(recipe.frozen, step / per_epoch), resting * (step % 2)))
        for step in range(max(1, round(epochs * per_epoch)))
    )


def test_what_is_frozen_costs_a_forward_pass_alone() -> None:
    recipe = get("airbench94")

    def forward(side: int, blocks: range) -> int:
        """Of the convolutions, two FLOPs a multiplication."""
        places, widths = [side - 1], (24, 256, 1024, 1024)
        for _ in range(3):
            places.append(places[-1] // 2)
        return sum(
            2 * 9 * c_out * (c_in * places[block] ** 2 + c_out * places[block + 1] ** 2)
            for block in blocks
            for c_in, c_out in [widths[block : block + 2]]
        )

    for side, frozen in ((32, 1), (32, 2), (24, 1)):
        saved = count_flops(recipe, 256, side) - count_flops(recipe, 256, side, frozen)
        places = side - 1  # of the first convolution still trained, which passes no gradient on
        for _ in range(frozen):
            places //= 2
        c_in, c_out = (24, 256, 1024, 1024)[frozen : frozen + 2]
        into = 2 * 9 * c_in * c_out * places**2
        assert saved == recipe.batch_size * (2 * forward(side, range(frozen)) + into)
