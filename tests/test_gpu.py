"""On a CUDA device alone: that it computes what a processor does, and trains every recipe in every precision it has."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cifar_fast_utils import augment, step
from cifar_fast_utils.data import Dataset
from cifar_fast_utils.device import Scale, choose_device, choose_precision, choose_scale, device_name, precisions
from cifar_fast_utils.network import build_network
from cifar_fast_utils.recipe import LADDER, MODERN, Recipe, get, with_epochs
from cifar_fast_utils.train import train

FORBIDDEN = os.environ.get("CIFAR_FAST_DEVICE", "auto") not in ("auto", "cuda")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available() or FORBIDDEN, reason="needs a GPU")
NARROW = Scale("narrow", width=8)
GPU = torch.device("cuda")
BEST = precisions(GPU)[0] if torch.cuda.is_available() else ""


def test_it_is_chosen_at_full_scale_and_half_precision() -> None:
    assert choose_device("auto") == GPU
    assert choose_scale("auto", GPU).name == "full"
    assert choose_precision("auto", GPU) == BEST


@pytest.mark.parametrize("name", [*LADDER, *MODERN])
def test_every_recipe_trains(name: str, tiny: Dataset) -> None:
    recipe = get(name)
    recipe = with_epochs(recipe, 3 if recipe.batch_size < 1000 else 6)  # six steps: Lookahead comes once
    run = train(recipe, tiny, scale=NARROW, device="cuda", progress=False)
    assert run.precision == BEST
    assert run.device == device_name(GPU)
    assert all(row["train_loss"] is not None and np.isfinite(row["train_loss"]) for row in run.history)
    assert run.accuracy is not None
    assert 0 < run.seconds["train"] < run.seconds["train_eval"] < run.seconds["cold"]


@pytest.mark.parametrize("precision", precisions(GPU) if torch.cuda.is_available() else [])
@pytest.mark.parametrize("name", ["mixed_precision", "final", "fast"])
def test_every_precision_learns_what_it_is_shown(name: str, precision: str, tiny: Dataset) -> None:
    recipe = replace(with_epochs(get(name), 30), pad=0, cutout=0, flip="none", label_smoothing=0.0)
    run = train(recipe, tiny, scale=NARROW, device="cuda", precision=precision, progress=False)
    first, last = run.history[0]["train_accuracy"], run.history[-1]["train_accuracy"]
    assert first is not None
    assert last is not None
    assert last > first + 0.1  # of random images and labels: by heart


@pytest.mark.parametrize("name", [*LADDER, *MODERN])
def test_logits_and_gradients_are_the_processors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # cuDNN rounds the factors to TF32 by default; through maxima and corners, gradients then differ by some percent.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    recipe = get(name)
    here = build_network(recipe, 8, "float32")
    there = build_network(recipe, 8, "float32").to(GPU)
    there.load_state_dict(here.state_dict())
    images, labels = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    outs = []
    for network, x, y in ((here, images, labels), (there, images.to(GPU), labels.to(GPU))):
        logits = network(x.contiguous(memory_format=torch.channels_last))
        F.cross_entropy(logits, y).backward()
        outs.append(logits.detach().cpu())
    torch.testing.assert_close(outs[1], outs[0], rtol=2e-2, atol=2e-2)
    for (key, p), (_, q) in zip(here.named_parameters(), there.named_parameters(), strict=True):
        if p.grad is not None:
            assert q.grad is not None
            error = (q.grad.cpu() - p.grad).norm() / p.grad.norm().clamp(min=1e-6)
            assert error < 2e-2, key


def test_an_epochs_choices_make_the_same_images() -> None:
    recipe = replace(get("final"), cutout=8, jitter=0.1)
    images = torch.randint(256, (600, 32, 32, 3), dtype=torch.uint8)
    padded = augment.prepare(images, torch.float32, recipe.pad)
    choices = augment.draw(recipe, len(images), torch.Generator().manual_seed(0))
    assert choices.tone is not None
    moved = augment.Choices(
        crop=[(part.to(GPU), corner) for part, corner in choices.crop],
        flip=choices.flip.to(GPU),
        cutout=[(part.to(GPU), corner) for part, corner in choices.cutout],
        tone=choices.tone.to(GPU),
        order=choices.order.to(GPU),
    )
    there = augment.apply(moved, padded.to(GPU), recipe.cutout)
    torch.testing.assert_close(there.cpu(), augment.apply(choices, padded, recipe.cutout))


NVIDIA = pytest.mark.skipif(torch.version.hip is not None, reason="steps are recorded on NVIDIA's GPUs alone")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What has been recorded."""
    made: list[object] = []
    record = step.Replay._record

    def counting(self: step.Replay, *parts: torch.Tensor) -> object:
        made.append(self)
        return record(self, *parts)

    monkeypatch.setattr(step.Replay, "_record", counting)
    return made


@NVIDIA
@pytest.mark.parametrize("precision", sorted({"float32", BEST} - {""}))
@pytest.mark.parametrize(
    "recipe",
    [
        get("final"),
        get("celu"),
        get("airbench94"),
        replace(with_epochs(get("fast"), 3), sides=((0, 16), (1, 32)), hardest=((0, 1.0),)),
        replace(with_epochs(get("fast"), 3), sides=((0, 16),), hardest=((0, 1.0),), resting=((0, 0), (1, 1))),
        replace(with_epochs(get("muon"), 3), frozen=((0, 0), (2, 1))),
    ],
)
def test_recorded_steps_are_those_launched_one_by_one(
    recipe: Recipe, precision: str, tiny: Dataset, made: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # else kernels may add in another order
    recipe = replace(with_epochs(recipe, 3), batch_size=64)
    replayed = train(recipe, tiny, scale=NARROW, device="cuda", precision=precision, progress=False)
    count = len(made)
    monkeypatch.setattr(step, "ONE_BY_ONE", 10**9)
    launched = train(recipe, tiny, scale=NARROW, device="cuda", precision=precision, progress=False)
    assert len(made) == count > 0
    for one, other in zip(replayed.history, launched.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=2e-2)
    assert replayed.network is not None
    assert launched.network is not None
    before = build_network(recipe, NARROW.width, precision).state_dict()
    for key, value in launched.network.state_dict().items():
        if value.is_floating_point() and before[key].ndim:
            error = (replayed.network.state_dict()[key] - value).norm() / value.norm().clamp(min=1e-6)
            assert error < 0.2, key


@NVIDIA
def test_a_step_is_recorded_once_for_each_kind(tiny: Dataset, made: list[object]) -> None:
    recipe = replace(with_epochs(get("fast"), 3), batch_size=64, sides=((0, 16), (1, 32)), hardest=((0, 1.0),))
    train(replace(recipe, whiten_bias_epochs=2), tiny, scale=NARROW, device="cuda", progress=False)
    assert len(made) == 3  # 16 pixels, 32 pixels, and these without the whitening's bias
