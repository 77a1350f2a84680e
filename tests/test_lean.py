"""What the years after the article brought, each against a plain version of its own."""

import functools
import itertools
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cifar_fast_utils import augment, loop
from cifar_fast_utils import optimiser as optimiser_module
from cifar_fast_utils import train as module
from cifar_fast_utils.data import Dataset
from cifar_fast_utils.device import Scale
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.evaluate import evaluate, shifted
from cifar_fast_utils.last_seen import LastSeen
from cifar_fast_utils.layers import GhostBatchNorm
from cifar_fast_utils.lean import LeanNet, both_signs
from cifar_fast_utils.network import new_network
from cifar_fast_utils.optimiser import (
    Lookahead,
    Muon,
    WithMuon,
    as_matrix,
    build_optimiser,
    iterated,
    lookahead_keep,
    orthogonalise,
    rate_at,
    set_rate,
    settle,
)
from cifar_fast_utils.recipe import Recipe, from_dict, get, with_epochs
from cifar_fast_utils.train import count_flops, epochs_of
from cifar_fast_utils.whitening import patch_covariance, whitening_filters

train = functools.partial(module.train, device="cpu", precision="float32")  # where the tests' own tensors are

AIRBENCH = get("airbench94")


def plain_lean_net(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network in training mode, written out flat with PyTorch's own functions."""
    x = F.gelu(F.conv2d(x, state["whiten.weight"], state["whiten.bias"]))
    for block in range(3):
        for half in range(2):
            name = f"blocks.{block}.{half}"
            x = F.conv2d(x, state[f"{name}.conv.weight"], padding=1)
            x = F.max_pool2d(x, 2) if half == 0 else x
            x = F.batch_norm(x, None, None, None, state[f"{name}.norm.bias"], training=True, eps=1e-12)
            x = F.gelu(x)
    return F.max_pool2d(x, 3).flatten(1) @ state["linear.weight"].T / 9


def bias_of(network: nn.Module | None) -> Tensor:
    """The whitening's."""
    assert isinstance(network, LeanNet)
    assert network.whiten.bias is not None
    return network.whiten.bias


def test_the_lean_network_is_airbenchs() -> None:
    torch.manual_seed(0)
    network = LeanNet(AIRBENCH, width=8)
    nn.init.normal_(bias_of(network))
    x = torch.randn(16, 3, 32, 32)
    torch.testing.assert_close(network(x), plain_lean_net(dict(network.named_parameters()), x))
    full = new_network(AIRBENCH, 64)
    assert round(sum(p.numel() for p in full.parameters()) / 1e6, 2) == 1.97
    assert [m.out_channels for m in full.modules() if isinstance(m, nn.Conv2d)] == [24, 64, 64, 256, 256, 256, 256]


def test_its_norms_are_airbenchs() -> None:
    norm = next(part for part in new_network(AIRBENCH, 8).modules() if isinstance(part, GhostBatchNorm))
    norm(torch.full((4, 8, 2, 2), 3.0))
    assert torch.allclose(norm.running_mean, torch.full((8,), 0.4 * 3.0))
    assert not norm.weight.requires_grad
    assert norm.eps == 1e-12


def test_its_flops_are_airbenchs() -> None:
    steps = 475  # 9.9 epochs of 48 batches of 1024
    test = 60_000 / 1024 / 3  # six views of the test images, without the way back
    assert round(count_flops(AIRBENCH, 64) * (steps + test) / 1e15, 2) == 0.36


def test_its_convolutions_start_by_passing_their_channels_on() -> None:
    network = LeanNet(AIRBENCH, width=32)
    convs = [part for part in network.blocks.modules() if isinstance(part, nn.Conv2d)]
    for conv in convs:
        x = torch.randn(2, conv.in_channels, 5, 5)
        assert torch.equal(conv(x)[:, : conv.in_channels], x)
    assert not torch.equal(network.whiten.weight[:3, :, 0, 0], torch.eye(3))


def test_the_whitening_has_both_signs_and_whitens() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 3))
    smooth = rng.normal(size=(40, 3, 10, 10)).cumsum(axis=3) @ np.eye(10)
    images = np.einsum("dc,nchw->ndhw", mixing, smooth)
    filters = both_signs(torch.from_numpy(images)).numpy()
    assert filters.shape == (24, 3, 2, 2)
    np.testing.assert_array_equal(filters[12:], -filters[:12])
    patches = np.array([
        images[n, :, y : y + 2, x : x + 2].ravel() for n in range(40) for y in range(9) for x in range(9)
    ])  # fmt: skip
    out = patches @ filters[:12].reshape(12, 12).T
    values = np.linalg.eigvalsh(patches.T @ patches / (len(patches) - 1))[::-1]
    np.testing.assert_allclose(out.T @ out / (len(patches) - 1), np.diag(values / (values + 5e-4)), atol=1e-6)


def test_the_recipe_is_airbenchs() -> None:
    k = 1024 * (1 + 1 / (1 - 0.85))
    rate, decay = 11.5 / k, 0.0153 * 1024 / k  # on the summed loss; the decay of a step as a share of the weight
    network = new_network(AIRBENCH, 8)
    optimiser = build_optimiser(network, AIRBENCH, loss_scale=1024)
    set_rate(optimiser, rate_at(AIRBENCH, 0.23 * 9.9))
    weights, biases = optimiser.param_groups
    assert weights["lr"] == pytest.approx(rate)
    assert biases["lr"] == pytest.approx(64 * rate)
    for group in (weights, biases):
        assert group["lr"] * group["weight_decay"] == pytest.approx(decay)
        assert (group["momentum"], group["nesterov"]) == (0.85, True)
    assert any(p is bias_of(network) for p in weights["params"])
    assert len(biases["params"]) == 6
    peak = rate_at(AIRBENCH, 0.23 * 9.9)
    assert [rate_at(AIRBENCH, e) / peak for e in (0, 9.9)] == [pytest.approx(0.2), pytest.approx(0.07)]
    assert (AIRBENCH.batch_size, AIRBENCH.label_smoothing, AIRBENCH.pad, AIRBENCH.cutout) == (1024, 0.2, 2, 0)


def test_the_whitenings_bias_is_trained_for_its_epochs_alone(tiny: Dataset) -> None:
    recipe = replace(with_epochs(AIRBENCH, 4), batch_size=512, lookahead_every=0)
    kept = [
        train(replace(recipe, whiten_bias_epochs=epochs), tiny, scale=Scale("narrow", 4), progress=False).network
        for epochs in (0, 1, 4)
    ]
    biases = [bias_of(network).detach() for network in kept]
    assert not biases[0].any()
    assert biases[1].any()
    assert not torch.equal(biases[1], biases[2])


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=5), st.floats(0, 1))
def test_lookahead_moves_the_slow_copy_and_pulls_the_network_back(moves: list[float], keep: float) -> None:
    network = GhostBatchNorm(2)
    slow = Lookahead(network)
    expected = 1.0
    for value in moves:
        with torch.no_grad():
            network.weight.fill_(value)
        slow.update(network, keep)
        expected = keep * expected + (1 - keep) * value
        assert network.weight[0].item() == pytest.approx(expected, abs=1e-4)
    with torch.no_grad():
        network.weight.fill_(99.0)
        network.running_mean.fill_(99.0)
    slow.update(network, keep=1.0)
    assert network.weight[0].item() == pytest.approx(expected, abs=1e-4)
    assert not network.running_mean.any()


def test_lookahead_keeps_more_and_more() -> None:
    assert lookahead_keep(0) == 0
    assert lookahead_keep(1) == pytest.approx(0.95**5)
    assert lookahead_keep(0.5) == pytest.approx(0.95**5 / 8)


def test_a_run_ends_at_the_slow_copy(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    class Watched(Lookahead):
        def update(self, network: nn.Module, keep: float) -> None:
            kept.append(keep)
            super().update(network, keep)

    monkeypatch.setattr(loop, "Lookahead", Watched)
    recipe = replace(with_epochs(AIRBENCH, 5.5), batch_size=512)  # 11 steps
    train(recipe, tiny, scale=Scale("narrow", 4), progress=False)
    assert kept == [lookahead_keep(5 / 11), lookahead_keep(10 / 11), 1.0]


def test_a_training_too_short_for_lookahead_does_without(tiny: Dataset) -> None:
    """Its slow copy would be the untrained network."""
    short = replace(with_epochs(AIRBENCH, 2), batch_size=512)
    runs = [
        train(replace(short, lookahead_every=every), tiny, scale=Scale("narrow", 4), progress=False).network
        for every in (5, 0)
    ]
    states = [network.state_dict() for network in runs if network is not None]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_flips_alternate() -> None:
    """Each image is mirrored in every other epoch, half of them in the first."""
    n = 41
    images = torch.zeros(n, 32, 32, 3, dtype=torch.uint8)
    images[:, :, :16] = 255  # left half bright
    recipe = replace(AIRBENCH, batch_size=n, pad=0)
    epochs = epochs_of(recipe, images, torch.arange(n), seed=0, dtype=torch.float32)
    seen = []
    for _ in range(4):
        ((batch, labels),) = epochs()
        mirrored = torch.empty(n, dtype=torch.bool)
        mirrored[labels] = batch[:, 0, 0, 0] < batch[:, 0, 0, 31]
        seen.append(mirrored)
    assert seen[0].sum() == n // 2
    for before, after in itertools.pairwise(seen):
        assert torch.equal(before, ~after)


def test_each_side_draws_for_itself() -> None:
    images = torch.zeros(64, 32, 32, 3, dtype=torch.uint8)
    orders = []
    for side in (16, 32):
        epoch = epochs_of(replace(AIRBENCH, batch_size=64), images, torch.arange(64), 0, torch.float32, side)
        ((_, labels),) = epoch()
        orders.append(labels)
    assert not torch.equal(*orders)


def test_sides_change_at_their_epochs_whatever_share_a_pass_takes(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = module.training_step

    def looking(*arguments: Any) -> tuple[Tensor, Tensor]:
        seen.append(arguments[5].shape[-1])
        return plain(*arguments)

    monkeypatch.setattr(loop, "training_step", looking)
    recipe = replace(with_epochs(AIRBENCH, 4), batch_size=128, ghost_groups=1)  # eight steps an epoch
    recipe = replace(recipe, hardest=((0, 1.0), (1, 0.6)), sides=((0, 16), (2, 20), (3, 24)))  # five steps a pass
    train(recipe, tiny, scale=Scale("narrow", width=4), progress=False, test_each_epoch=False)
    assert seen == [16] * 16 + [20] * 8 + [24] * 8


def test_a_block_that_would_be_frozen_after_the_end_is_trained_as_without() -> None:
    late = replace(get("muon"), frozen=((0, 0), (20, 1)))
    rates = []
    for recipe in (late, get("muon")):
        optimiser = build_optimiser(new_network(recipe, width=4), recipe, 1.0, torch.float32)
        set_rate(optimiser, 1.0)
        settle(optimiser, recipe, 7.9)
        assert isinstance(optimiser, WithMuon)
        rates.append([group["fall"] for group in optimiser.muon.param_groups])
    assert set(rates[0]) == set(rates[1])


def test_the_whitening_is_that_of_the_first_images() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (10_100, 6, 6, 3), dtype=torch.uint8, generator=draw)
    images[4_900:] //= 2  # not like those before
    images[9_900:] //= 2
    normalised = augment.normalise(images).permute(0, 3, 1, 2)
    found = module.whitening_layer(AIRBENCH, images)
    assert found is not None
    assert torch.equal(found, both_signs(normalised[:5_000]))
    found = module.whitening_layer(get("final"), images)
    assert found is not None
    assert torch.equal(found, whitening_filters(patch_covariance(normalised[:10_000])))


def test_random_flips_are_drawn_as_they_were() -> None:
    generator = torch.Generator().manual_seed(0)
    choices = augment.draw(get("final"), 100, generator)
    assert choices.flip.sum() == 50
    mask = torch.arange(100) < 10
    given_mask = augment.draw(get("final"), 100, torch.Generator().manual_seed(0), mask)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(choices.crop, given_mask.crop, strict=True))
    assert torch.equal(choices.order, given_mask.order)
    assert torch.equal(given_mask.flip, torch.cat([part for part, _ in choices.crop]) < 10)
    for other in (replace(get("final"), flip="none"), replace(get("final"), flip="alternate")):
        drawn = augment.draw(other, 100, torch.Generator().manual_seed(0))
        assert torch.equal(drawn.order, choices.order)  # what is drawn after the flips stays the same
        assert not drawn.flip.any()


@pytest.mark.parametrize("by", [-1, 1, 3])
def test_a_shift_is_numpys(by: int) -> None:
    images = torch.randn(2, 3, 8, 8)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")
    np.testing.assert_array_equal(shifted(images, by).numpy(), padded[:, :, 4 + by : 12 + by, 4 + by : 12 + by])


class Corner(nn.Module):
    """Its first logit is the brightness of the pixel in the top left corner, its second 0.3."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0, 0, 0], torch.full((len(x),), 0.3)], 1)


@pytest.mark.parametrize(
    ("y", "x", "seen"),
    # the image and its mirror count a quarter each; the four shifted views an eighth each
    [(0, 0, 1 / 4), (0, 31, 1 / 4), (1, 1, 2 / 8), (1, 30, 2 / 8), (0, 1, 0), (5, 5, 0)],
)
def test_six_views_count_as_airbenchs(y: int, x: int, seen: float) -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, y, x] = 1.0
    for level in (0.05, 0.2, 0.4):
        network = Corner()
        found = evaluate(network, image * level / 0.3, torch.tensor([0]), tta=True, shift=1)[1]
        # the mean of the first logit is `seen` × level / 0.3, of the second 0.3
        assert found == float(seen * level / 0.3 > 0.3)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(("full", "small", "seen"), [(1, 0, 4 / 5), (0, 1, 1 / 5), (1, 1, 1)])
def test_the_smaller_pair_counts_a_fifth(full: int, small: int, seen: float, shift: int) -> None:
    images, smaller = (torch.full((1, 3, side, side), float(bright)) for side, bright in ((32, full), (25, small)))
    for level in (0.1, 0.29, 0.31, 0.36, 0.39, 1.4, 1.6):
        found = evaluate(Corner(), images * level, torch.tensor([0]), True, shift, smaller * level)[1]
        assert found == float(seen * level > 0.3)


def test_fields_that_came_later_do_not_change_what_was_recorded() -> None:
    assert get("final").digest == "f5ca10eda83e"
    old = {key: value for key, value in asdict(get("final")).items() if key not in ("network", "norm_eps", "tta_shift")}
    assert from_dict(old) == get("final")
    assert replace(get("final"), norm_eps=1e-12).digest != get("final").digest


def test_it_trains_and_learns(synthetic: Dataset) -> None:
    recipe: Recipe = replace(with_epochs(AIRBENCH, 3), batch_size=256)
    run = train(recipe, synthetic.subset(4096, 1000), scale=Scale("narrow", 8), progress=False, test_each_epoch=False)
    assert run.tta_accuracy is not None
    assert run.tta_accuracy > 0.3


def triangle_filter(size: int, side: int) -> np.ndarray:
    """(side, size): the weights of each pixel of the smaller line, a triangle as wide as two of its pixels."""
    scale = size / side
    centres = (np.arange(side) + 0.5) * scale
    weights = np.maximum(1 - np.abs(np.arange(size) + 0.5 - centres[:, None]) / scale, 0)
    normalised: np.ndarray = weights / weights.sum(1, keepdims=True)
    return normalised


@pytest.mark.parametrize("side", [16, 20, 24, 31])
def test_smaller_images_are_filtered_as_numpy_does_it(side: int) -> None:
    images = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8)
    line = triangle_filter(32, side)
    expected = np.einsum("yr,xs,nrsc->nyxc", line, line, images.numpy().astype(float))
    small = augment.shrink(images, side)
    assert small.dtype == torch.uint8
    assert np.abs(small.numpy() - expected).max() < 0.51
    assert augment.shrink(images, 32) is images


def test_the_sides_of_a_recipe_are_trained_on_and_counted(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = module.training_step

    def watched(network: nn.Module, *rest: object) -> tuple[Tensor, Tensor]:
        images = rest[4]
        assert isinstance(images, Tensor)
        seen.append(tuple(images.shape[1:]))
        return step(network, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "training_step", watched)
    recipe = replace(with_epochs(AIRBENCH, 3), batch_size=512, sides=((0, 16), (1, 24), (2, 32)))  # 2 steps an epoch
    run = train(recipe, tiny, scale=Scale("narrow", 4), progress=False)
    assert seen == [(3, side, side) for side in (16, 16, 24, 24, 32, 32)]
    assert run.flops == 2 * sum(count_flops(recipe, 4, side) for side in (16, 24, 32))
    assert run.accuracy is not None
    assert from_dict(recipe.to_dict()) == recipe
    assert with_epochs(recipe, 6).sides == ((0, 16), (2, 24), (4, 32))
    assert with_epochs(recipe, 1).sides == ((0, 24), (1, 32))  # to whole epochs


def test_the_hardest_images_are_those_of_the_largest_loss_last_seen() -> None:
    recipe = replace(AIRBENCH, batch_size=2, hardest=((0, 1), (2, 0.5), (3, 0.1)))
    last_seen = LastSeen(torch.zeros(6, dtype=torch.long))
    index, labels = torch.tensor([4, 0, 2, 5]), torch.tensor([1, 2, 3, 4])
    logits = torch.randn(4, 10)
    last_seen.saw(index, logits, labels)
    losses = np.full(6, np.inf)
    p = np.exp(logits.double().numpy())
    losses[index.numpy()] = -np.log((p / p.sum(1, keepdims=True))[range(4), labels.numpy()])
    np.testing.assert_allclose(last_seen.losses.numpy(), losses, rtol=1e-5)
    assert last_seen.hardest(recipe, 1.9) is None
    half, batch = last_seen.hardest(recipe, 2), last_seen.hardest(recipe, 3.5)
    assert half is not None
    assert batch is not None
    assert set(half.tolist()) == set(np.argsort(-losses)[:3])  # those not seen yet first
    assert set(batch.tolist()) == {1, 3}  # a tenth were less than a batch


def test_passes_over_the_hardest_make_up_the_same_number_of_steps(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[set[int], set[int]]] = []
    choose, saw = LastSeen.hardest, LastSeen.saw

    def chosen(self: LastSeen, recipe: Recipe, epoch: float) -> Tensor | None:
        images = choose(self, recipe, epoch)
        passes.append((set(range(len(tiny.train_labels)) if images is None else images.tolist()), set()))
        return images

    def seen(self: LastSeen, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        assert torch.equal(labels, tiny.train_labels[index])
        passes[-1][1].update(index.tolist())
        saw(self, index, logits, labels)

    monkeypatch.setattr(LastSeen, "hardest", chosen)
    monkeypatch.setattr(LastSeen, "saw", seen)
    recipe = replace(with_epochs(AIRBENCH, 3), batch_size=512, hardest=((0, 1), (1, 0.5), (2, 1)))
    run = train(recipe, tiny, scale=Scale("narrow", 4), progress=False)
    n = len(tiny.train_labels)
    assert [len(of) for of, _ in passes] == [n, n // 2, n // 2, n]
    assert [len(images) for _, images in passes] == [1024, 512, 512, 1024]
    assert all(images <= of for of, images in passes)
    assert [row["epoch"] for row in run.history] == [1.0, 1.5, 2.0, 3.0]
    assert run.flops == 6 * count_flops(recipe, 4)
    assert with_epochs(recipe, 6).hardest == ((0, 1), (2, 0.5), (4, 1))


def test_a_recipe_cut_so_short_that_it_takes_the_hardest_from_the_start(tiny: Dataset) -> None:
    recipe = replace(AIRBENCH, batch_size=256, hardest=((0, 1), (3, 0.5)))
    short = with_epochs(recipe, 1)
    assert short.hardest == ((0, 0.5),)
    assert [one.looks_back for one in (recipe, short, AIRBENCH)] == [True, True, False]
    run = train(short, tiny, scale=Scale("narrow", 4), progress=False)
    assert [row["epoch"] for row in run.history] == [0.5, 1.0]


def test_frozen_blocks_stay_as_they_are_and_have_settled_by_then(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[dict[str, Tensor]] = []
    rates: list[list[float]] = []
    step = module.training_step

    def watched(network: nn.Module, optimiser: WithMuon, *rest: object) -> tuple[Tensor, Tensor]:
        result = step(network, optimiser, *rest)  # type: ignore[arg-type]
        states.append({name: value.detach().clone() for name, value in network.named_parameters()})
        rates.append([group["lr"] for group in optimiser.muon.param_groups])
        return result

    monkeypatch.setattr(loop, "training_step", watched)
    recipe = replace(get("muon"), batch_size=512, whiten_bias_epochs=1)
    recipe = replace(with_epochs(recipe, 4), frozen=((0, 0), (2, 1), (3, 2)))  # 2 steps an epoch
    run = train(recipe, tiny, scale=Scale("narrow", 4), progress=False)
    moved = [
        {name.split(".")[1] for name in old if name.startswith("blocks") and not torch.equal(old[name], new[name])}
        for old, new in itertools.pairwise(states)
    ]
    # The step before is the last of a block, at a rate of 0: its filters are but scaled.
    assert moved[3:] == [{"1", "2"}, {"1", "2"}, {"2"}, {"2"}]
    assert [row[0] for row in rates[:4]] == [pytest.approx(1.5 * 0.16 * (1 - step / 4)) for step in (1, 2, 3, 4)]
    assert [row[1] for row in rates[:6]] == [pytest.approx(1.5 * 0.16 * (1 - step / 6)) for step in range(1, 7)]
    assert [row[2] for row in rates] == [pytest.approx(1.5 * 0.16 * (1 - step / 8)) for step in range(1, 9)]
    assert run.flops == 2 * sum(count_flops(recipe, 4, 32, frozen) for frozen in (0, 0, 1, 2))
    assert with_epochs(recipe, 8).frozen == ((0, 0), (4, 1), (6, 2))
    assert from_dict(recipe.to_dict()) == recipe


def test_resting_blocks_move_at_every_other_step(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[dict[str, Tensor]] = []
    step = module.training_step

    def watched(network: nn.Module, *rest: Any) -> tuple[Tensor, Tensor]:
        states.append({name: value.detach().clone() for name, value in network.named_parameters()})
        result = step(network, *rest)
        states.append({name: value.detach().clone() for name, value in network.named_parameters()})
        return result

    monkeypatch.setattr(loop, "training_step", watched)
    recipe = replace(with_epochs(AIRBENCH, 3), batch_size=512, resting=((0, 0), (1, 2), (2, 1)))  # 2 steps an epoch
    run = train(recipe, tiny, scale=Scale("narrow", 4), progress=False)
    trained = [name for name in states[0] if not name.endswith("norm.weight") and name != "whiten.weight"]
    moved = [
        {name.split(".")[1] for name in trained if name.startswith("blocks") and not torch.equal(old[name], new[name])}
        for old, new in zip(states[::2], states[1::2], strict=True)
    ]
    everything = {"0", "1", "2"}
    assert moved == [everything, everything, everything, {"2"}, everything, {"1", "2"}]
    assert run.flops == 4 * count_flops(recipe, 4) + count_flops(recipe, 4, 32, 2) + count_flops(recipe, 4, 32, 1)
    assert with_epochs(recipe, 6).resting == ((0, 0), (2, 2), (4, 1))
    assert from_dict(recipe.to_dict()) == recipe


def test_a_recipe_cut_so_short_that_a_block_is_frozen_from_the_start(tiny: Dataset) -> None:
    recipe = replace(get("muon"), batch_size=256, frozen=((0, 0), (3, 1)))
    short = with_epochs(recipe, 1)
    assert short.frozen == ((0, 1),)
    run = train(short, tiny, scale=Scale("narrow", 4), progress=False)
    assert run.accuracy is not None
    assert run.flops == 4 * count_flops(short, 4, 32, 1)


def test_nothing_frozen_is_nothing_changed() -> None:
    optimiser = build_optimiser(new_network(MUON, 4), MUON)
    for epoch in (step * MUON.epochs / 777 for step in range(1, 778)):
        rates = []
        for settled in (False, True):
            if settled:
                settle(optimiser, MUON, epoch)
            set_rate(optimiser, rate_at(MUON, epoch))
            rates.append([group["lr"] for group in optimiser.param_groups])
        assert rates[0] == rates[1]


@given(st.floats(0.01, 0.9), st.floats(0, 8))
def test_a_target_is_a_distribution_between_the_label_and_the_last_answer(share: float, epoch: float) -> None:
    recipe = replace(get("muon"), self_distillation=share)
    labels = torch.tensor([3, 1, 4, 1])
    last_seen = LastSeen(labels)
    index = torch.tensor([2, 0])
    one_hot = F.one_hot(labels[index], 10).float()
    before = last_seen.target(recipe, epoch, index, labels[index])
    np.testing.assert_allclose(before.numpy(), one_hot.numpy(), atol=1e-6)  # not seen yet
    logits = torch.randn(2, 10)
    last_seen.saw(index, logits, labels[index])
    target = last_seen.target(recipe, epoch, index, labels[index])
    weight = share * epoch / 8
    np.testing.assert_allclose(target.numpy(), ((1 - weight) * one_hot + weight * logits.softmax(1)).numpy(), atol=1e-6)
    np.testing.assert_allclose(target.sum(1).numpy(), 1, atol=1e-6)


def test_self_distillation_changes_the_targets_and_the_targets_alone(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets: list[Tensor] = []
    step = module.training_step

    def watched(network: nn.Module, *rest: object) -> tuple[Tensor, Tensor]:
        assert isinstance(rest[5], Tensor)
        targets.append(rest[5])
        return step(network, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "training_step", watched)
    recipe = replace(with_epochs(get("muon"), 2), batch_size=512, self_distillation=0.5)
    run = train(recipe, tiny, scale=Scale("narrow", 4), progress=False)
    assert [tuple(target.shape) for target in targets] == [(512, 10)] * 4
    assert all(target.max(1).values.eq(1).all() for target in targets[:2])
    assert all(target.max(1).values.lt(1).float().mean() > 0.9 for target in targets[2:])  # a few were left out before
    plain = train(replace(recipe, self_distillation=0.0), tiny, scale=Scale("narrow", 4), progress=False)
    assert run.flops == plain.flops
    assert run.history[0]["train_accuracy"] == plain.history[0]["train_accuracy"]


def test_a_pass_over_some_images_flips_them_as_it_would_among_all(tiny: Dataset) -> None:
    recipe = replace(AIRBENCH, batch_size=64, pad=0)
    images, chosen = tiny.train_images, torch.arange(0, 512, 4)
    parts = []
    for some in (None, chosen):
        epochs = epochs_of(recipe, images, torch.arange(len(images)), seed=0, dtype=torch.float32)
        parts.append({int(i): image for batch, index in epochs(some) for image, i in zip(batch, index, strict=True)})
    everything, few = parts
    assert set(few) == set(chosen.tolist())
    assert all(torch.equal(image, everything[i]) for i, image in few.items() if i in everything)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hardest": ((0, 0.0),)}, "hardest.0.1: Input should be greater than 0"),
        ({"hardest": ((0, 1.5),)}, "hardest.0.1: Input should be less than or equal to 1"),
        ({"hardest": ((1, 0.5),)}, "hardest: the epochs must be whole numbers that rise from 0"),
        ({"hardest": ((0, 1), (1.5, 0.5))}, "hardest: the epochs must be whole numbers that rise from 0"),
        ({"hardest": ((0, 1), (1, 0.5)), "augment_on": "host", "flip": "random"}, "the hardest can be chosen on"),
        ({"frozen": ((0, 0), (1.5, 1))}, "frozen: the epochs must be whole numbers that rise from 0"),
        ({"frozen": ((0, 0), (1, 2), (2, 1))}, "the number of frozen blocks cannot fall"),
        ({"frozen": ((0, 0), (1, 3))}, "frozen.1.1: Input should be less than or equal to 2"),
        ({"network": "resnet9", "frozen": ((0, 0), (1, 1))}, "only the lean network's blocks can be frozen or rest"),
        ({"resting": ((0, 3),)}, "resting.0.1: Input should be less than or equal to 2"),
        ({"resting": ((1, 1),)}, "resting: the epochs must be whole numbers that rise from 0"),
        ({"network": "resnet9", "resting": ((0, 1),)}, "only the lean network's blocks can be frozen or rest"),
        ({"self_distillation": 1.0}, "self_distillation: Input should be less than 1"),
        (
            {"self_distillation": 0.5, "augment_on": "host", "flip": "random"},
            "self-distillation is done on the device only",
        ),
        ({"jitter": 0.1, "augment_on": "host", "flip": "random"}, "brightness and contrast are jittered on the dev"),
        ({"batch_size": 4, "ghost_groups": 4}, "a norm needs two images or more"),
        ({"jitter": -0.1}, "jitter: Input should be greater than or equal to 0"),
        ({"sides": ()}, "sides: the epochs must rise"),
        ({"sides": ((1, 32),)}, "rise from 0"),
        ({"sides": ((0, 16), (0, 32))}, "sides: the epochs must rise"),
        ({"sides": ((0, 16), (1.5, 32))}, "whole numbers"),
        ({"sides": ((0, 8),)}, "sides.0.1: Input should be greater than or equal to 16"),
        ({"sides": ((0, 33),)}, "sides.0.1: Input should be less than or equal to 32"),
        ({"network": "resnet9", "sides": ((0, 24),)}, "the ResNet-9 takes images of 32 pixels"),
    ],
)
def test_fields_that_make_no_sense_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        replace(AIRBENCH, **change)


def test_it_is_tested_at_its_own_size(tiny: Dataset) -> None:
    recipe = replace(with_epochs(AIRBENCH, 2), batch_size=512, sides=((0, 20),), test_side=20)
    run = train(recipe, tiny, scale=Scale("narrow", 4), progress=False)
    assert run.network is not None
    small = augment.prepare(augment.shrink(tiny.test_images, 20), torch.float32).permute(0, 3, 1, 2)
    assert (run.accuracy, run.tta_accuracy) == evaluate(run.network, small, tiny.test_labels, tta=True, shift=1)
    scaled = train(replace(recipe, tta_side=17), tiny, scale=Scale("narrow", 4), progress=False)
    smaller = augment.prepare(augment.shrink(tiny.test_images, 17), torch.float32).permute(0, 3, 1, 2)
    assert scaled.accuracy == run.accuracy
    assert scaled.tta_accuracy == evaluate(run.network, small, tiny.test_labels, True, 1, smaller)[1]
    with pytest.raises(UserError, match="test_side: Input should be less than or equal to 32"):
        replace(AIRBENCH, test_side=33)
    with pytest.raises(UserError, match="tta_side is 0, or 16 to 32, not 15"):
        replace(AIRBENCH, tta_side=15)


def polar(gradient: np.ndarray) -> np.ndarray:
    """The nearest matrix with singular values of 1, by the decomposition that Muon avoids."""
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    return np.asarray(left @ right)


MUON = replace(AIRBENCH, muon_factor=0.1, lookahead_every=0)


def test_a_training_step_is_one_step_of_muon_and_of_sgd() -> None:
    recipe, images, labels = replace(MUON, batch_size=16), torch.randn(16, 3, 16, 16), torch.randint(10, (16,))
    ours, theirs = new_network(recipe, 4), new_network(recipe, 4)
    theirs.load_state_dict(ours.state_dict())
    mine, its = build_optimiser(ours, recipe), build_optimiser(theirs, recipe)
    for rate in (0.5, 1.0):
        module.training_step(ours, mine, recipe, rate, 1.0, images, labels)
        its.zero_grad()
        F.cross_entropy(theirs(images), labels, label_smoothing=recipe.label_smoothing).backward()
        set_rate(its, rate)
        its.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muons_steps_are_orthogonal_and_of_the_rates_length(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 16, 3, bias=False)
    network = nn.Sequential(conv, nn.Flatten(), nn.Linear(4, 2)).to(memory_format=layout)
    optimiser = build_optimiser(network, MUON)
    assert isinstance(optimiser, WithMuon)
    filters = conv.weight
    gradients = torch.randn((3, 16, 6, 3, 3))
    average = torch.zeros_like(gradients[0])
    for gradient, rate in zip(gradients, (0.5, 1.0, 2.0), strict=True):
        before = filters.detach().clone()
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        filters.grad = gradient.clone()  # in the other layout, one time of two: PyTorch promises none
        set_rate(optimiser, rate)
        optimiser.step()
        average = 0.6 * average + gradient
        wanted = polar((gradient + 0.6 * average).flatten(1).double().numpy())
        scaled = before * (4 / before.norm())  # √16 filters
        step = ((scaled - filters.detach()) / (0.1 * rate)).flatten(1).double().numpy()
        values = np.linalg.svd(step, compute_uv=False)
        assert values.min() > 0.6  # five iterations leave them between about 0.7 and 1.2
        assert values.max() < 1.3
        assert (step * wanted).sum() / np.linalg.norm(step) / np.linalg.norm(wanted) > 0.97


def test_muon_takes_the_filters_and_sgd_the_rest() -> None:
    network = new_network(MUON, 4)
    optimiser = build_optimiser(network, MUON)
    assert isinstance(optimiser, WithMuon)
    assert [tuple(as_matrix(part).shape) for part in optimiser.filters] == [
        (4, 216), (4, 36), (16, 36), (16, 144), (16, 144), (16, 144),
    ]  # fmt: skip
    weights, biases = optimiser.sgd.param_groups
    assert {tuple(part.shape) for part in weights["params"]} == {(24,), (10, 16)}
    assert len(biases["params"]) == 6
    assert not any(part is one for one in optimiser.filters for part in [*weights["params"], *biases["params"]])
    set_rate(optimiser, 2.0)
    assert [group["lr"] for group in optimiser.param_groups] == [2.0, 128.0, pytest.approx(0.2)]


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3]), st.booleans())
def test_filters_as_a_matrix_are_the_same_memory(c_out: int, c_in: int, size: int, channels_last: bool) -> None:
    filters = torch.randn(c_out, c_in, size, size)
    if channels_last:
        filters = filters.contiguous(memory_format=torch.channels_last)
    matrix = as_matrix(filters)
    assert matrix.shape == (c_out, c_in * size**2)
    assert matrix.data_ptr() == filters.data_ptr()
    assert torch.equal(matrix.sort(dim=1).values, filters.flatten(1).sort(dim=1).values)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon since 2.9")
@pytest.mark.parametrize("c_out", [16, 80])  # rows fewer and more than the columns
def test_muon_is_pytorchs_but_for_what_it_iterates_in(c_out: int) -> None:
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(c_out, 6, 3, 3))
    filters.data *= c_out**0.5 / filters.norm()
    theirs = nn.Parameter(filters.detach().flatten(1).clone())
    ours = Muon([{"params": [filters]}], momentum=0.6, dtype=torch.bfloat16)
    pytorchs = torch.optim.Muon([theirs], lr=0.3, weight_decay=0.0, momentum=0.6)
    for _ in range(3):
        filters.grad = torch.randn_like(filters)
        theirs.grad = filters.grad.flatten(1).clone()
        ours.param_groups[0]["lr"] = 0.3
        ours.step()
        with torch.no_grad():
            theirs.mul_(c_out**0.5 / theirs.norm())
        pytorchs.step()
        torch.testing.assert_close(filters.detach().flatten(1), theirs.detach(), rtol=0, atol=0)


def test_muon_iterates_in_bfloat16_where_the_network_computes_in_it(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    iterate = optimiser_module.orthogonalise

    def watched(matrix: Tensor, dtype: torch.dtype) -> Tensor:
        seen.append(dtype)
        return iterate(matrix, dtype)

    monkeypatch.setattr(optimiser_module, "orthogonalise", watched)
    recipe = replace(with_epochs(MUON, 0.5), batch_size=256)
    train(recipe, tiny, scale=Scale("narrow", 4), precision="float32", progress=False)
    assert set(seen) == {torch.float32}
    seen.clear()
    for dtype in (torch.bfloat16, torch.float16):
        optimiser = build_optimiser(new_network(MUON, 4), MUON, dtype=dtype)
        assert isinstance(optimiser, WithMuon)
        for weight in optimiser.filters:
            weight.grad = torch.randn_like(weight)
        optimiser.muon.step()
    assert seen == [torch.bfloat16] * 6 + [torch.float32] * 6


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_orthogonalised_matrices_keep_their_singular_vectors(rows: int, columns: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(rows, columns))
    made = orthogonalise(torch.from_numpy(matrix), torch.float64).numpy()
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ made @ right.T  # in the bases of its singular vectors it is diagonal
    np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-9)
    large = values > 0.01 * np.linalg.norm(values)
    assert np.diag(inside)[large].min() > 0.6
    assert np.diag(inside).max() < 1.3
    assert np.diag(inside).min() > 0
    np.testing.assert_allclose(made, left @ inside @ right, atol=1e-9)


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 99))
def test_iterations_at_a_time_make_the_same_matrix(rows: int, more: int, seed: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, rows + more)))
    x /= x.norm()
    one_by_one = x
    for times in range(1, 6):
        one_by_one = iterated(one_by_one, 1)
        torch.testing.assert_close(iterated(x, times), one_by_one)


def test_on_a_cpu_half_of_the_operations_of_large_matrices_are_saved() -> None:
    rows, columns = 256, 2304
    with FlopCounterMode(display=False) as counter:
        orthogonalise(torch.randn(rows, columns), torch.float32)
    found = counter.get_total_flops()
    assert found == 8 * rows**2 * columns + 28 * rows**3  # chapter 16
    assert 0.5 < found / (5 * (4 * rows**2 * columns + 2 * rows**3)) < 0.55
    with FlopCounterMode(display=False) as counter:
        orthogonalise(torch.randn(400, 500), torch.float32)  # not wide: it would cost more
    assert counter.get_total_flops() == 5 * (4 * 400**2 * 500 + 2 * 400**3)


@pytest.mark.parametrize("fall", [0, 1, 2, 3])
def test_large_matrices_come_as_near_in_bfloat16_as_one_iteration_at_a_time(
    fall: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, columns = 64, 1600
    assert rows * columns >= optimiser_module.LARGE
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, rows, dtype=torch.float64))[0] for n in (rows, columns))
    matrix = left @ torch.diag(torch.arange(1.0, rows + 1, dtype=torch.float64) ** -fall) @ right.T
    exact = orthogonalise(matrix, torch.float64)

    def off() -> float:
        return float((orthogonalise(matrix, torch.bfloat16).double() - exact).norm() / exact.norm())

    at_a_time = off()
    assert torch.linalg.svdvals(orthogonalise(matrix, torch.bfloat16).float()).max() < 1.3
    monkeypatch.setattr(optimiser_module, "LARGE", matrix.numel() + 1)
    assert at_a_time < 1.2 * off() + 0.06
    monkeypatch.setattr(optimiser_module, "LARGE", 0)
    assert at_a_time == pytest.approx(off(), rel=0.05)  # it was large


def test_muon_trains(tiny: Dataset) -> None:
    recipe = replace(with_epochs(MUON, 4), batch_size=256)
    losses = [row["train_loss"] for row in train(recipe, tiny, scale=Scale("narrow", 4), progress=False).history]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0]


def test_widths_are_in_units_of_the_scales() -> None:
    network = new_network(replace(AIRBENCH, widths=(2, 3, 5)), 8)
    assert [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)] == [24, 16, 16, 24, 24, 40, 40]
    with pytest.raises(UserError, match="widths: Tuple should have at least 3 items"):
        replace(AIRBENCH, widths=(1, 2))
    with pytest.raises(UserError, match=r"widths.1: Input should be greater than or equal to 1, not 0"):
        replace(AIRBENCH, widths=(1, 0, 4))


def test_whitening_with_a_stride_looks_at_patches_that_do_not_overlap() -> None:
    torch.manual_seed(0)
    every, second = (LeanNet(replace(AIRBENCH, whiten_stride=stride), width=4) for stride in (1, 2))
    second.load_state_dict(every.state_dict())
    x = torch.randn(2, 3, 20, 20)
    assert torch.equal(second.whiten(x), every.whiten(x)[:, :, ::2, ::2])
    assert second(torch.randn(2, 3, 16, 16)).shape == (2, 10)


def test_a_shorter_recipe_trains_the_whitenings_bias_for_less() -> None:
    assert with_epochs(AIRBENCH, 9.9 / 2).whiten_bias_epochs == 1.5
