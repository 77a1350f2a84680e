"""Test accuracy, with and without test-time augmentation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 1000


@torch.no_grad()
def logits_of(network: nn.Module, images: Tensor, mirror: bool = False) -> Tensor:
    """The network's logits (n, 10) in evaluation mode, of normalised images (n, 3, 32, 32) or of their mirrors."""
    was_training = network.training
    network.eval()
    views = (part.flip(3) if mirror else part for part in torch.split(images, BATCH))
    logits = torch.cat([network(view) for view in views])
    network.train(was_training)
    return logits


def accuracy_of(logits: Tensor, labels: Tensor) -> float:
    """The fraction of images (n, 10), (n,) whose largest logit is their label's."""
    return (logits.argmax(1) == labels).double().mean().item()


def shifted(images: Tensor, by: int) -> Tensor:
    """Images (n, c, h, w) moved by `by` pixels up and to the left, a reflection filling what is left free."""
    border = abs(by)
    padded = F.pad(images, (border,) * 4, mode="reflect")
    height, width = images.shape[2:]
    return padded[:, :, border + by : border + by + height, border + by : border + by + width]


def evaluate(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    tta: bool = False,
    shift: int = 0,
    smaller: Tensor | None = None,
) -> tuple[float, float | None]:
    """Accuracy, and accuracy with TTA (None unless asked for), as fractions of 1.

    TTA averages the logits of an image and of its mirror. Source: "Bag of Tricks", test-time augmentation. With a
    `shift`, in pixels, that pair counts half, and the pairs moved by so much either way a quarter each (airbench).
    The same images at another side, `smaller`, make one more pair, which counts a fifth of all: ours.
    """

    def pair(views: Tensor) -> Tensor:
        return logits_of(network, views) + logits_of(network, views, mirror=True)

    logits = logits_of(network, images)
    with_tta = None
    if tta:
        views = logits + logits_of(network, images, mirror=True)
        if shift:
            views = views / 2 + pair(shifted(images, -shift)) / 4 + pair(shifted(images, shift)) / 4
        if smaller is not None:
            views = views * (4 / 5) + pair(smaller) * (1 / 5)
        with_tta = accuracy_of(views, labels)
    return accuracy_of(logits, labels), with_tta
