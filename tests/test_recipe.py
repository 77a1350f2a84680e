# ruff: noqa: E501 (a table is checked against another line by line)
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_fast_utils.article import ARTICLE
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.fields import FROM_AN_EPOCH
from cifar_fast_utils.optimiser import rate_at
from cifar_fast_utils.recipe import (
    LADDER,
    MODERN,
    MODERN_WITHOUT,
    RECIPES,
    WITHOUT,
    Recipe,
    diff,
    from_dict,
    get,
    with_epochs,
)

T = "triangle"  # 0 → peak at `warm` → 0 at the end
F = "floor"  # 0 → peak at `warm` → a tenth of the peak two epochs before the end, and constant

# The article's ladder as a plain table, typed from its text and not from the package.
# name, epochs, shape, peak, warm-up, cutout, smoothing, activation, alpha, pool, groups, frozen, logits, factor, whiten,
# EMA, TTA, V100 seconds, accuracy
TABLE: list[tuple[Any, ...]] = [
    ("baseline", 24, T, 0.4, 5, 8, 0, "relu", 0, "after_act", 1, False, 8, 1, False, False, False, 75, 94.1),
    ("gpu_data", 24, T, 0.4, 5, 8, 0, "relu", 0, "after_act", 1, False, 8, 1, False, False, False, 70, 94.1),
    ("mixed_precision", 24, T, 0.4, 5, 8, 0, "relu", 0, "after_act", 1, False, 8, 1, False, False, False, None, None),
    ("pool_before_act", 24, T, 0.4, 5, 8, 0, "relu", 0, "before_act", 1, False, 8, 1, False, False, False, 67, 94.1),
    ("pool_before_norm_24", 24, T, 0.4, 5, 8, 0, "relu", 0, "before_norm", 1, False, 8, 1, False, False, False, 62, 94.0),
    ("pool_before_norm", 25, T, 0.4, 5, 8, 0, "relu", 0, "before_norm", 1, False, 8, 1, False, False, False, 64, 94.1),
    ("label_smoothing_25", 25, T, 0.4, 5, 8, 0.2, "relu", 0, "before_norm", 1, False, 8, 1, False, False, False, None, 94.2),
    ("label_smoothing", 23, T, 0.4, 4.6, 8, 0.2, "relu", 0, "before_norm", 1, False, 8, 1, False, False, False, 59, 94.1),
    ("celu_23", 23, T, 0.4, 4.6, 8, 0.2, "celu", 0.075, "before_norm", 1, False, 8, 1, False, False, False, None, 94.3),
    ("celu", 20, T, 0.4, 4, 8, 0.2, "celu", 0.075, "before_norm", 1, False, 8, 1, False, False, False, 52, 94.1),
    ("ghost_norm_20", 20, T, 0.4, 4, 8, 0.2, "celu", 0.075, "before_norm", 16, False, 8, 1, False, False, False, None, 94.2),
    ("ghost_norm", 18, T, 0.6, 3.6, 8, 0.2, "celu", 0.075, "before_norm", 16, False, 8, 1, False, False, False, 46, 94.1),
    ("frozen_scales_18_x16", 18, T, 0.6, 3.6, 8, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 16, False, False, False, None, 94.2),
    ("frozen_scales_18_x64", 18, T, 0.6, 3.6, 8, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 64, False, False, False, None, None),
    ("frozen_scales", 17, T, 0.6, 3.4, 8, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 64, False, False, False, 43, 94.1),
    ("whitening_17", 17, T, 0.6, 3.4, 8, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 64, True, False, False, None, 94.4),
    ("whitening_15", 15, T, 0.6, 3, 8, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 64, True, False, False, 39, 94.1),
    ("whitening", 14, T, 1.0, 2.8, 5, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 64, True, False, False, 36, 94.1),
    ("ema_14", 14, F, 1.0, 2.8, 5, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 64, True, True, False, None, 94.3),
    ("ema", 13, F, 1.0, 2.6, 5, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 64, True, True, False, 34, 94.1),
    ("tta", 13, F, 1.0, 2.6, 5, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 64, True, True, True, 34, 94.6),
    ("final", 10, F, 1.0, 2, 0, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 64, True, True, True, 26, 94.1),
]  # fmt: skip
for _e in (24, 40, 60, 80, 100):
    TABLE += [
        (f"converge_baseline_{_e}", _e, T, 0.4, 5, 12, 0, "relu", 0, "after_act", 1, False, 8, 1, False, False, True, None, None),
        (f"converge_final_{_e}", _e, F, 0.4, _e / 5, 12, 0.2, "celu", 0.3, "before_norm", 16, True, 16, 64, True, True, True, None, None),
    ]  # fmt: skip


def test_no_recipe_is_missing_and_none_is_extra() -> None:
    assert [row[0] for row in TABLE] == list(RECIPES)
    rungs = ["baseline", "gpu_data", "pool_before_act", "pool_before_norm", "label_smoothing", "celu", "ghost_norm",
             "frozen_scales", "whitening", "ema", "tta", "final"]  # fmt: skip
    assert rungs == LADDER


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row[0]))
def test_recipe_is_the_articles(row: tuple[Any, ...]) -> None:
    (name, epochs, shape, peak, warm, cutout, smoothing, act, alpha, pool, groups, frozen, logits, factor, whiten, ema,
     tta, seconds, accuracy) = row  # fmt: skip
    r = RECIPES[name]
    end = [(epochs, 0)] if shape == T else [(epochs - 2, peak / 10), (epochs, peak / 10)]
    np.testing.assert_allclose(r.knots, [(0, 0), (warm, peak), *end], rtol=1e-12)
    assert (r.name, r.epochs, r.cutout, r.label_smoothing) == (name, epochs, cutout, smoothing)
    assert (r.activation, r.celu_alpha, r.pool, r.ghost_groups) == (act, alpha, pool, groups)
    assert (r.freeze_norm_scale, r.logit_scale, r.bias_factor, r.whiten) == (frozen, 1 / logits, factor, whiten)
    assert (r.ema_every, r.ema_momentum, r.tta) == ((5, 0.99, tta) if ema else (0, 0, tta))
    assert r.augment_on == ("host" if name == "baseline" else "device")
    assert r.master_weights == (name == "mixed_precision")
    assert (r.batch_size, r.weight_decay, r.momentum, r.pad, r.flip) == (512, 5e-4, 0.9, 4, "random")
    assert ARTICLE.get(name, (None, None)) == (seconds, accuracy)


def test_each_rung_changes_something_and_says_what() -> None:
    assert diff(RECIPES["tta"], RECIPES["tta"]) == {}
    assert diff(RECIPES["ema"], RECIPES["tta"]) == {"tta": (False, True)}
    changed = diff(RECIPES["celu_23"], RECIPES["celu"])
    assert set(changed) == {"epochs", "knots"}
    assert changed["epochs"] == (23, 20)


def test_json_both_ways() -> None:
    for recipe in (RECIPES | WITHOUT | MODERN | MODERN_WITHOUT).values():
        again = from_dict(json.loads(json.dumps(recipe.to_dict())))
        assert again == recipe
        assert hash(again) == hash(recipe)
        assert again.digest == recipe.digest


def test_digests_tell_recipes_apart_but_not_names_or_ints_from_floats() -> None:
    # label_smoothing_25 differs from pool_before_norm by its loss, tta from ema by its test: all rows differ
    digests = {recipe.digest for recipe in RECIPES.values()}
    assert len(digests) == len(RECIPES)
    kwargs: dict[str, Any] = {"knots": ((0, 0), (1, 1), (2, 0)), "epochs": 2}
    floats: dict[str, Any] = {"knots": ((0.0, 0.0), (1.0, 1.0), (2.0, 0.0)), "epochs": 2.0}
    assert Recipe("one", **kwargs).digest == Recipe("two", **floats).digest
    ints: dict[str, Any] = {"label_smoothing": 0, "bias_factor": 64, "logit_scale": 1}
    floats |= {"label_smoothing": 0.0, "bias_factor": 64.0, "logit_scale": 1.0}
    assert Recipe("one", **kwargs, **ints).digest == Recipe("two", **floats).digest


@given(st.sampled_from(sorted(MODERN)), st.floats(0.1, 30))
def test_stretching_keeps_the_order_of_stages(name: str, epochs: float) -> None:
    recipe, other = MODERN[name], with_epochs(MODERN[name], epochs)
    for what in FROM_AN_EPOCH:
        before, after = getattr(recipe, what), getattr(other, what)
        starts = [epoch for epoch, _ in after]
        assert starts[0] == 0
        assert starts == sorted({round(epoch) for epoch in starts})
        rest = iter(held for _, held in before)
        assert all(held in rest for _, held in after)  # some may be left out, none comes out of turn
        assert after[-1][1] == before[-1][1] or len(after) < len(before)


@given(st.sampled_from(list(RECIPES)), st.floats(0.1, 300), st.floats(0, 1))
def test_stretching_keeps_the_schedules_shape(name: str, epochs: float, share: float) -> None:
    recipe = RECIPES[name]
    other = with_epochs(recipe, epochs)
    assert other.epochs == epochs
    assert rate_at(other, share * epochs) == pytest.approx(rate_at(recipe, share * recipe.epochs), abs=1e-9)
    assert set(diff(recipe, other)) <= {"epochs", "knots"}
    assert get(other.name) == other


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs: Input should be greater than 0, not 0"),
        ({"epochs": -3}, "epochs: Input should be greater than 0"),
        ({"epochs": float("nan")}, "epochs: Input should be a finite number, not nan"),
        ({"epochs": float("inf")}, "epochs: Input should be a finite number, not inf"),
        ({"whiten_bias_epochs": float("inf")}, "whiten_bias_epochs: Input should be a finite number, not inf"),
        ({"logit_scale": 0.0}, "logit_scale: Input should be greater than 0, not 0.0"),
        ({"epochs": 1e6}, "epochs: Input should be less than 1000000"),
        ({"whiten": "no"}, "whiten: Input should be a valid boolean, not 'no'"),
        ({"batch_size": 0}, "batch_size: Input should be greater than 0"),
        ({"batch_size": 10**18}, "batch_size: Input should be less than or equal to 1000000"),
        ({"network": "lean", "widths": (1, 4, 1001)}, "widths.2: Input should be less than or equal to 1000, not 1001"),
        ({"batch_size": 500, "ghost_groups": 16}, "500 cannot be split into 16 equal ghost groups"),
        ({"knots": ((0, 0), (3, 1), (2, 0))}, "must rise"),
        ({"knots": ()}, "must rise"),
        ({"flip": "rnadom"}, "flip: Input should be 'random', 'none' or 'alternate', not 'rnadom'"),
        ({"augment_on": "hots"}, "augment_on: Input should be 'host' or 'device'"),
        ({"activation": "swish"}, "activation: Input should be 'relu', 'celu' or 'gelu'"),
        ({"pool": None}, "pool: Input should be 'after_act'"),
        ({"network": "Lean"}, "network: Input should be 'resnet9' or 'lean'"),
        ({"network": "lean", "whiten": False}, "begins with the whitening"),
        ({"knots": ((0, 0.0), (10, float("nan")))}, "knots.1.1: Input should be a finite number, not nan"),
        ({"knots": ((0, 0.0), (10, -0.1))}, "knots.1.1: Input should be greater than or equal to 0"),
        ({"cutout": 33}, "cutout is 0 to 32 pixels a side here, not 33"),
        ({"cutout": -1}, "cutout: Input should be greater than or equal to 0, not -1"),
        ({"network": "lean", "sides": ((0, 16),), "cutout": 17}, "cutout is 0 to 16 pixels a side here, not 17"),
        ({"augment_on": "host", "cutout": 32}, "cutout is 0 to 31 pixels a side here, not 32"),
        ({"pad": 32}, "pad is 0 to 31 pixels here, not 32"),
        ({"pad": -1}, "pad: Input should be greater than or equal to 0"),
        ({"network": "lean", "test_side": 20, "tta_shift": 20}, "tta_shift is 0 to 19 pixels here, not 20"),
        ({"momentum": 0.0}, "momentum: Input should be greater than 0, not 0.0"),
        ({"bias_factor": 0}, "bias_factor: Input should be greater than or equal to 1, not 0"),
        ({"ema_every": -1}, "ema_every: Input should be greater than or equal to 0, not -1"),
        ({"lookahead_every": -5}, "lookahead_every: Input should be"),
        ({"whiten_stride": 0}, "whiten_stride: Input should be greater than or equal to 1"),
        ({"network": "resnet9", "widths": (2, 4, 4)}, "the ResNet-9 has none of them"),
        ({"network": "resnet9", "whiten_bias_epochs": 1.0}, "the ResNet-9 has none of them"),
        ({"network": "resnet9", "whiten_stride": 2}, "the ResNet-9 has none of them"),
        ({"network": "resnet9", "test_side": 24}, "the ResNet-9 takes images of 32 pixels"),
        ({"network": "resnet9", "tta_side": 24}, "the ResNet-9 takes images of 32 pixels"),
        (
            {"network": "lean", "whiten_stride": 3, "sides": ((0, 16),)},
            "a whitening stride of 3 leaves too little of 16",
        ),
        ({"network": "lean", "whiten_stride": 5}, "a whitening stride of 5 leaves too little of 32 pixels"),
        ({"celu_alpha": 0}, "CELU's alpha is more than 0, not 0.0"),
        ({"celu_alpha": -0.3}, "CELU's alpha is more than 0, not -0.3"),
        ({"label_smoothing": 1.5}, "label_smoothing: Input should be less than 1, not 1.5"),
        ({"label_smoothing": -0.5}, "label_smoothing: Input should be greater than or equal to 0"),
        ({"ema_momentum": 2.0}, "ema_momentum: Input should be less than 1"),
        ({"muon_momentum": 2}, "muon_momentum: Input should be less than 1"),
        ({"norm_momentum": float("nan")}, "norm_momentum: Input should be a finite number, not nan"),
        ({"norm_eps": -1}, "norm_eps: Input should be greater than 0"),
        ({"muon_factor": -0.1}, "muon_factor: Input should be greater than or equal to 0"),
        ({"weight_decay": -1e-4}, "weight_decay: Input should be greater than or equal to 0"),
        ({"whiten_bias_epochs": -1}, "whiten_bias_epochs: Input should be greater than or equal to 0"),
        (
            {"batch_size": 512.5},
            "batch_size: Input should be a valid integer, got a number with a fractional part, not 512.5",
        ),
        (
            {"sides": ((0, 16.9),)},
            "sides.0.1: Input should be a valid integer, got a number with a fractional part, not 16.9",
        ),
        ({"widths": (1.5, 4, 4)}, "widths.0: Input should be a valid integer"),
        ({"frozen": ((0.5, 0),)}, "frozen: the epochs must be whole numbers that rise from 0"),
        ({"frozen": ()}, "frozen: the epochs must rise"),
        ({"sides": ((0, float("inf")),)}, "sides.0.1: Input should be a finite number, not inf"),
        ({"augment_on": "host", "flip": "alternate"}, "flips alternate on the device only"),
        ({"augment_on": "host", "network": "lean", "sides": ((0, 16),)}, "images are shrunk on the device only"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(change: dict[str, Any], says: str) -> None:
    content = {**RECIPES["final"].to_dict(), **change}
    with pytest.raises(UserError, match=says):
        from_dict(content)


def test_foreign_json_is_refused() -> None:
    final = RECIPES["final"].to_dict()
    without_tta = {key: value for key, value in final.items() if key != "tta"}
    for content in ({"name": "x"}, without_tta):
        with pytest.raises(UserError, match="not a recipe: it lacks"):
            from_dict(content)
    with pytest.raises(UserError, match="recipe 'final': colour: Unexpected keyword argument"):
        from_dict({**final, "colour": 1})
    assert from_dict({key: value for key, value in final.items() if key != "jitter"}) == RECIPES["final"]  # a later one


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean ghost_norm"):
        get("gost_norm")
    with pytest.raises(UserError, match="cifar-fast recipes"):
        get("xyzzy")
    assert get("final") is RECIPES["final"]
    for name in ("final@", "final@much", "nothing@half", "final@half@half"):
        with pytest.raises(UserError, match="no recipe is called"):
            get(name)
    with pytest.raises(UserError, match="epochs: Input should be greater than 0"):
        get("final@0")


def test_another_length_stands_in_the_name_and_the_digest() -> None:
    half = get("ghost_norm@half")
    assert (half.name, half.epochs, half.knots) == ("ghost_norm@half", 9, ((0, 0), (1.8, 0.6), (9, 0)))
    assert half.digest == get("ghost_norm@9").digest != get("ghost_norm").digest
    assert get("final_without_ema@half").epochs == 5
    assert get("baseline@half").knots == ((0, 0), (2.5, 0.4), (12, 0))


def test_leave_one_out_takes_each_trick_back_to_what_was_before_it() -> None:
    final = RECIPES["final"]
    back = {name.removeprefix("final_without_"): diff(final, recipe) for name, recipe in WITHOUT.items()}
    before = dict(zip(LADDER[1:], LADDER, strict=False))
    # what the trick's own rung changed, but for epochs and knots, is as it was on the rung before it
    for trick in ("gpu_data", "label_smoothing", "ghost_norm", "frozen_scales", "whitening", "ema", "tta"):
        changed = diff(RECIPES[before[trick]], RECIPES[trick]).keys() - {"epochs", "knots", "cutout"}
        assert changed == back[trick].keys() - {"knots"}, trick
        for field in changed:
            assert back[trick][field] == (getattr(final, field), getattr(RECIPES[before[trick]], field)), field
    assert back["celu"] == {"activation": ("celu", "relu"), "celu_alpha": (0.3, 0.0)}
    assert back["pool_before_norm"] == {"pool": ("before_norm", "after_act")}
    assert back["bias_factor"] == {"bias_factor": (64, 1)}
    assert back["cutout_0"] == {"cutout": (0, 5)}
    assert back["high_rate"].keys() == {"knots"}
    assert [max(rate for _, rate in WITHOUT[f"final_without_{t}"].knots) for t in ("high_rate", "ema")] == [0.6, 1.0]
    assert rate_at(WITHOUT["final_without_ema"], 10) == 0
    assert {recipe.epochs for recipe in WITHOUT.values()} == {10}
    assert len({recipe.digest for recipe in WITHOUT.values()} | {final.digest}) == len(WITHOUT) + 1
    assert all(get(name) is recipe and recipe.name == name for name, recipe in WITHOUT.items())


def test_airbench94_without_a_trick_is_airbench94_but_for_one_field() -> None:
    changes = {name: diff(get("airbench94"), recipe) for name, recipe in MODERN_WITHOUT.items()}
    assert {field for change in changes.values() for field in change} == {
        "whiten_bias_epochs", "dirac", "activation", "bias_factor", "flip", "pad", "lookahead_every", "tta_shift",
    }  # fmt: skip
    assert all(len(change) == 1 for change in changes.values())
    assert all(get(f"{name}@4").epochs == 4 for name in changes)


def test_the_recipes_of_the_fast_lane_hold_together() -> None:
    for recipe in MODERN.values():
        if recipe.name == "airbench94":
            continue
        assert recipe.muon_factor > 0
        last, rate = recipe.knots[-1]
        assert last == recipe.epochs
        assert (rate > 0) == (recipe.lookahead_every > 0)  # what averages may go on stepping
        assert recipe.sides[-1][1] == recipe.test_side
        assert recipe.sides[-1][0] < recipe.epochs
        assert recipe.hardest[-1][0] < recipe.epochs
        assert recipe.whiten_bias_epochs <= recipe.epochs


def test_rate_at_the_knots_and_between() -> None:
    final = RECIPES["final"]
    points = [(0, 0.0), (1, 0.5), (2, 1.0), (5, 0.55), (8, 0.1), (9, 0.1), (10, 0.1)]
    assert [rate_at(final, epoch) for epoch, _ in points] == pytest.approx([rate for _, rate in points])
