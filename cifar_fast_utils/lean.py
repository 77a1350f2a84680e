"""The lean network of the years after the article: whitening, three blocks of two convolutions, a linear layer.

    whiten   2×2 patches, no padding, 12 eigenpatches and their negatives, 3→24, then GELU in any case  31 × 31
    block1   conv 24→64, pool, norm, activation, conv 64→64, norm, activation                           15 × 15
    block2   the same, 64→256                                                                            7 × 7
    block3   the same, 256→256                                                                           3 × 3
    max-pool 3, linear 256→10, logits × a constant

Source: K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024. 1.97 million parameters at full width.

Notebook 14.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import CLASSES, Conv, ConvBlock
from .recipe import Recipe
from .whitening import patch_covariance, whitening_filters

PATCH = 2
EPS = 5e-4
IMAGES = 5_000
CHANNELS = 2 * 3 * PATCH**2


def both_signs(images: Tensor) -> Tensor:
    """The whitening filters (24, 3, 2, 2) of normalised images (n, 3, h, w): each eigenpatch and its negative.

    An activation cuts off one side of what a filter gives; with both signs nothing is lost.
    """
    filters = whitening_filters(patch_covariance(images, PATCH), EPS)
    return torch.cat([filters, -filters])


class LeanNet(nn.Module):
    """The network: normalised images (b, 3, side, side) → logits (b, 10) in float32.

    `width` is the unit of the recipe's `widths`, 64 in the source. `filters`, (24, 3, 2, 2), are the whitening
    convolution's (see `both_signs`); its bias starts at 0 and is trained.
    """

    def __init__(self, recipe: Recipe, width: int = 64, filters: Tensor | None = None) -> None:
        super().__init__()
        self.logit_scale = recipe.logit_scale
        self.frozen = 0
        self.whiten = Conv(3, CHANNELS, PATCH, padding=0, bias=True, stride=recipe.whiten_stride)
        self.whiten.weight.requires_grad_(False)
        if filters is not None:
            self.whiten.weight.data.copy_(filters)
        widths = (CHANNELS, *(factor * width for factor in recipe.widths))
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(ConvBlock(recipe, c_in, c_out, pool=True), ConvBlock(recipe, c_out, c_out))
                for c_in, c_out in itertools.pairwise(widths)
            )
        )
        self.linear = nn.Linear(widths[-1], CLASSES, bias=False)

    def train_bias(self, on: bool) -> None:
        """Whether the whitening's bias is trained from here on."""
        assert self.whiten.bias is not None
        self.whiten.bias.requires_grad_(on)

    def freeze(self, blocks: int) -> None:
        """From here on, let no gradient into this many first blocks or the whitening: none is computed."""
        self.frozen = blocks

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch, in the dtype and layout the images come in until the last line."""
        x = F.gelu(self.whiten(x))
        for number, block in enumerate(self.blocks):
            x = block(x.detach() if 0 < self.frozen == number else x)
        x = F.adaptive_max_pool2d(x, 1).flatten(1)  # of 3 × 3 where the images have 32 pixels a side
        return F.linear(x, self.linear.weight.to(x.dtype)).float() * self.logit_scale
