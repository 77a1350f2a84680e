"""What a network answers and how well, with and without test-time augmentation.

Notebooks 10, 15 (shifts) and 17 (another side).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

BATCH = 1000


@torch.no_grad()
def logits_of(network: nn.Module, images: Tensor, mirror: bool = False) -> Tensor:
    """The network's logits (n, 10) in evaluation mode, of normalised images (n, 3, side, side) or of their mirrors."""
    was_training = network.training
    network.eval()
    views = (part.flip(3) if mirror else part for part in torch.split(images, BATCH))
    logits = torch.cat([network(view) for view in views])
    network.train(was_training)
    return logits


def accuracy_of(logits: Tensor, labels: Tensor) -> float:
    """The fraction of images (n, 10), (n,) whose largest logit is their label's."""
    return int((logits.argmax(1) == labels).sum()) / len(labels)  # no float64, which Apple's GPUs lack


def shifted(images: Tensor, by: int) -> Tensor:
    """Images (n, c, h, w) moved by `by` pixels up and to the left, a reflection filling what is left free."""
    border = abs(by)
    padded = F.pad(images, (border,) * 4, mode="reflect")
    height, width = images.shape[2:]
    return padded[:, :, border + by : border + by + height, border + by : border + by + width]


def answers(
    network: nn.Module, images: Tensor, tta: bool = False, shift: int = 0, smaller: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The logits (n, 10) of normalised images (n, 3, side, side), and those with TTA (None unless asked for).

    TTA averages the logits of an image and of its mirror. Source: "Bag of Tricks", test-time augmentation. With a
    `shift`, in pixels, that pair counts half, and the pairs moved by as much either way a quarter each (airbench).
    The same images at another side, `smaller`, make one more pair, which counts a fifth of the whole (our own).
    """

    def pair(views: Tensor) -> Tensor:
        return (logits_of(network, views) + logits_of(network, views, mirror=True)) / 2

    logits = logits_of(network, images)
    if not tta:
        return logits, None
    views = (logits + logits_of(network, images, mirror=True)) / 2
    if shift:
        views = views / 2 + pair(shifted(images, -shift)) / 4 + pair(shifted(images, shift)) / 4
    if smaller is not None:
        views = views * (4 / 5) + pair(smaller) * (1 / 5)
    return logits, views


def evaluate(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    tta: bool = False,
    shift: int = 0,
    smaller: Tensor | None = None,
) -> tuple[float, float | None]:
    """Accuracy, and accuracy with TTA (None unless asked for), as fractions of 1; see `answers`."""
    logits, views = answers(network, images, tta, shift, smaller)
    return accuracy_of(logits, labels), None if views is None else accuracy_of(views, labels)


def cross_entropy_of(logits: Tensor, labels: Tensor) -> float:
    """The mean cross-entropy, in nats, of logits (n, 10) divided by the one temperature that makes it smallest.

    It moves with every answer, not with right and wrong alone, and so tells two recipes apart where few images do. A
    network trained with smoothed labels is less sure than it may be: hence the temperature, fitted to these same
    images. Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """

    logits, labels = logits.cpu().double(), labels.cpu()

    def at(log_scale: float) -> float:
        return F.cross_entropy(logits * math.exp(log_scale), labels).item()

    return float(minimize_scalar(at, bounds=(-5.0, 5.0), method="bounded").fun)
