"""The recipes of the years after the article, and what was found here: `airbench94` and what is made from it.

Sources: airbench94, K. Jordan, arXiv:2404.00498, 2024; muon, his Muon, 2024, on the network of airbench94.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .fields import Recipe
from .schedule import with_epochs

airbench94 = Recipe(
    name="airbench94",
    epochs=9.9,
    knots=((0, 0.3), (0.23 * 9.9, 1.5), (9.9, 0.105)),
    batch_size=1024,
    momentum=0.85,
    weight_decay=0.0153 / 11.5,
    bias_factor=64,
    pad=2,
    flip="alternate",
    cutout=0,
    label_smoothing=0.2,
    activation="gelu",
    pool="before_norm",
    freeze_norm_scale=True,
    logit_scale=1 / 9,
    whiten=True,
    tta=True,
    network="lean",
    dirac=True,
    whiten_bias_epochs=3,
    norm_momentum=0.4,
    norm_eps=1e-12,
    lookahead_every=5,
    tta_shift=1,
)
# Orthogonalised steps do not shrink with the gradient, so the rate falls to zero. No warm-up, and fewer epochs.
muon = replace(
    airbench94,
    name="muon",
    knots=((0, 1.5), (8, 0.0)),
    epochs=8,
    lookahead_every=0,
    muon_factor=0.16,
)
# Ours, for two CPU cores and the small scale, chosen in book/tried.md: the recipes by which they learn most in one
# minute and in three.
small_fast_60 = replace(
    muon,
    name="small_fast_60",
    epochs=4,
    knots=((0, 1.0), (4, 0.0)),
    batch_size=512,
    pad=0,
    whiten_bias_epochs=1.5,
    widths=(2, 6, 8),
    sides=((0, 16), (2, 20), (3, 24)),
    test_side=24,
)
small_fast_180 = replace(
    small_fast_60,
    name="small_fast_180",
    epochs=8,
    knots=((0, 1.0), (8, 0.0)),
    whiten_bias_epochs=3.0,
    widths=(2, 8, 12),
    sides=((0, 16), (4, 20), (6, 24)),
)
# The same with passes over the hardest images, and a pair of views at another side in the test.
small_fast_60_hardest = replace(
    small_fast_60, name="small_fast_60_hardest", hardest=((0, 1.0), (1, 0.7), (3, 1.0)), tta_side=20
)
small_fast_180_hardest = replace(
    small_fast_180,
    name="small_fast_180_hardest",
    epochs=9,
    knots=((0, 1.0), (9, 0.0)),
    sides=((0, 16), (4, 20), (7, 24)),
    hardest=((0, 1.0), (3, 0.5), (8, 1.0)),
    tta_side=20,
)
# What helped at full width, for the filters' steps and the biases', with a rate that ends above zero.
_calmer: dict[str, Any] = {"bias_factor": 16, "lookahead_every": 5, "muon_momentum": 0.8}
# The small ones with that, an epoch more, and no last pass over all images.
small_fast_60_ahead = replace(
    with_epochs(small_fast_60_hardest, 5),
    name="small_fast_60_ahead",
    knots=((0, 1.0), (5, 0.07)),
    hardest=((0, 1.0), (1, 0.7)),
    **_calmer,
)
small_fast_180_ahead = replace(
    with_epochs(small_fast_180_hardest, 10),
    name="small_fast_180_ahead",
    knots=((0, 1.0), (10, 0.07)),
    hardest=((0, 1.0), (3, 0.5)),
    **_calmer,
)
# For a processor without bfloat16, many a laptop's, which takes 2.6 to 2.8 times as long: one minute, and three.
# Written out, where `with_epochs` would round differently: their runs are found by a digest of these very numbers.
small_fast_60_float32 = replace(
    small_fast_60_ahead,
    name="small_fast_60_float32",
    epochs=4.4,
    knots=((0, 1.0), (4.4, 0.07)),
    whiten_bias_epochs=1.65,
    widths=(1, 4, 4),
    sides=((0, 16), (2, 20), (3, 24)),
)
small_fast_180_float32 = replace(
    small_fast_60_ahead,
    name="small_fast_180_float32",
    epochs=5.8,
    knots=((0, 1.0), (5.8, 0.07)),
    whiten_bias_epochs=2.5,
    hardest=((0, 1.0), (3, 0.6)),
)
# Ours, at full width, chosen in book/tried.md: to reach airbench94's accuracy for little more than half of its FLOPs.
fast = replace(
    muon,
    name="fast",
    epochs=6.5,
    knots=((0, 1.0), (6.5, 0.07)),
    batch_size=512,
    pad=1,
    sides=((0, 16), (1, 24), (2, 32)),
    hardest=((0, 1.0), (2, 0.6)),
    **_calmer,
)
MODERN = {
    recipe.name: recipe
    for recipe in [
        airbench94,
        muon,
        fast,
        small_fast_60,
        small_fast_60_hardest,
        small_fast_60_ahead,
        small_fast_60_float32,
        small_fast_180,
        small_fast_180_hardest,
        small_fast_180_ahead,
        small_fast_180_float32,
    ]
}
"""All of them but the leave-one-outs, by name."""

_modern_tricks: dict[str, dict[str, Any]] = {
    "whitening_bias": {"whiten_bias_epochs": 0.0},
    "dirac": {"dirac": False},
    "gelu": {"activation": "relu"},
    "bias_factor": {"bias_factor": 1},
    "alternating_flip": {"flip": "random"},
    "translation": {"pad": 0},
    "lookahead": {"lookahead_every": 0},
    "shifted_tta": {"tta_shift": 0},
}
MODERN_WITHOUT = {
    f"airbench94_without_{trick}": replace(airbench94, name=f"airbench94_without_{trick}", **change)
    for trick, change in _modern_tricks.items()
}
"""Leave-one-out: `airbench94` without each of its tricks in turn, by name."""
