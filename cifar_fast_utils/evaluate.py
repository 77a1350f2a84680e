"""Test accuracy, with and without test-time augmentation."""

from __future__ import annotations

import torch
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


def evaluate(network: nn.Module, images: Tensor, labels: Tensor, tta: bool = False) -> tuple[float, float | None]:
    """Accuracy, and accuracy with TTA (None unless asked for), as fractions of 1.

    TTA averages the logits of an image and of its mirror. Source: "Bag of Tricks", test-time augmentation.
    """
    logits = logits_of(network, images)
    with_tta = accuracy_of(logits + logits_of(network, images, mirror=True), labels) if tta else None
    return accuracy_of(logits, labels), with_tta
