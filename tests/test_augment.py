import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cifar_fast_utils import augment
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.recipe import RECIPES

RECIPE = RECIPES["gpu_data"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(n: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (n, 32, 32, 3), dtype=torch.uint8, generator=generator(seed))


def test_normalise_is_the_articles() -> None:
    images = photos(7)
    mean, std = np.array([125.31, 122.95, 113.87]), np.array([62.99, 62.09, 66.70])
    expected = (images.numpy().astype(np.float64) - mean) / std
    np.testing.assert_allclose(augment.normalise(images).numpy(), expected, atol=1e-5)


@given(st.integers(0, 8), st.integers(9, 20), st.integers(9, 20))
def test_pad_is_numpys_reflection(border: int, height: int, width: int) -> None:
    images = torch.randn(2, height, width, 3)
    expected = np.pad(images.numpy(), ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(augment.pad(images, border).numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prepare_normalises_and_pads_whatever_the_number(dtype: torch.dtype) -> None:
    images = photos(1001)
    out = augment.prepare(images, dtype, 4)
    assert torch.equal(out, augment.pad(augment.normalise(images).to(dtype), 4))
    assert out.is_contiguous()
    assert out.shape == (1001, 40, 40, 3)


@given(st.integers(1, 5000), st.integers(1, 32), st.integers(0, 99))
def test_groups_are_even_complete_and_at_most_200(n: int, positions: int, seed: int) -> None:
    groups = augment.split_into_groups(n, positions, generator(seed))
    assert len(groups) == min(positions**2, 200)
    sizes = [len(images) for images, _ in groups]
    assert max(sizes) - min(sizes) <= 1
    assert torch.cat([images for images, _ in groups]).sort().values.equal(torch.arange(n))
    corners = [corner for _, corner in groups]
    assert len(set(corners)) == len(corners)
    assert all(0 <= y < positions and 0 <= x < positions for y, x in corners)


def test_the_200_cutout_places_are_drawn_anew_and_cover_all_in_time() -> None:
    draws = [frozenset(corner for _, corner in augment.split_into_groups(1000, 25, generator(s))) for s in range(30)]
    assert len(set(draws)) == 30
    assert len(frozenset.union(*draws)) == 625


def reference(choices: augment.Choices, padded: np.ndarray, cutout: int) -> np.ndarray:
    """Image by image, in plain NumPy."""
    out = []
    for images, (y, x) in choices.crop:
        for image in images.tolist():
            out.append(padded[image, y : y + 32, x : x + 32].copy())
    for image in choices.flip.nonzero().flatten().tolist():
        out[image] = out[image][:, ::-1]
    if choices.tone is not None:
        out = [(image + moved) * scaled for image, moved, scaled in zip(out, *choices.tone.numpy(), strict=True)]
    for images, (y, x) in choices.cutout:
        for image in images.tolist():
            out[image][y : y + cutout, x : x + cutout] = 0
    return np.stack(out)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 300),
    st.sampled_from([0, 2, 4]),
    st.sampled_from(["random", "none"]),
    st.sampled_from([0, 5, 8, 12]),
    st.sampled_from([0.0, 0.2]),
)
def test_apply_equals_one_image_at_a_time(n: int, border: int, flip: str, cutout: int, jitter: float) -> None:
    recipe = replace(RECIPE, pad=border, flip=flip, cutout=cutout, jitter=jitter)  # type: ignore[arg-type]
    padded = augment.pad(augment.normalise(photos(n)), border)
    choices = augment.draw(recipe, n, generator(n))
    assert choices.flip.sum() == (n // 2 if flip == "random" else 0)
    out = augment.apply(choices, padded, cutout)
    np.testing.assert_array_equal(out.numpy(), reference(choices, padded.numpy(), cutout))


def test_the_jitter_moves_brightness_and_contrast_evenly_within_its_bounds() -> None:
    tone = augment.draw(replace(RECIPE, jitter=0.3), 20_000, generator()).tone
    assert tone is not None
    moved, scaled = tone.numpy()
    for drawn in (moved, scaled - 1):
        assert -0.3 <= drawn.min() < -0.29
        assert 0.29 < drawn.max() <= 0.3
        assert abs(drawn.mean()) < 0.005
        assert abs(drawn.std() - 0.3 / 3**0.5) < 0.005
    assert abs(np.corrcoef(moved, scaled)[0, 1]) < 0.05


def test_an_epoch_holds_every_image_once_with_its_label() -> None:
    n = 2048
    images = torch.zeros(n, 32, 32, 3)
    images += torch.arange(n, dtype=torch.float32)[:, None, None, None]  # each image is its number
    recipe = replace(RECIPE, cutout=0)
    seen = list(augment.batches(augment.pad(images, 4), torch.arange(n) * 3, recipe, generator()))
    assert len(seen) == 4
    numbers = torch.cat([batch[:, 0, 0, 0] for batch, _ in seen]).long()
    labels = torch.cat([part for _, part in seen])
    assert torch.equal(labels, numbers * 3)
    assert numbers.sort().values.equal(torch.arange(n))


def test_the_order_is_a_fresh_permutation_and_not_the_groups() -> None:
    n = 4096
    images = torch.zeros(n, 40, 40, 3) + torch.arange(n, dtype=torch.float32)[:, None, None, None]
    draws = generator()
    first, second = (
        torch.cat([labels for _, labels in augment.batches(images, torch.arange(n), RECIPE, draws)]) for _ in range(2)
    )
    assert not torch.equal(first, second)
    choices = augment.draw(RECIPE, n, generator(1))
    group_of = torch.empty(n, dtype=torch.long)
    start = 0
    for k, (part, _) in enumerate(choices.crop):
        group_of[start : start + len(part)] = k
        start += len(part)
    batch = group_of[choices.order[:512]]
    assert len(batch.unique()) > 70  # 512 draws of 81 groups miss less than one of them on average


def test_batches_have_the_networks_layout_and_drop_the_rest() -> None:
    padded = augment.pad(augment.normalise(photos(1300)).bfloat16(), 4)
    seen = list(augment.batches(padded, torch.zeros(1300, dtype=torch.int64), RECIPE, generator()))
    assert [tuple(images.shape) for images, _ in seen] == [(512, 3, 32, 32)] * 2
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in seen)
    assert all(images.dtype == torch.bfloat16 for images, _ in seen)


def test_the_seed_decides() -> None:
    padded = augment.pad(augment.normalise(photos(600)), 4)

    def epoch(seed: int) -> Tensor:
        return next(augment.batches(padded, torch.zeros(600, dtype=torch.int64), RECIPE, generator(seed)))[0]

    torch.manual_seed(1)
    first = epoch(0)
    torch.manual_seed(2)
    assert torch.equal(first, epoch(0))
    assert not torch.equal(first, epoch(1))


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(UserError, match="larger than the data: 100 training images"):
        next(augment.batches(torch.zeros(100, 40, 40, 3), torch.zeros(100), RECIPE, generator()))


def test_boxes_lie_within_smaller_images() -> None:
    drawn = augment.draw(replace(RECIPES["gpu_data"], cutout=5), 300, generator(), side=16)
    assert {corner for _, corner in drawn.cutout} == set(itertools.product(range(12), repeat=2))
    recipe = replace(RECIPE, pad=0, cutout=5, batch_size=200)
    ((images, _),) = augment.batches(torch.ones(200, 16, 16, 3), torch.arange(200), recipe, generator())
    assert ((images[:, 0] == 0).sum((1, 2)) == 25).all()
