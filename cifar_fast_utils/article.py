"""The article's own figures, kept apart from ours.

Source: D. Page, "How to Train Your ResNet 8: Bag of Tricks", Myrtle, 2019.
"""

from __future__ import annotations

ARTICLE: dict[str, tuple[float | None, float | None]] = {
    "baseline": (75, 94.1),
    "gpu_data": (70, 94.1),
    "pool_before_act": (67, 94.1),  # "−3"
    "pool_before_norm_24": (62, 94.0),  # "−5 more"; the mean of 50 runs
    "pool_before_norm": (64, 94.1),
    "label_smoothing_25": (None, 94.2),
    "label_smoothing": (59, 94.1),
    "celu_23": (None, 94.3),
    "celu": (52, 94.1),
    "ghost_norm_20": (None, 94.2),
    "ghost_norm": (46, 94.1),
    "frozen_scales_18_x16": (None, 94.2),
    "frozen_scales": (43, 94.1),
    "whitening_17": (None, 94.4),
    "whitening_15": (39, 94.1),
    "whitening": (36, 94.1),
    "ema_14": (None, 94.3),
    "ema": (34, 94.1),
    "tta": (34, 94.6),
    "final": (26, 94.1),
}
"""The article's own figures, where it gives them: seconds on a V100 and mean test accuracy in percent, CIFAR-10."""
