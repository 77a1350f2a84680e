from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_fast_utils.data import Dataset
from cifar_fast_utils.synthetic import CLASSES, FRAMES, generate

Arrays = tuple[Tensor, Tensor, Tensor, Tensor]
MEAN, STD = torch.tensor([125.31, 122.95, 113.87]), torch.tensor([62.99, 62.09, 66.70])


@pytest.fixture(scope="module")
def arrays(synthetic: Dataset) -> Arrays:
    return synthetic.train_images, synthetic.train_labels, synthetic.test_images, synthetic.test_labels


def normalised(images: Tensor) -> Tensor:
    return (images - MEAN) / STD


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_types_shapes_and_balance(arrays: Arrays) -> None:
    for (images, labels), n in ((arrays[:2], 9000), (arrays[2:], 2000)):
        assert (images.dtype, images.shape) == (torch.uint8, (n, 32, 32, 3))
        assert (labels.dtype, labels.shape) == (torch.int64, (n,))
        assert labels.bincount().tolist() == [n // 10] * 10
    assert len(set(CLASSES)) == 10


@pytest.mark.parametrize(("n_train", "n_test"), [(1, 1), (10, 7), (599, 123)])
def test_other_sizes_are_balanced_to_within_one(n_train: int, n_test: int) -> None:
    arrays = generate(n_train, n_test)
    for (images, labels), n in ((arrays[:2], n_train), (arrays[2:], n_test)):
        counts = labels.bincount(minlength=10)
        assert len(images) == len(labels) == n
        assert counts.max() - counts.min() <= 1


def test_the_order_is_random(arrays: Arrays) -> None:
    # Equal neighbours by chance: a tenth of 8999, standard deviation 28.
    assert 760 < (arrays[1][1:] == arrays[1][:-1]).sum() < 1040


def test_the_seed_alone_decides_every_byte() -> None:
    threads = torch.get_num_threads()
    first = generate(300, 100, seed=3)
    try:
        torch.set_num_threads(3 - min(threads, 2))
        torch.manual_seed(99)
        np.random.seed(99)
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)
        assert same(first, generate(300, 100, seed=3))
        assert torch.equal(torch_state, torch.get_rng_state())  # and it leaves the global generators alone
        np.testing.assert_equal(np.random.get_state(legacy=False), numpy_state)
    finally:
        torch.set_num_threads(threads)
    assert not same(first[:1], generate(300, 100, seed=4)[:1])
    assert not same(first[2:3], generate(300, 100, seed=4)[2:3])


def test_train_and_test_share_no_scene(arrays: Arrays) -> None:
    def blurred(images: Tensor) -> Tensor:  # noise and light taken away: what is left is the scene
        small = F.avg_pool2d(images.permute(0, 3, 1, 2).float(), 4).flatten(1)
        return small - small.mean(1, keepdim=True)

    train, test = blurred(arrays[0]), blurred(arrays[2])
    nearest = torch.cdist(test, train).amin(1)
    frames = torch.cdist(train[:500], train).kthvalue(FRAMES, dim=1).values  # its other frames, itself among them
    assert frames.quantile(0.95) < nearest.quantile(0.05)
    assert len(np.unique(arrays[0].flatten(1).numpy(), axis=0)) == len(arrays[0])  # no two frames are equal


def power_slope(images: Tensor) -> float:
    """Of log power against log frequency, 2 to 14 cycles per image, under a Hann window."""
    window = torch.hann_window(32)
    grey = images.float().mean(3)
    grey = (grey - grey.mean((1, 2), keepdim=True)) * window * window[:, None]
    power = torch.fft.fft2(grey).abs().square().mean(0)
    frequency = torch.fft.fftfreq(32) * 32
    ring = torch.hypot(frequency[:, None], frequency).round()
    rings = torch.arange(2, 15)
    means = [power[ring == k].mean().log().item() for k in rings]
    return float(np.polyfit(rings.log().numpy(), means, 1)[0])


def test_amplitude_falls_with_frequency_as_in_photographs(arrays: Arrays) -> None:
    # Amplitude 1/f is a power of 1/f²; edges, and the blur of small pictures, make it steeper: CIFAR-10's is about -3.
    assert -3.3 < power_slope(arrays[0][:3000]) < -1.8
    noise = torch.randint(256, (500, 32, 32, 3), generator=torch.Generator().manual_seed(0))
    assert abs(power_slope(noise)) < 0.2  # the measure itself: white noise is flat


def test_real_photographs_pass_the_same_measure(real_images: Tensor) -> None:
    assert -3.3 < power_slope(real_images[:3000]) < -1.8


def test_eigenpatches_are_those_of_photographs(arrays: Arrays) -> None:
    x = normalised(arrays[0][:3000]).permute(0, 3, 1, 2)
    patches = x.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 27)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    energy = values.flip(0) / values.sum()
    first = vectors[:, -1] * vectors[:, -1].sum().sign()
    assert energy[0] > 0.7  # of all the energy; the next has a small part of that
    assert energy[1] < energy[0] / 5
    torch.testing.assert_close(first, torch.full((27,), 27**-0.5), atol=0.04, rtol=0)  # brightness
    ramp = torch.tensor([-1.0, 0.0, 1.0]).expand(3, 3, 3)
    leading = vectors[:, -4:-1]
    for gradient in (ramp, ramp.mT):  # the edges lie, turned by any angle, among the three after brightness
        direction = gradient.reshape(27) / gradient.norm()
        assert (leading.T @ direction).norm() > 0.95


def test_colour_channels_go_together(arrays: Arrays) -> None:
    pixels = arrays[0][:1000].reshape(-1, 3).float()
    correlation = torch.corrcoef(pixels.T)
    assert correlation.min() > 0.7
    assert correlation.fill_diagonal_(0).max() < 0.97  # and yet it is not grey
    assert (pixels.mean(0) - MEAN).abs().max() < 5
    assert (pixels.std(0) / STD > 0.7).all()


def test_a_mirror_changes_no_class(arrays: Arrays) -> None:
    # Each class's mean image against its mirror's, in standard errors. Frames are no independent samples: take the
    # test images, one scene each. The columns 0 to 15 mirror 31 to 16: 512 places, all of them correlated.
    images, labels = normalised(arrays[2]).mean(3), arrays[3]
    for label in range(10):
        grey = images[labels == label]
        difference = grey - grey.flip(2)
        z = difference.mean(0) / (difference.std(0) / len(grey) ** 0.5)
        assert z[:, :16].square().mean() < 2.5, CLASSES[label]
    # The test can fail: shade the right half of the images a little.
    shaded = images[labels == 0] + torch.linspace(0, 0.3, 32)
    difference = shaded - shaded.flip(2)
    z = difference.mean(0) / (difference.std(0) / len(shaded) ** 0.5)
    assert z[:, :16].square().mean() > 2.5


def logistic(train: Tensor, labels: Tensor, test: Tensor, expected: Tensor, decay: float) -> float:
    """Test accuracy of multinomial logistic regression, trained to convergence or 40 steps of L-BFGS."""
    weight = torch.zeros(10, train.shape[1], requires_grad=True)
    bias = torch.zeros(10, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        loss = F.cross_entropy(train @ weight.T + bias, labels) + decay / 2 * weight.square().sum()
        torch.autograd.backward(loss)
        return loss.item()

    optimiser.step(closure)
    return ((test @ weight.T + bias).argmax(1) == expected).double().mean().item()


def test_pixels_alone_do_not_tell_the_class(arrays: Arrays) -> None:
    train, test = (normalised(images).flatten(1) for images in (arrays[0], arrays[2]))
    best = max(logistic(train, arrays[1], test, arrays[3], decay) for decay in (0.01, 0.1, 1.0, 10.0))
    assert best < 0.45


def test_colour_does_not_tell_the_class(arrays: Arrays) -> None:
    def colours(images: Tensor) -> Tensor:  # each channel's histogram, and its mean and spread
        x = normalised(images).flatten(1, 2)
        bins = torch.stack([((x >= low) & (x < low + 0.5)).float().mean(1) for low in torch.arange(-2, 2, 0.5)], 2)
        return torch.cat([bins.flatten(1), x.mean(1), x.std(1)], 1)

    accuracy = logistic(colours(arrays[0]), arrays[1], colours(arrays[2]), arrays[3], 1e-4)
    assert accuracy < 0.25  # chance is 0.1; a large shape shows a little
