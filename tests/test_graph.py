from dataclasses import replace
from typing import Literal

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.transforms import Bbox
from torch import Tensor, nn

from cifar_fast_utils.graph import draw_graph
from cifar_fast_utils.layers import Conv, GhostBatchNorm
from cifar_fast_utils.network import ResNet9
from cifar_fast_utils.recipe import MODERN, RECIPES, Recipe

Pool = Literal["after_act", "before_act", "before_norm"]


def drawn(recipe: Recipe, width: int = 64, part: str = "", size: tuple[float, float] = (8, 6.5)) -> Axes:
    axes = Figure(figsize=size, layout="constrained").subplots()
    draw_graph(recipe, axes, width, part)
    return axes


def texts(axes: Axes) -> list[str]:
    """What stands in the boxes, in the order of computing."""
    return [text.get_text() for text in axes.texts if "\n" in text.get_text()]


@pytest.mark.parametrize(
    ("pool", "order"),
    [
        ("after_act", ["conv 3×3\n64 × 16 × 16", "norm\n64 × 16 × 16", "ReLU\n64 × 16 × 16", "max-pool 2\n64 × 8 × 8"]),
        ("before_act", ["conv 3×3\n64 × 16 × 16", "norm\n64 × 16 × 16", "max-pool 2\n64 × 8 × 8", "ReLU\n64 × 8 × 8"]),
        ("before_norm", ["conv 3×3\n64 × 16 × 16", "max-pool 2\n64 × 8 × 8", "norm\n64 × 8 × 8", "ReLU\n64 × 8 × 8"]),
    ],
)
def test_the_pool_stands_where_the_recipe_puts_it(pool: Pool, order: list[str]) -> None:
    recipe = replace(RECIPES["baseline"], pool=pool)
    assert texts(drawn(recipe, width=16, part="layer2")) == ["input\n32 × 16 × 16", *order]
    whole = texts(drawn(recipe, width=16))
    start = whole.index(order[0])
    assert whole[start : start + 4] == order


@pytest.mark.parametrize(("activation", "box"), [("relu", "ReLU"), ("gelu", "GELU"), ("celu", "CELU, α = 0.3")])
def test_every_activation_has_its_box(activation: Literal["relu", "gelu", "celu"], box: str) -> None:
    recipe = replace(RECIPES["baseline"], activation=activation, celu_alpha=0.3 * (activation == "celu"))
    assert f"{box}\n32 × 16 × 16" in texts(drawn(recipe, width=8, part="layer2"))


@pytest.mark.parametrize("name", ["baseline", "pool_before_act", "pool_before_norm", "celu", "ghost_norm", "final"])
def test_the_boxes_are_the_modules_with_the_shapes_that_leave_them(name: str) -> None:
    recipe = RECIPES[name]
    network, found = ResNet9(recipe, 8).eval(), list[str]()

    def note(module: nn.Module, _: object, out: Tensor) -> None:
        kind = "norm" if isinstance(module, GhostBatchNorm) else "conv" if module.weight.requires_grad else "whitening"
        found.append(f"{kind} {tuple(out.shape[1:])}")

    for module in network.modules():
        if isinstance(module, Conv | GhostBatchNorm):
            module.register_forward_hook(note)
    network(torch.zeros(1, 3, 32, 32))
    boxes = [text.split("\n") for text in texts(drawn(recipe, width=8))]
    shown = [
        f"{what.split()[0].rstrip(',')} {tuple(int(side) for side in shape.split(' × '))}"
        for what, shape in boxes
        if what.startswith(("norm", "conv", "whitening"))
    ]
    assert shown == found
    assert sum(what.startswith("max-pool") for what, _ in boxes) == 4
    assert sum(what.startswith(("ReLU", "CELU")) for what, _ in boxes) == 8
    assert sum(what == "add" for what, _ in boxes) == 2


def test_what_a_recipe_changes_is_written_in_the_boxes() -> None:
    baseline, final = (texts(drawn(RECIPES[name])) for name in ("baseline", "final"))
    assert baseline[:2] == ["input\n3 × 32 × 32", "conv 3×3\n64 × 32 × 32"]
    assert baseline[-2:] == ["linear\n10", "× 1/8\n10"]
    assert final[1:5] == [
        "whitening 3×3, fixed\n27 × 32 × 32",
        "conv 1×1\n64 × 32 × 32",
        "norm, 16 groups\n64 × 32 × 32",
        "CELU, α = 0.3\n64 × 32 × 32",
    ]
    assert final[-1] == "× 1/16\n10"


def patches(axes: Axes, kind: type) -> list[Bbox]:
    return [patch.get_window_extent() for patch in axes.patches if isinstance(patch, kind)]


@pytest.mark.parametrize(("name", "part"), [("final", ""), ("baseline", ""), ("final", "layer1"), ("final", "prep")])
def test_every_box_but_the_first_has_its_arrows_and_an_addition_two(name: str, part: str) -> None:
    axes = drawn(RECIPES[name], part=part)
    boxes = texts(axes)
    additions = sum(text.startswith("add") for text in boxes)
    assert len(patches(axes, FancyArrowPatch)) == len(boxes) - 1 + additions


@pytest.mark.parametrize("name", ["baseline", "final"])
def test_it_is_legible_in_eight_inches(name: str) -> None:
    axes = drawn(RECIPES[name])
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    boxes = patches(axes, Rectangle)
    inside = [text.get_window_extent() for text in axes.texts if "\n" in text.get_text()]
    assert min(float(text.get_fontsize()) for text in axes.texts) >= 7
    for k, (box, text) in enumerate(zip(boxes, inside, strict=True)):
        assert box.x0 <= text.x0 <= text.x1 <= box.x1
        assert box.y0 <= text.y0 <= text.y1 <= box.y1
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])
        assert all(figure.bbox.x0 <= x <= figure.bbox.x1 for x in (box.x0, box.x1))
        assert all(figure.bbox.y0 <= y <= figure.bbox.y1 for y in (box.y0, box.y1))


def test_a_part_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no part called 'layer9'"):
        drawn(RECIPES["baseline"], part="layer9")


def test_the_lean_network_is_not_drawn_as_another() -> None:
    with pytest.raises(ValueError, match="lean"):
        drawn(MODERN["airbench94"])
