"""What is known of each training image from when it was last seen: its loss, to choose by, and the network's answer.

Notebook 17.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import CLASSES
from .recipe import Recipe, at


class LastSeen:
    """For each of n training images, when it was last seen: the loss (n,), in nats, and the answer (n, 10).

    Until then the loss is infinite, and the answer the label.
    What is known of an image is as old as its last pass, and costs nothing: the training has computed it. `labels`:
    (n,).

    Sources: Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest Losers", 2019, whose losses are those
    of the batch's own forward pass, fresher and not free; Kim et al., "Self-Knowledge Distillation with Progressive
    Refinement of Targets", 2021.
    """

    def __init__(self, labels: Tensor) -> None:
        self.losses = torch.full((len(labels),), torch.inf, device=labels.device)
        self.answers = F.one_hot(labels, CLASSES).float()

    def saw(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Note a batch: the images' numbers (b,), their logits (b, 10) and labels (b,)."""
        self.losses[index] = F.cross_entropy(logits.float(), labels, reduction="none")
        self.answers[index] = logits.float().softmax(1)

    def hardest(self, recipe: Recipe, epoch: float) -> Tensor | None:
        """The numbers of the images that a pass beginning at an epoch takes, at least a batch of them; None: all."""
        share = at(recipe.hardest, epoch)
        if share == 1:
            return None
        n = len(self.losses)
        return self.losses.topk(min(n, max(recipe.batch_size, round(share * n)))).indices

    def target(self, recipe: Recipe, epoch: float, index: Tensor, labels: Tensor) -> Tensor:
        """The target of a batch: its labels (b,), or these mixed with more and more of the last answers (b, 10)."""
        if not recipe.self_distillation:
            return labels
        share = recipe.self_distillation * epoch / recipe.epochs
        return (1 - share) * F.one_hot(labels, CLASSES) + share * self.answers[index]
