"""The baseline's augmentation: image by image on the host, by torchvision's transforms in a DataLoader.

Source: "Bag of Tricks": what the grouped augmentation of `augment` replaces.

Notebook 01.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .augment import SIZE
from .errors import UserError
from .recipe import Recipe
from .sources import no_torchvision

CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
"""Those that this process may use."""
WORKERS = min(8 if sys.platform == "linux" else 4, CORES)
"""A GPU has no use for more than eight. Outside Linux each is a Python of its own, with all that it imports."""


class _Images(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Tensor], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[index]), self.labels[index]


def transforms(recipe: Recipe) -> Callable[[Tensor], Tensor]:
    """Crop, flip and cutout of one padded, normalised image (3, h, w), by torchvision's v2 transforms.

    Raises `UserError` where torchvision does not import.
    """
    try:
        from torchvision.transforms import v2
    except (ImportError, RuntimeError) as error:
        raise UserError(no_torchvision(error)) from None

    share = recipe.cutout**2 / SIZE**2
    steps = [
        v2.RandomCrop(SIZE),
        v2.RandomHorizontalFlip(0.5 if recipe.flip == "random" else 0.0),
        v2.RandomErasing(p=1.0 if recipe.cutout else 0.0, scale=(share, share), ratio=(1.0, 1.0), value=0),
    ]
    composed: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return composed


def loader(
    padded: Tensor, labels: Tensor, recipe: Recipe, generator: torch.Generator
) -> DataLoader[tuple[Tensor, Tensor]]:
    """A DataLoader over padded, normalised images (n, h, w, 3) on the host; it drops the last, smaller batch.

    Raises `UserError` where torchvision does not import.
    """
    return DataLoader(
        _Images(padded.permute(0, 3, 1, 2), labels, transforms(recipe)),
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        generator=generator,
        persistent_workers=True,
    )


def batches(
    loader: DataLoader[tuple[Tensor, Tensor]], device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of the loader's batches, (b, 3, h, w) and (b,), on the device, in the dtype given, channels-last."""
    for images, labels in loader:
        yield images.to(device, dtype, memory_format=torch.channels_last), labels.to(device)
