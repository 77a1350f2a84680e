"""Augmentation in groups: crop, flip and cutout by a few large copies instead of one small one per image.

Shuffle the images, split them into one group per possible choice, apply one choice to a whole group. An epoch's choices
are data (`Choices`), drawn from a seeded generator before any pixel moves. Group sizes are even, so this is not quite
independent sampling for each image, but close.

Source: "Bag of Tricks", section on preprocessing and augmentation on the device.

Notebook 01.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UserError
from .recipe import Recipe
from .sources import MEAN as MEAN
from .sources import STD as STD

SIZE = 32
MAX_GROUPS = 200

Groups = list[tuple[Tensor, tuple[int, int]]]
"""Which images (int64 indices), and the one choice made for them: the top left corner (y, x) of a box, in pixels."""


@dataclass(frozen=True)
class Choices:
    """All that is random about an epoch of n images, in the order in which it is applied."""

    crop: Groups
    """Corners in the padded image; the images come out of the crop in the order of the groups."""
    flip: Tensor
    """Whether each of the cropped images, by its place after the crop, is mirrored."""
    cutout: Groups
    """Corners in the cropped image, by the place after the crop."""
    tone: Tensor | None
    """By the place after the crop: what is added to an image, and by what it is then multiplied, (2, n)."""
    order: Tensor
    """A permutation of the n places: the order in which the batches take them."""


def normalise(images: Tensor) -> Tensor:
    """uint8 RGB images (…, 3) to float32, with zero mean and unit variance by channel over the training images."""
    mean, std = (torch.tensor(values, device=images.device) for values in (MEAN, STD))
    return (images - mean) / std


def pad(images: Tensor, border: int) -> Tensor:
    """Images (n, h, w, c) with a reflected border: (n, h + 2 border, w + 2 border, c)."""
    padded = F.pad(images.permute(0, 3, 1, 2), (border,) * 4, mode="reflect")
    return padded.permute(0, 2, 3, 1).contiguous()  # as it is already, except where a device answers in another layout


def prepare(images: Tensor, dtype: torch.dtype, border: int = 0) -> Tensor:
    """uint8 images (n, h, w, 3), normalised and padded once and for all: (n, h + 2 border, w + 2 border, 3)."""
    # A few hundred at a time stay in a processor's cache from one step to the next.
    return torch.cat([pad(normalise(part).to(dtype), border) for part in torch.split(images, 500)])


def split_into_groups(n: int, positions: int, generator: torch.Generator) -> Groups:
    """n shuffled images in even groups, one for each of the `positions`² places that a box's corner can take.

    Where there are more places than `MAX_GROUPS`, that many are drawn. Sizes differ by at most one.
    """
    device = generator.device
    places = torch.randperm(positions**2, generator=generator, device=device)[:MAX_GROUPS].tolist()
    images = torch.randperm(n, generator=generator, device=device)
    return [
        (part, divmod(place, positions)) for part, place in zip(images.tensor_split(len(places)), places, strict=True)
    ]


def half_of(n: int, generator: torch.Generator) -> Tensor:
    """A mask (n,) that is true for half of n, drawn at random."""
    return torch.randperm(n, generator=generator, device=generator.device) < n // 2


def shrink(images: Tensor, side: int) -> Tensor:
    """uint8 images (n, h, w, 3) → (n, side, side, 3): bilinear, with the smoothing that a smaller picture needs."""
    if side == images.shape[1]:
        return images
    parts = (part.permute(0, 3, 1, 2).float() for part in torch.split(images, 500))
    small = (F.interpolate(part, (side, side), mode="bilinear", antialias=True) for part in parts)
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1) for part in small])


def draw(
    recipe: Recipe, n: int, generator: torch.Generator, mirrored: Tensor | None = None, side: int = SIZE
) -> Choices:
    """The choices of one epoch of n images, by the recipe's `pad`, `flip`, `cutout` and `jitter`.

    `mirrored`, (n,): which images to mirror, in place of drawing half of them. Source: airbench. The jitter is drawn
    for each image on its own, uniformly. Source: Hiverge, cifar10-speedrun.
    """
    device = generator.device
    crop = split_into_groups(n, 2 * recipe.pad + 1, generator)
    flip = half_of(n, generator) & (recipe.flip == "random")  # always drawn: what is drawn next stays the same
    return Choices(
        crop=crop,
        flip=flip if mirrored is None else mirrored[torch.cat([images for images, _ in crop])],
        cutout=split_into_groups(n, side - recipe.cutout + 1, generator) if recipe.cutout else [],
        tone=_tone(n, recipe.jitter, generator) if recipe.jitter else None,
        order=torch.randperm(n, generator=generator, device=device),
    )


def _tone(n: int, jitter: float, generator: torch.Generator) -> Tensor:
    drawn = (2 * torch.rand(2, n, generator=generator, device=generator.device) - 1) * jitter
    return drawn + torch.tensor([[0.0], [1.0]], device=generator.device)


def apply(choices: Choices, padded: Tensor, cutout: int, side: int = SIZE) -> Tensor:
    """The augmented images (n, side, side, c), in the order of the crop's groups.

    `padded`: normalised images (n, side + 2 border, side + 2 border, c); `cutout`: the box's side in pixels.
    """
    n, _, _, channels = padded.shape
    out = padded.new_empty((n, side, side, channels))
    start = 0
    for images, (y, x) in choices.crop:
        stop = start + len(images)
        group = out[start:stop]
        torch.index_select(padded[:, y : y + side, x : x + side], 0, images, out=group)
        mirrored = choices.flip[start:stop].nonzero().squeeze(1)
        group.index_copy_(0, mirrored, group.index_select(0, mirrored).flip(2))
        start = stop
    if choices.tone is not None:
        moved, scaled = choices.tone.to(out.dtype)[:, :, None, None, None]
        out.add_(moved).mul_(scaled)
    for images, (y, x) in choices.cutout:
        out[images, y : y + cutout, x : x + cutout] = 0
    return out


def steps_in_epoch(recipe: Recipe, n: int) -> int:
    """How many whole batches n training images make. Raises `UserError` if they are fewer than one."""
    if n < recipe.batch_size:
        raise UserError(f"a batch of {recipe.batch_size} is larger than the data: {n} training image{'s' * (n > 1)}")
    return n // recipe.batch_size


def batches(
    padded: Tensor, labels: Tensor, recipe: Recipe, generator: torch.Generator, mirrored: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of augmented batches: images (b, 3, side, side) in channels-last layout, and their labels (b,).

    `mirrored` as in `draw`. The last, smaller batch is dropped.
    Raises `UserError` if the data holds less than one batch.
    """
    n, steps = len(labels), steps_in_epoch(recipe, len(labels))
    side = padded.shape[1] - 2 * recipe.pad
    choices = draw(recipe, n, generator, mirrored, side)
    images = apply(choices, padded, recipe.cutout, side)
    labels = labels[torch.cat([part for part, _ in choices.crop])]
    for part in torch.split(choices.order, recipe.batch_size)[:steps]:
        yield images.index_select(0, part).permute(0, 3, 1, 2), labels.index_select(0, part)
