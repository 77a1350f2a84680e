import gc
import itertools
import warnings
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cifar_fast_utils import augment, loop, optimiser
from cifar_fast_utils import train as module
from cifar_fast_utils.data import Dataset, make_dataset
from cifar_fast_utils.device import SCALES, Scale, choose_precision, precisions
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.evaluate import answers, cross_entropy_of, evaluate
from cifar_fast_utils.loop import Training
from cifar_fast_utils.network import ResNet9
from cifar_fast_utils.recipe import LADDER, MODERN, RECIPES, Recipe, get, with_epochs
from cifar_fast_utils.run import Clock, Run, Stopped
from cifar_fast_utils.train import count_flops, data_at, epochs_of, recipe_at, train

NARROW = Scale("narrow", width=4)
ALL = [*LADDER, "mixed_precision", *MODERN]
PRECISIONS = precisions(torch.device("cpu"))


def short(name: str, epochs: float = 1, **change: Any) -> Recipe:
    return replace(with_epochs(RECIPES[name], epochs), **change)


def quick(recipe: Recipe, dataset: Dataset, **settings: Any) -> Run:
    return train(recipe, dataset, **{"scale": NARROW, "device": "cpu", "progress": False, **settings})


def state(run: Run) -> dict[str, Tensor]:
    assert run.network is not None
    return run.network.state_dict()


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_trains(name: str, tiny: Dataset) -> None:
    recipe = replace(with_epochs(get(name), 1.5), batch_size=128)
    run = quick(recipe, tiny.subset(300, 100))
    ends = [row["epoch"] for row in run.history]
    assert ends[-1] == 1.5  # two steps an epoch, three in all
    assert ends == [1.0, 1.5] or recipe.looks_back  # whose passes are shorter
    assert all(row["train_loss"] is not None and np.isfinite(row["train_loss"]) for row in run.history)
    assert run.accuracy is not None
    assert (run.tta_accuracy is not None) == recipe.tta
    assert 0 < run.seconds["train"] < run.seconds["train_eval"] < run.seconds["cold"]
    assert (run.dataset, run.scale) == ("noise", "narrow")
    assert run.precision == choose_precision("auto", torch.device("cpu"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_seed_gives_the_same_run_to_the_bit(precision: str, tiny: Dataset) -> None:
    first, again = (quick(short("final", 2), tiny, seed=3, precision=precision) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(state(first).values(), state(again).values(), strict=True))
    assert first.accuracy == again.accuracy
    assert [row["train_loss"] for row in first.history] == [row["train_loss"] for row in again.history]
    other = quick(short("final", 2), tiny, seed=4, precision=precision)
    assert not torch.equal(state(first)["linear.weight"], state(other)["linear.weight"])


def test_the_hosts_batches_are_the_normalised_images_with_their_numbers(tiny: Dataset) -> None:
    recipe = replace(RECIPES["baseline"], pad=0, flip="none", cutout=0)
    plain = augment.normalise(tiny.train_images).permute(0, 3, 1, 2)
    seen = list(epochs_of(recipe, tiny.train_images, torch.arange(1100), 0, torch.float32)())
    assert len(seen) == 2
    assert all(torch.equal(images, plain[numbers]) for images, numbers in seen)


def test_the_three_clocks_hold_what_they_say(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def costs(where: Any, name: str, seconds: float) -> None:
        plain = getattr(where, name)

        def slow(*arguments: Any, **named: Any) -> Any:
            now[0] += seconds
            return plain(*arguments, **named)

        monkeypatch.setattr(where, name, slow)

    monkeypatch.setattr("cifar_fast_utils.run.time", SimpleNamespace(perf_counter=lambda: now[0]))
    costs(module, "_warm_up", 10_000)
    costs(loop, "whitening_layer", 1000)
    costs(module, "answers", 100)  # after each of the two passes, on a clock the last time alone
    costs(module, "as_seen", 10)
    costs(loop, "training_step", 1)
    run = quick(short("final", 2), tiny)
    assert run.seconds == {"train": 1014, "train_eval": 1114, "cold": 11_114}
    assert [row["seconds"] for row in run.history] == [1012, 1014]


def test_a_row_is_of_its_own_pass(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter([(1.0, True), (3.0, False), (5.0, True), (9.0, True)])

    def step(*arguments: Any) -> tuple[Tensor, Tensor]:
        loss, right = next(steps)
        return torch.tensor(loss), torch.nn.functional.one_hot((arguments[6] + int(not right)) % 10, 10).float()

    monkeypatch.setattr(loop, "training_step", step)
    rows = quick(short("gpu_data", 2), tiny).history
    assert [(row["train_loss"], row["train_accuracy"]) for row in rows] == [(2.0, 0.5), (7.0, 1.0)]
    assert [row["rate"] for row in rows] == pytest.approx([0.4 * 12 / 19, 0.0])


@pytest.mark.parametrize("master", [False, True])
def test_float16_takes_the_same_step_to_rounding(master: bool, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights and summed loss, on a processor that is slow at it: one small batch, against float32."""
    few, recipe = tiny.subset(32, 64), short("final", 1, batch_size=32, master_weights=master)
    expected = quick(recipe, few, precision="float32")
    monkeypatch.setattr(module, "choose_precision", lambda *_: "float16")
    scales: list[float] = []
    plain = module.training_step

    def looking(*arguments: Any) -> tuple[Tensor, Tensor]:
        scales.append(arguments[4])
        return plain(*arguments)

    monkeypatch.setattr(loop, "training_step", looking)
    run = quick(recipe, few)
    assert scales == [32.0]  # the batch's: the loss is summed
    assert run.precision == "float16"
    assert state(run)["linear.weight"].dtype == (torch.float32 if master else torch.float16)
    (ours,), (theirs,) = run.history, expected.history
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=0.02)
    start = ResNet9(recipe, NARROW.width).state_dict()["layer3.0.norm.bias"]  # zeros
    moved = state(expected)["layer3.0.norm.bias"] - start
    assert (state(run)["layer3.0.norm.bias"] - start - moved).norm() < 0.1 * moved.norm()


def test_the_hosts_batches_are_the_seeds_own_in_the_dtype_asked_for(tiny: Dataset) -> None:
    recipe, orders = replace(RECIPES["baseline"], batch_size=32), list[Tensor]()
    for seed in (1, 1, 2):
        seen = list(epochs_of(recipe, tiny.train_images[:64], torch.arange(64), seed, torch.bfloat16)())
        assert {images.dtype for images, _ in seen} == {torch.bfloat16}
        orders.append(torch.cat([numbers for _, numbers in seen]))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[1], orders[2])


@pytest.mark.parametrize("name", ["gpu_data", "baseline", "muon"])
def test_a_run_computes_in_its_precision(name: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images in training and in the test, and Muon's iterations."""
    seen: dict[str, torch.dtype] = {}
    step, iterate = module.training_step, optimiser.orthogonalise

    def trained(*arguments: Any) -> tuple[Tensor, Tensor]:
        seen["training"] = arguments[5].dtype
        return step(*arguments)

    def tested(*arguments: Any, **named: Any) -> tuple[Tensor, Tensor | None]:
        seen["test"] = named["images"].dtype
        return answers(*arguments, **named)

    def iterated(matrix: Tensor, dtype: torch.dtype) -> Tensor:
        seen["Muon"] = dtype
        return iterate(matrix, dtype)

    monkeypatch.setattr(module, "choose_precision", lambda *_: "bfloat16")
    monkeypatch.setattr(loop, "training_step", trained)
    monkeypatch.setattr(module, "answers", tested)
    monkeypatch.setattr(optimiser, "orthogonalise", iterated)
    quick(replace(with_epochs(get(name), 1), batch_size=32), tiny.subset(32, 16))
    assert seen == dict.fromkeys(["training", "test", *["Muon"] * (name == "muon")], torch.bfloat16)


def test_memory_is_kept_before_anything_is_computed(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "keep_freed_memory", lambda: asked.append("kept"))
    monkeypatch.setattr(module, "_warm_up", lambda *_: asked.append("a step"))
    quick(short("gpu_data", 0.5), tiny)
    assert asked == ["kept", "a step"]


def test_a_run_by_hand_gives_the_same_weights(tiny: Dataset) -> None:
    """The loop written out once more, for one epoch of the plainest recipe in float32."""
    recipe = short("gpu_data", 1)
    run = quick(recipe, tiny, precision="float32", seed=5)
    torch.manual_seed(5)
    network = ResNet9(recipe, NARROW.width).to(memory_format=torch.channels_last)
    velocity = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    padded = augment.pad(augment.normalise(tiny.train_images), 4)
    draws = torch.Generator().manual_seed(5)
    for step, (x, y) in enumerate(augment.batches(padded, tiny.train_labels, recipe, draws), start=1):
        rate = float(np.interp(step / 2, *np.array(recipe.knots).T))
        loss = (network(x).logsumexp(1) - network(x)[torch.arange(512), y]).mean()
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for (name, p), g in zip(network.named_parameters(), gradients, strict=True):
                g = g + 5e-4 * p
                velocity[name] = 0.9 * velocity[name] + g
                p.sub_(rate * (g + 0.9 * velocity[name]))
    for name, p in network.named_parameters():
        torch.testing.assert_close(state(run)[name], p.detach(), rtol=1e-4, atol=1e-5)


def test_flops_are_counted_over_all_steps(tiny: Dataset) -> None:
    recipe = RECIPES["gpu_data"]
    # multiply-adds per image of each convolution and of the linear layer, width 64
    forward = 9 * (
        3 * 64 * 1024 + 64 * 128 * 1024 + 2 * 128**2 * 256 + 128 * 256 * 256 + 256 * 512 * 64 + 2 * 512**2 * 16
    )
    forward += 512 * 10
    first = 9 * 3 * 64 * 1024  # no gradient flows into the images
    assert count_flops(recipe, 64) == 2 * 512 * (3 * forward - first)
    run = quick(short("gpu_data", 1.5), tiny)
    assert run.flops == 3 * count_flops(recipe, NARROW.width)


def test_a_loss_that_is_no_number_stops_the_run_and_says_where(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = itertools.count(1)
    plain = module.training_step

    def breaking(*arguments: Any) -> tuple[Tensor, Tensor]:
        loss, correct = plain(*arguments)
        return (loss / 0 if next(steps) == 3 else loss), correct

    monkeypatch.setattr(loop, "training_step", breaking)
    with pytest.raises(UserError, match=r"the loss became inf at step 3 \(epoch 1.50, rate 0\.\d+\): try a larger"):
        quick(short("final", 4), tiny, precision="float32")
    training = Training(short("final", 4), tiny, 4, "bfloat16", 0, torch.device("cpu"))
    training.losses[1], training.step = torch.inf, 3
    with pytest.raises(UserError, match=r"the loss became inf at step 2 .*: try --precision float32 .*, a larger"):
        training.check_finite()


def test_a_loss_that_is_no_number_is_noticed_on_the_way(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "training_step", lambda *_: (torch.tensor(torch.nan), torch.zeros(512, 10)))
    redrawn: Any = SimpleNamespace(
        update=lambda n: True, set_description=lambda *_, **__: None, set_postfix=lambda *_, **__: None
    )
    training = Training(short("gpu_data", 4), tiny, 4, "float32", 0, torch.device("cpu"))
    with pytest.raises(UserError, match="at step 1 "):
        training.one_pass(redrawn)
    assert training.step == 1 < training.steps_per_epoch


def test_weights_that_the_last_step_spoiled_are_noticed(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module.training_step

    def spoiling(network: torch.nn.Module, *arguments: Any) -> tuple[Tensor, Tensor]:
        done = plain(network, *arguments)
        next(network.parameters()).data.fill_(torch.nan)
        return done

    def overflown(*arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
        logits, _ = answers(*arguments, **named)
        return logits, logits + torch.inf

    monkeypatch.setattr(module, "answers", overflown)
    with pytest.raises(UserError, match="the network's answers are not finite numbers"):  # of a mirrored view alone
        quick(short("tta", 2), tiny, precision="float32")
    monkeypatch.undo()
    monkeypatch.setattr(loop, "training_step", spoiling)
    with pytest.raises(UserError, match="the network's answers are not finite numbers: try a larger batch"):
        quick(short("gpu_data", 0.5), tiny, precision="float32")


def test_a_rate_that_is_far_too_high_is_noticed(tiny: Dataset) -> None:
    wild = short("gpu_data", 4, knots=((0.0, 1e30), (4.0, 1e30)))
    with pytest.raises(UserError, match=r"the loss became (nan|inf) at step \d.*: try a larger batch"):
        quick(wild, tiny, precision="float32")


def test_the_rows_come_as_they_are_made_and_tests_can_wait(tiny: Dataset) -> None:
    rows: list[dict[str, Any]] = []
    run = quick(short("gpu_data", 2), tiny, on_epoch=rows.append, test_each_epoch=False)
    assert rows == run.history
    assert [row["test_accuracy"] is None for row in rows] == [True, False]
    assert rows[-1]["test_accuracy"] == run.accuracy
    assert rows[0]["seconds"] < rows[1]["seconds"] == run.seconds["train"]


def test_testing_after_each_epoch_does_not_change_the_run(tiny: Dataset) -> None:
    with_tests, without = (quick(short("ema", 3), tiny, test_each_epoch=t) for t in (True, False))
    assert torch.equal(state(with_tests)["linear.weight"], state(without)["linear.weight"])


def test_a_stopped_run_lets_go_of_what_it_trained_with(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook keeps the last exception."""
    made: list[weakref.ref[Training]] = []

    class Watched(Training):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(weakref.ref(self))

    def stop(*_: Any) -> tuple[Tensor, Tensor]:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "Training", Watched)
    monkeypatch.setattr(loop, "training_step", stop)
    with pytest.raises(Stopped) as kept:
        quick(short("final", 2), tiny)
    gc.collect()
    assert str(kept.value) == "stopped after step 0 of 4"
    assert [one() for one in made] == [None]


def test_no_warning_is_shown(tiny: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(short("final", 1), tiny)


def test_the_smoke_scale_shortens_and_never_lengthens(tiny: Dataset) -> None:
    assert quick(short("gpu_data", 0.5), tiny, scale="smoke").scale == "smoke"
    smoke = SCALES["smoke"]
    assert recipe_at(smoke, get("final")).epochs == smoke.epochs
    assert recipe_at(smoke, get("final@1")) == get("final@1")


def test_a_scale_may_cut_either_set_alone(tiny: Dataset) -> None:
    for train_images, test_images in ((64, None), (None, 32), (64, 32), (None, None)):
        data = data_at(Scale("part", 4, train_images=train_images, test_images=test_images), tiny)
        assert (len(data.train_labels), len(data.test_labels)) == (train_images or 1100, test_images or 200)


# Learning: what would not survive shuffled labels, a skipped optimiser or a broken augmentation.

LESSON = Scale("lesson", width=16)
CUT = 4096
# Too few steps for an average over the last epoch to have settled, so without it.
RECIPE = replace(with_epochs(RECIPES["final"], 8), batch_size=256, ema_every=0, ema_momentum=0.0)


@pytest.fixture(scope="module")
def lesson(synthetic: Dataset) -> Dataset:
    return synthetic.subset(CUT, 1000)


@pytest.fixture(scope="module")
def learnt(lesson: Dataset) -> Run:
    return train(RECIPE, lesson, scale=LESSON, device="cpu", precision="float32", progress=False)


def test_it_learns(learnt: Run) -> None:
    assert learnt.tta_accuracy is not None
    assert learnt.tta_accuracy > 0.85  # chance is 0.1
    losses = [row["train_loss"] for row in learnt.history]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0] - 0.3
    right = learnt.history[-1]["train_accuracy"]
    assert right is not None
    assert right > 0.7
    assert learnt.network is not None
    assert all(parameter.grad is None for parameter in learnt.network.parameters())


def test_with_shuffled_labels_it_does_not(lesson: Dataset) -> None:
    mixed = lesson.train_labels[torch.randperm(CUT, generator=torch.Generator().manual_seed(0))]
    shuffled = make_dataset("x", lesson.classes, lesson.train_images, mixed, lesson.test_images, lesson.test_labels)
    how: dict[str, Any] = {"scale": LESSON, "device": "cpu", "precision": "float32", "progress": False}
    run = train(with_epochs(RECIPE, 4), shuffled, **how, test_each_epoch=False)
    assert run.tta_accuracy is not None
    assert run.tta_accuracy < 0.2


def test_more_classes_than_the_networks_tell_apart_are_refused(tiny: Dataset) -> None:
    arrays = (tiny.train_images, tiny.train_labels, tiny.test_images, tiny.test_labels)
    hundred = make_dataset("hundred", [str(k) for k in range(100)], *arrays)
    with pytest.raises(UserError, match="hundred has 100 classes, but the networks tell only 10 apart"):
        quick(short("final", 1), hundred)


def test_the_run_reports_the_network_it_returns(learnt: Run, lesson: Dataset) -> None:
    assert learnt.network is not None
    images = augment.prepare(lesson.test_images, torch.float32).permute(0, 3, 1, 2)
    assert evaluate(learnt.network, images, lesson.test_labels, tta=True) == (learnt.accuracy, learnt.tta_accuracy)
    views = answers(learnt.network, images, tta=True)[1]
    assert views is not None
    assert learnt.cross_entropy == cross_entropy_of(views, lesson.test_labels)


def test_all_of_a_network_moves_but_its_frozen_scales(lesson: Dataset) -> None:
    run = quick(short("final", 1), lesson)
    fresh = Training(
        run.recipe, lesson, NARROW.width, run.precision, run.seed, torch.device("cpu")
    ).network.state_dict()
    moved = {key for key, value in state(run).items() if not torch.equal(value, fresh[key])}
    still = {key for key in fresh if key.endswith("norm.weight")}
    (whitening,) = {key for key in fresh if fresh[key].shape == (27, 3, 3, 3)}
    assert moved == set(fresh) - still - {whitening}


@pytest.mark.soak
def test_smoke_scale_trains_in_ten_seconds(synthetic: Dataset) -> None:
    for _ in range(3):  # a busy machine may be slow once
        run = train(RECIPES["final"], synthetic, scale="smoke", device="cpu", progress=False)
        if run.seconds["train"] < 10:
            break
    assert run.seconds["train"] < 10
    assert run.recipe.epochs == 3
    assert run.accuracy is not None


def test_the_clock_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def read() -> float:
        said.append("read")
        return 0.0

    monkeypatch.setattr("cifar_fast_utils.run.synchronise", lambda device: said.append("waited"))
    monkeypatch.setattr("cifar_fast_utils.run.time", SimpleNamespace(perf_counter=read))
    with Clock(torch.device("cpu")):
        said.append("worked")
    assert said == ["waited", "read", "worked", "waited", "read"]
