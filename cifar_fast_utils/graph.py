"""The network's graph, drawn: every box is an operation that PyTorch traced in the network that the recipe builds.

Source: "Bag of Tricks" shows each changed network as a graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Container
from fractions import Fraction

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path
from torch import nn
from torch.fx import GraphModule, Node, Tracer
from torch.fx.passes.shape_prop import ShapeProp

from .layers import Conv, GhostBatchNorm
from .network import ResNet9
from .recipe import Recipe

COLOURS = {"conv": "#cfe2f3", "whitening": "#9fc5e8", "max-pool": "#f9cb9c", "add": "#d9ead3"}
"""By the first word in a box; any other is white. The words tell the boxes apart, the colours only help."""
WIDTH, HEIGHT = 0.76, 0.7  # of a box, where columns and rows are 1 apart


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Conv | GhostBatchNorm) or super().is_leaf_module(m, module_qualified_name)


def draw_graph(recipe: Recipe, axes: Axes, width: int = 64, part: str = "") -> None:
    """Draw the recipe's ResNet-9, or one part of it ("layer2"), as boxes with the shapes that leave them, and arrows.

    A column for each part of the network, read from the top down. Shapes are channels × rows × columns, of one image.
    Raises `ValueError` if the network has no such part, or is the lean one.
    """
    if recipe.network == "lean":
        raise ValueError("the lean network cannot be drawn")
    boxes = _boxes(recipe, width)
    if part:
        inside = {node: text for node, text in boxes.items() if f"{_owner(node)}.".startswith(f"{part}.")}
        if not inside:
            raise ValueError(f"the network has no part called '{part}'")
        (entry,) = _sources(next(iter(inside)), boxes)
        boxes = {entry: "input\n" + boxes[entry].split("\n")[1], **inside}
    columns: dict[str, list[Node]] = {}
    for node in boxes:
        columns.setdefault(part or _column(node), []).append(node)
    place = {node: (x, -y) for x, nodes in enumerate(columns.values()) for y, node in enumerate(nodes)}
    for x, name in enumerate(columns):
        axes.text(x, 0.6, name, ha="center", va="center", fontsize=8, fontweight="bold")
    for node, text in boxes.items():
        (x, y), colour = place[node], COLOURS.get(text.split()[0], "white")
        axes.add_patch(Rectangle((x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, facecolor=colour, edgecolor="black"))
        axes.text(x, y, text, ha="center", va="center", fontsize=7, color="black")
        for source in _sources(node, boxes):
            path = Path(_route(place[source], (x, y)))
            axes.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=7, color="black", lw=0.8))
    axes.set(xlim=(-0.55, len(columns) - 0.45), ylim=(0.5 - max(map(len, columns.values())), 0.85))
    axes.axis("off")


def _boxes(recipe: Recipe, width: int) -> dict[Node, str]:
    """The traced operations that are worth a box, in the order in which they are computed, with their text."""
    with torch.device("meta"):  # shapes without computing
        network = ResNet9(recipe, width).eval()
        traced = GraphModule(network, _Tracer().trace(network))
        ShapeProp(traced).propagate(torch.empty(1, 3, 32, 32))
    boxes = {}
    for node in traced.graph.nodes:
        if text := _text(node, network):
            boxes[node] = f"{text}\n" + " × ".join(str(side) for side in node.meta["tensor_meta"].shape[1:])
    return boxes


def _text(node: Node, network: nn.Module) -> str:
    """What a traced operation is called; nothing if it only moves numbers about."""
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, Conv):
        kernel = "×".join(str(side) for side in module.kernel_size)
        return f"conv {kernel}" if module.weight.requires_grad else f"whitening {kernel}, fixed"
    if isinstance(module, GhostBatchNorm):
        return "norm" if module.groups == 1 else f"norm, {module.groups} groups"
    name = "input" if node.op == "placeholder" else getattr(node.target, "__name__", "")
    if node.target is F.max_pool2d:  # whose own name is different
        return f"max-pool {node.args[1]}"
    if name == "mul":
        return f"× {Fraction(str(node.args[1])).limit_denominator(1000)}"
    if name == "celu":
        return f"CELU, α = {node.kwargs['alpha']}"
    return {"relu": "ReLU", "gelu": "GELU"}.get(name, name if name in ("input", "add", "linear") else "")


def _owner(node: Node) -> str:
    """The part of the network that computes it: "layer1.0", say; empty for the network itself."""
    return str(list(node.meta.get("nn_module_stack", {"": None}))[-1])


def _column(node: Node) -> str:
    top = _owner(node).split(".")[0]
    return "prep" if node.op == "placeholder" or top == "whiten" else top or "head"


def _sources(node: Node, boxes: Container[Node]) -> list[Node]:
    """The boxes that feed this one, through whatever has no box."""
    found = [[source] if source in boxes else _sources(source, boxes) for source in node.all_input_nodes]
    return list(dict.fromkeys(itertools.chain(*found)))


def _route(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Corners of an arrow: straight down, on the left past the boxes between, or on the right to the next column."""
    (x0, y0), (x1, y1) = start, end
    if x0 == x1 and y0 - y1 == 1:
        return [(x0, y0 - HEIGHT / 2), (x1, y1 + HEIGHT / 2)]
    left, right = x0 - WIDTH / 2, x0 + WIDTH / 2
    side, leave = (left - 0.06, left) if x0 == x1 else (right + 0.09, right)
    return [(leave, y0), (side, y0), (side, y1), (x1 - WIDTH / 2, y1)]
