"""What the synthetic set is for: the small network learns it in a minute, and augmentation shows. Some six minutes."""

from dataclasses import replace

import numpy as np
import pytest

from cifar_fast_utils.data import Dataset
from cifar_fast_utils.recipe import RECIPES, Recipe
from cifar_fast_utils.train import train

SEEDS = range(5)
Results = tuple[list[float], list[float]]


def results(recipe: Recipe, synthetic: Dataset) -> Results:
    """Accuracy with TTA and training seconds of a run for each seed."""
    runs = [
        train(recipe, synthetic, scale="small", device="cpu", seed=seed, test_each_epoch=False, progress=False)
        for seed in SEEDS
    ]
    accuracies = [run.tta_accuracy for run in runs if run.tta_accuracy is not None]
    seconds = [run.seconds["train"] for run in runs]
    print(f"\n{recipe.name}: {np.mean(accuracies):.4f} ± {np.std(accuracies, ddof=1):.4f}", np.round(accuracies, 4))
    print("seconds of training:", np.round(seconds, 1))
    return accuracies, seconds


@pytest.fixture(scope="module")
def augmented(synthetic: Dataset) -> Results:
    return results(RECIPES["final"], synthetic)


@pytest.mark.soak
def test_every_seed_passes_85_percent(augmented: Results) -> None:
    accuracies, _ = augmented
    assert len(accuracies) == len(SEEDS)
    assert min(accuracies) > 0.85


@pytest.mark.soak
def test_training_takes_less_than_a_minute(augmented: Results) -> None:
    assert np.median(augmented[1]) < 60


@pytest.mark.soak
def test_augmentation_is_worth_two_points(augmented: Results, synthetic: Dataset) -> None:
    plain = replace(RECIPES["final"], name="final without augmentation", pad=0, flip="none", cutout=0)
    without, _ = results(plain, synthetic)
    assert np.mean(augmented[0]) - np.mean(without) > 0.02
