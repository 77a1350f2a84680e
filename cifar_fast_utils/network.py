"""ResNet-9, and the choice between it and the lean network, built from a recipe; their FLOPs.

    prep     conv 3→64                                              32 × 32
    layer1   conv 64→128, pool, then a residual block of two convs  16 × 16
    layer2   conv 128→256, pool                                      8 × 8
    layer3   conv 256→512, pool, then a residual block of two convs  4 × 4
    max-pool 4, linear 512→10, logits × a constant

All convolutions 3×3, no bias, each followed by norm and activation. 6.57 million parameters at full width.
Source: "Bag of Tricks" and the series before it.

Notebook 00.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .augment import SIZE, normalise
from .layers import CLASSES, Conv
from .layers import ConvBlock as ConvBlock
from .lean import IMAGES as LEAN_IMAGES
from .lean import LeanNet, both_signs
from .recipe import Recipe, at, untrained
from .whitening import IMAGES, patch_covariance, whitening_filters


class Residual(nn.Module):
    """x + block(block(x)), (b, c, s, s) → the same."""

    def __init__(self, recipe: Recipe, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(recipe, channels, channels)
        self.second = ConvBlock(recipe, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to x."""
        out: Tensor = x + self.second(self.first(x))
        return out


class ResNet9(nn.Module):
    """The network: normalised images (b, 3, 32, 32) → logits (b, 10) in float32.

    `width` is the number of channels after the prep convolution, 64 in the article. `filters`, (d, 3, 3, 3), are the
    whitening convolution's, needed where the recipe whitens (see `whitening`).
    """

    def __init__(self, recipe: Recipe, width: int = 64, filters: Tensor | None = None) -> None:
        super().__init__()
        w = width
        self.logit_scale = recipe.logit_scale
        self.whiten: nn.Module = nn.Identity()
        if recipe.whiten:
            self.whiten = Conv(3, 27)
            self.whiten.weight.requires_grad_(False)
            if filters is not None:
                self.whiten.weight.data.copy_(filters)
        self.prep = ConvBlock(recipe, 27, w, kernel=1) if recipe.whiten else ConvBlock(recipe, 3, w)
        self.layer1 = nn.Sequential(ConvBlock(recipe, w, 2 * w, pool=True), Residual(recipe, 2 * w))
        self.layer2 = ConvBlock(recipe, 2 * w, 4 * w, pool=True)
        self.layer3 = nn.Sequential(ConvBlock(recipe, 4 * w, 8 * w, pool=True), Residual(recipe, 8 * w))
        self.linear = nn.Linear(8 * w, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch, in the dtype and layout the images come in until the last line."""
        x = self.prep(self.whiten(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.max_pool2d(x, 4).flatten(1)
        return F.linear(x, self.linear.weight.to(x.dtype)).float() * self.logit_scale


Network = ResNet9 | LeanNet


def new_network(recipe: Recipe, width: int, filters: Tensor | None = None) -> Network:
    """The recipe's network, fresh, in float32; `filters` are those of its whitening convolution, if it has one."""
    return (LeanNet if recipe.network == "lean" else ResNet9)(recipe, width, filters)


def whitening_layer(recipe: Recipe, images: Tensor) -> Tensor | None:
    """The whitening filters of uint8 training images (n, 32, 32, 3), or None if the recipe does not whiten."""
    if not recipe.whiten:
        return None
    if recipe.network == "lean":
        return both_signs(normalise(images[:LEAN_IMAGES]).permute(0, 3, 1, 2))
    return whitening_filters(patch_covariance(normalise(images[:IMAGES]).permute(0, 3, 1, 2)))


def build_network(recipe: Recipe, width: int, precision: str, filters: Tensor | None = None) -> Network:
    """A fresh network in channels-last layout, initialised from PyTorch's global generator.

    Weights are float32, except in a float16 run without `master_weights`, which holds all but the norms in float16.
    """
    network = new_network(recipe, width, filters).to(memory_format=torch.channels_last)
    if precision == "float16" and not recipe.master_weights:
        for module in network.modules():
            if isinstance(module, Conv | nn.Linear):
                module.half()
    return network


def count_flops(recipe: Recipe, width: int, side: int = SIZE, frozen: int = 0) -> int:
    """Floating-point operations of one training step, forward and backward, counted by PyTorch without computing it.

    Those of convolutions and matrix products. The bias of the lean network's whitening counts as trained; where it is
    fixed, a step takes about 4% less at full width, 11% less at a quarter (notebook 14). `side`: the images', in
    pixels; `frozen`: how many of the lean network's blocks it does not train.
    """
    shape = {name: getattr(recipe, name) for name in ("batch_size", "network", "widths", "whiten", "whiten_stride")}
    return _counted(Recipe(name="counted", epochs=1, knots=((0, 1),), **shape), width, side, frozen)


@functools.cache
def _counted(recipe: Recipe, width: int, side: int, frozen: int) -> int:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = new_network(recipe, width)
        if isinstance(network, LeanNet):
            network.freeze(frozen)
        network(torch.empty(recipe.batch_size, 3, side, side)).sum().backward()
    return int(counter.get_total_flops())


def stages(recipe: Recipe, steps_per_epoch: int) -> list[tuple[int, int, int]]:
    """(side, untrained blocks, steps): how many steps of a kind a run takes, stage by stage."""
    steps = max(1, round(recipe.epochs * steps_per_epoch))
    starts = {round(epoch * steps_per_epoch): epoch for epoch, _ in (*recipe.sides, *recipe.frozen, *recipe.resting)}
    kinds: Counter[tuple[int, int]] = Counter()
    for start, end in itertools.pairwise([*sorted(start for start in starts if start < steps), steps]):
        odd = end // 2 - start // 2
        for step, of_them in ((0, end - start - odd), (1, odd)):
            kinds[at(recipe.sides, starts[start]), untrained(recipe, starts[start], step)] += of_them
    return [(side, blocks, number) for (side, blocks), number in kinds.items() if number]


def run_flops(recipe: Recipe, width: int, steps_per_epoch: int) -> int:
    """`count_flops`, summed over all steps of a run, whose images may change their side on the way."""
    return sum(
        steps * count_flops(recipe, width, side, blocks) for side, blocks, steps in stages(recipe, steps_per_epoch)
    )
