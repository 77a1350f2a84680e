"""A stand-in for CIFAR-10 where nothing can be downloaded: ten kinds of shape, photographed among clutter.

Each picture is a small "dead leaves" scene: sheets of cloudy texture lie on one another, some hide parts of others, and
the sheet whose outline is the class lies in the middle. Occlusion and 1/f textures give it a photograph's statistics:
power that falls steeply with spatial frequency, neighbouring pixels and colour channels that nearly agree. Colour,
place, size, proportions, rotation and contrast are drawn without looking at the class, and a mirror never changes it.

A training set is few scenes with several frames of each, in other light and with other noise, as video would give. So
the network sees few places and poses of its own accord, and augmentation has something to add. Each test image is a
scene of its own.

Source: A. B. Lee, D. Mumford, J. Huang, "Occlusion models for natural images", IJCV 41, 2001 (dead leaves);
D. J. Field, "Relations between the statistics of natural images and the response properties of cortical cells",
JOSA A 4, 1987 (1/f); A. Krizhevsky et al., "ImageNet classification with deep CNNs", 2012 (colour's principal axes).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .sources import MEAN

# Everything is computed in float64 and rounded to bytes at the end, by NumPy alone: no thread count enters, and what
# processors differ by, about 1e-16, practically never reaches a byte.
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIDE = 32
SAMPLES = 2  # points per pixel, each way, at which outlines are drawn before they are averaged: soft edges
FRAMES = 12  # training images that show one scene
CHUNK = 500  # scenes rendered at once: bounds the memory
AXES = np.array([[0.57, 0.71, 0.41], [0.58, 0.0, -0.82], [0.58, -0.71, 0.40]]) * np.array([105.0, 29.0, 13.0])
"""Columns: brightness, yellow against blue, green against magenta, each as long as it varies (in bytes)."""

# What varies from scene to scene: (least, most), drawn evenly between.
RADIUS = (6.0, 11.0)  # of the object, pixels
OFFSET = (-5.0, 5.0)  # of its centre from the image's, pixels, in x and in y
TILT = (-0.25, 0.25)  # radians
ASPECT = (-0.2, 0.2)  # half the logarithm of width / height, which goes from 0.67 to 1.5
CONTRAST = (0.5, 2.2)  # brightness against the background's, in lengths of the first axis; the sign is random
TEXTURE = (0.08, 0.3)  # how strong a sheet's clouds are, in the same unit
BLOB, ANYWHERE = (2.0, 5.0), (-16.0, 16.0)  # radius and offset of the clutter, pixels
# And from frame to frame.
LIGHT = (-15.0, 15.0)  # added to all pixels, bytes
NOISE = 4.0  # standard deviation for each pixel and channel, bytes


def _disc(x: Floats, y: Floats) -> Mask:
    return x**2 + y**2 < 0.64


def _ring(x: Floats, y: Floats) -> Mask:
    return abs(x**2 + y**2 - 0.62) < 0.28


def _square(x: Floats, y: Floats) -> Mask:
    return np.maximum(abs(x), abs(y)) < 0.75


def _triangle(x: Floats, y: Floats) -> Mask:
    return (y < 0.6) & (1.8 * abs(x) - y < 0.95)


def _star(x: Floats, y: Floats) -> Mask:
    inside: Mask = np.hypot(x, y) < 0.7 + 0.3 * np.cos(5 * np.arctan2(x, -y))
    return inside


def _cross(x: Floats, y: Floats) -> Mask:
    return (np.minimum(abs(x), abs(y)) < 0.28) & (np.maximum(abs(x), abs(y)) < 0.95)


def _crescent(x: Floats, y: Floats) -> Mask:
    return (x**2 + y**2 < 0.9) & ((x - 0.5) ** 2 + y**2 > 0.5)


def _hourglass(x: Floats, y: Floats) -> Mask:
    return (abs(x) < 0.9 * abs(y) + 0.06) & (abs(y) < 0.9)


def _bars(x: Floats, y: Floats) -> Mask:
    return (np.cos(10 * x) < 0) & (np.maximum(abs(x), abs(y)) < 0.94)


def _checkers(x: Floats, y: Floats) -> Mask:
    return (np.cos(5 * x) * np.cos(5 * y) > 0) & (np.maximum(abs(x), abs(y)) < 0.94)


SHAPES: dict[str, Callable[[Floats, Floats], Mask]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "hourglass": _hourglass,
    "bars": _bars,
    "checkers": _checkers,
}
"""Class → which points (x to the right, y down, in units of the object's radius) it covers."""
CLASSES: tuple[str, ...] = tuple(SHAPES)


def _clouds(rng: np.random.Generator, n: int) -> Floats:
    """Four textures for each of n images, mean and variance about 0 and 1, amplitude ~ 1/f: (4, n, 3, 32, 32)."""
    side = 2 * SIDE  # A quarter of a periodic picture: its opposite edges do not meet.
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    waves = rng.standard_normal((n, 3, *frequency.shape, 2)).view(np.complex128)[..., 0] / frequency
    clouds = np.fft.irfft2(waves, s=(side, side))
    clouds /= clouds.std()
    quarters: Floats = clouds.reshape(n, 3, 2, SIDE, 2, SIDE).transpose(2, 4, 0, 1, 3, 5).reshape(4, n, 3, SIDE, SIDE)
    return quarters


def _place(
    rng: np.random.Generator, n: int, radius: tuple[float, float], offset: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Where the image's sample points lie as seen from n randomly placed objects: x and y, (n, 64, 64) each."""

    def draw(limits: tuple[float, float]) -> Floats:
        return rng.uniform(*limits, (n, 1, 1))

    grid = (np.arange(SIDE * SAMPLES) + 0.5) / SAMPLES - SIDE / 2
    x, y = grid - draw(offset), grid[:, None] - draw(offset)
    tilt, size, stretch = draw(TILT), draw(radius), np.exp(draw(ASPECT))
    hand = rng.choice([-1.0, 1.0], (n, 1, 1))  # A crescent opens to either side.
    across, down = np.cos(tilt) * x + np.sin(tilt) * y, np.cos(tilt) * y - np.sin(tilt) * x
    return hand * across / (size * stretch), down / (size / stretch)


def _coverage(inside: Mask) -> Floats:
    """How much of each pixel is covered, 0 to 1: (n, 64, 64) → (n, 1, 32, 32)."""
    coverage: Floats = inside.reshape(-1, 1, SIDE, SAMPLES, SIDE, SAMPLES).mean(axis=(3, 5))
    return coverage


def _clutter(rng: np.random.Generator, n: int) -> Floats:
    """The coverage of one small box or ellipse per image."""
    x, y = _place(rng, n, BLOB, ANYWHERE)
    box = rng.random((n, 1, 1)) < 0.5
    return _coverage(np.where(box, _square(x, y), _disc(x, y)))


def _outlines(rng: np.random.Generator, labels: NDArray[np.int64]) -> Floats:
    """The coverage of the objects that the labels name."""
    x, y = _place(rng, len(labels), RADIUS, OFFSET)
    inside = np.empty(x.shape, np.bool_)
    for label, shape in enumerate(SHAPES.values()):
        of_class = labels == label
        inside[of_class] = shape(x[of_class], y[of_class])
    return _coverage(inside)


def _scenes(rng: np.random.Generator, labels: NDArray[np.int64]) -> Floats:
    """One scene for each label, in bytes from the mean colour: (n, 32, 32, 3)."""
    n = len(labels)
    background, *sheets = _clouds(rng, n) * rng.uniform(*TEXTURE, (4, n, 1, 1, 1))
    colour = rng.normal(0, 0.7, (n, 3, 1, 1))
    scene = background + colour
    for coverage, sheet in zip((_clutter(rng, n), _outlines(rng, labels), _clutter(rng, n)), sheets, strict=True):
        step = rng.standard_normal((n, 3, 1, 1))
        step[:, 0, 0, 0] = rng.choice([-1.0, 1.0], n) * rng.uniform(*CONTRAST, n)
        scene = scene * (1 - coverage) + (sheet + colour + step) * coverage
    pixels: Floats = np.einsum("nahw,ca->nhwc", scene, AXES)
    return pixels


def _frames(rng: np.random.Generator, scenes: Floats) -> NDArray[np.uint8]:
    """A photograph of each scene in a light of its own."""
    light = rng.uniform(*LIGHT, (len(scenes), 1, 1, 1))
    photograph = scenes + MEAN + light + rng.normal(0, NOISE, scenes.shape)
    pixels: NDArray[np.uint8] = photograph.round().clip(0, 255).astype(np.uint8)
    return pixels


def _images(rng: np.random.Generator, n: int, frames: int) -> tuple[Tensor, Tensor]:
    """n images and labels in random order, `frames` of each scene."""
    scenes = -(-n // (frames * len(CLASSES))) * len(CLASSES)  # A whole number for each class.
    labels = np.arange(scenes, dtype=np.int64) % len(CLASSES)
    rendered = np.concatenate([_scenes(rng, labels[i : i + CHUNK]) for i in range(0, scenes, CHUNK)])
    photographs = np.concatenate([_frames(rng, rendered) for _ in range(frames)])
    order = rng.permutation(n)
    return torch.from_numpy(photographs[order]), torch.from_numpy(np.tile(labels, frames)[order])


def generate(n_train: int = 9_000, n_test: int = 2_000, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels, the same for the same arguments.

    Images: uint8 RGB, 0 to 255, (n, 32, 32, 3). Labels: int64, (n,), each an index into `CLASSES`, equally many of
    each class (to within one), in random order. Train and test share no scene.
    """
    train, test = np.random.default_rng(seed).spawn(2)
    return (*_images(train, n_train, FRAMES), *_images(test, n_test, 1))
