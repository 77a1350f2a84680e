"""Choosing examples: a pass over the images that the network finds hardest instead of over them all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .recipe import Recipe, at


class Hardest:
    """The loss of each of `n` training images when it was last seen; infinite before.

    What is known of an image is as old as its last pass, and costs nothing: the training has computed it. Choosing by
    the loss of a batch's own forward pass is fresher, but pays for that pass.
    Source: Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest Losers", 2019, which does the latter.
    """

    def __init__(self, n: int, device: torch.device) -> None:
        self.losses = torch.full((n,), torch.inf, device=device)

    def saw(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Note the losses of a batch: the images' numbers (b,), their logits (b, 10) and labels (b,)."""
        self.losses[index] = F.cross_entropy(logits.float(), labels, reduction="none")

    def images(self, recipe: Recipe, epoch: float) -> Tensor | None:
        """The numbers of the images of a pass that begins at an epoch, at least a batch of them; None: all."""
        share = at(recipe.hardest, epoch)
        if share == 1:
            return None
        n = len(self.losses)
        return self.losses.topk(min(n, max(recipe.batch_size, round(share * n)))).indices
