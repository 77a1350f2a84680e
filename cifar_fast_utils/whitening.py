"""Patch whitening: the fixed first convolution, whose outputs on the images' own patches are uncorrelated.

Source: "Bag of Tricks", patch whitening.

Notebook 08.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-2
"""Added to each eigenvalue, in units of the normalised images' variance, so that noise is not blown up."""
IMAGES = 10_000
"""The covariance is taken from this many training images, the first."""


def extract_patches(images: Tensor, size: int = 3) -> Tensor:
    """All size × size patches of images (n, c, h, w), as rows: (n (h − size + 1) (w − size + 1), c size²)."""
    return F.unfold(images, size).transpose(1, 2).flatten(0, 1)


def patch_covariance(images: Tensor, size: int = 3) -> Tensor:
    """The uncentred covariance of the patches of images (n, c, h, w), divided by their number less one.

    (d, d) with d = c size², in the images' dtype.
    """
    d = images.shape[1] * size**2
    total, count = images.new_zeros(d, d), 0
    for part in torch.split(images, 500):  # all patches at once would take nine times the images' memory
        patches = extract_patches(part, size)
        total += patches.T @ patches
        count += len(patches)
    return total / (count - 1)


def eigenpatches(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (d,), largest first, and eigenvectors as patches (d, 3, size, size) of a covariance (d, d)."""
    on = covariance.device
    where = covariance.cpu() if on.type == "mps" else covariance  # older versions of PyTorch have no eigh there
    values, vectors = (part.to(on) for part in torch.linalg.eigh(where))
    size = round((len(values) // 3) ** 0.5)
    return values.flip(0), vectors.T.flip(0).reshape(-1, 3, size, size)


def whitening_filters(covariance: Tensor, eps: float = EPS) -> Tensor:
    """Filters (d, 3, size, size): eigenpatches over √(eigenvalue + eps).

    The filtered patches have covariance λ / (λ + eps) on the diagonal and zero elsewhere.
    """
    values, patches = eigenpatches(covariance)
    return patches / (values + eps).sqrt()[:, None, None, None]
