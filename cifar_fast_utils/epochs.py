"""What a training passes over: augmented batches, epoch after epoch, at the side that the recipe asks for.

Notebooks 15 (flips) and 17 (sides).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from . import augment, host
from .recipe import Recipe

Batches = Callable[..., Iterator[tuple[Tensor, Tensor]]]


def epochs_of(
    recipe: Recipe, images: Tensor, labels: Tensor, seed: int, dtype: torch.dtype, side: int = augment.SIZE
) -> Batches:
    """Shrink, normalise and pad once; each call of what is returned gives one epoch of augmented batches.

    Images: uint8 (n, 32, 32, 3); labels: (n,), or any other number for each image. A batch: images (b, 3, side, side)
    and their labels (b,). A call with the numbers of some images, (m,), passes over these alone; on the host, every
    call passes over all. If the images are too few for a batch, a pass on the device raises `UserError` when asked for
    the first batch; one on the host is empty. For the host, `UserError` is raised here if torchvision does not import.
    """
    if recipe.augment_on == "host":
        generator = torch.Generator().manual_seed(seed)
        padded = augment.prepare(images.cpu(), torch.float32, recipe.pad)
        loader = host.loader(padded, labels.cpu(), recipe, generator)
        return lambda chosen=None: host.batches(loader, images.device, dtype)
    # Each side's draws are its own: the flips too alternate between the epochs of one side.
    generator = torch.Generator(images.device).manual_seed(seed + (augment.SIZE - side) * 10**9)
    padded = augment.prepare(augment.shrink(images, side), dtype, recipe.pad)
    once = augment.half_of(len(labels), generator) if recipe.flip == "alternate" else None
    flips = itertools.cycle([once, None if once is None else ~once])

    def epoch(chosen: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        mirrored = next(flips)
        if chosen is None:
            return augment.batches(padded, labels, recipe, generator, mirrored)
        mirrored = None if mirrored is None else mirrored[chosen]
        return augment.batches(padded[chosen], labels[chosen], recipe, generator, mirrored)

    return epoch
