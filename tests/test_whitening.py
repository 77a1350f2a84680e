import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_fast_utils.whitening import EPS, eigenpatches, extract_patches, patch_covariance, whitening_filters


def images(n: int = 600, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Smooth noise: neighbours are correlated, as in photographs."""
    noise = torch.randn(n, 3, 36, 36, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (F.avg_pool2d(noise, 5, stride=1) * 4 + 0.3).to(dtype)


def plain_patches(x: np.ndarray, size: int = 3) -> np.ndarray:
    n, _, h, w = x.shape
    return np.stack(
        [
            x[i, :, y : y + size, z : z + size].ravel()
            for i in range(n)
            for y in range(h - size + 1)
            for z in range(w - size + 1)
        ]
    )


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 3), st.integers(3, 7), st.integers(3, 7), st.sampled_from([2, 3]))
def test_patches_are_all_of_them_in_order(n: int, h: int, w: int, size: int) -> None:
    x = torch.randn(n, 3, h, w, dtype=torch.float64)
    np.testing.assert_array_equal(extract_patches(x, size).numpy(), plain_patches(x.numpy(), size))


def test_covariance_is_uncentred_over_n_minus_1() -> None:
    x = images(20)
    patches = plain_patches(x.numpy())
    np.testing.assert_allclose(patch_covariance(x).numpy(), patches.T @ patches / (len(patches) - 1), rtol=1e-10)


def test_eigenpatches_are_eigenvectors_largest_first() -> None:
    covariance = patch_covariance(images(50))
    values, patches = eigenpatches(covariance)
    assert (values.diff() <= 0).all()
    assert patches.shape == (27, 3, 3, 3)
    vectors = patches.flatten(1)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(27, dtype=torch.float64))
    torch.testing.assert_close(covariance @ vectors.T, vectors.T * values)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 5e-3)])
def test_the_filtered_patches_are_white(dtype: torch.dtype, tolerance: float) -> None:
    x = images(dtype=dtype)
    covariance = patch_covariance(x)
    out = F.conv2d(x, whitening_filters(covariance)).permute(0, 2, 3, 1).flatten(0, 2).double()  # no padding
    found = out.T @ out / (len(out) - 1)
    values = torch.linalg.eigvalsh(patch_covariance(x.double())).flip(0)
    expected = torch.diag(values / (values + EPS))
    assert EPS == 1e-2
    assert (found - expected).abs().max().item() < tolerance


def test_it_whitens_real_images(real_images: torch.Tensor) -> None:
    x = real_images[:2000].double()
    x = ((x / 255 - x.mean() / 255) / 0.25).permute(0, 3, 1, 2)
    covariance = patch_covariance(x)
    values, patches = eigenpatches(covariance)
    first = patches[0].flatten()
    assert first.abs().min() > 0.5 * first.abs().max()  # brightness: all entries alike …
    assert (first.sign() == first.sign()[0]).all()  # … and of one sign
    assert values[0] > 5 * values[1]
    out = F.conv2d(x, whitening_filters(covariance)).permute(0, 2, 3, 1).flatten(0, 2)
    found = out.T @ out / (len(out) - 1)
    assert (found - torch.diag(values / (values + EPS))).abs().max() < 1e-6
