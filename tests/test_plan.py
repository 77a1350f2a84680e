from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import record

from cifar_fast_utils.errors import UserError
from cifar_fast_utils.ledger import Setting
from cifar_fast_utils.plan import Plan, missing, read_plan
from cifar_fast_utils.recipe import LADDER, get

ROOT = Path(__file__).parent.parent
GOOD: dict[str, Any] = {"question": "?", "dataset": "noise", "scale": "small", "seeds": 3}
TOML = 'question = "?"\ndataset = "noise"\nscale = "small"\nseeds = 3\nrungs = ["celu", "final@half"]\n'
TRY = '[[tries]]\nname = "quick"\nbase = "final"\nchange = { cutout = 0 }\nwhy = "?"\n'
SETTING = Setting("noise", "0123", "small", "a machine", "float32")


@given(st.lists(st.sampled_from(LADDER), min_size=1, unique=True), st.integers(1, 5), st.data())
def test_all_rungs_have_their_seeds_seed_by_seed(rungs: list[str], seeds: int, data: st.DataObject) -> None:
    fewer = data.draw(st.dictionaries(st.sampled_from(rungs), st.integers(1, 7)))
    first = data.draw(st.integers(0, 100))
    plan = Plan(**{**GOOD, "rungs": rungs, "seeds": seeds, "fewer": fewer, "first_seed": first})
    runs = plan.runs()
    assert len(runs) == len(set(runs))
    assert [seed for _, seed in runs] == sorted(seed for _, seed in runs)
    for name in rungs:
        mine = [seed for recipe, seed in runs if recipe.name == name]
        shared = fewer.get("tta", seeds) if name == "ema" and "tta" in rungs else 0  # read from the runs of `tta`
        assert mine == list(range(first + shared, first + fewer.get(name, seeds)))
    for seed in {seed for _, seed in runs}:
        order = [rungs.index(recipe.name) for recipe, its in runs if its == seed]
        assert order == sorted(order)


def test_what_any_record_of_the_setting_holds_is_not_missing() -> None:
    plan = Plan(**{**GOOD, "rungs": ["celu", "final@half"], "seeds": 2})
    everything = [(recipe.name, seed) for recipe, seed in plan.runs()]
    assert everything == [("celu", 0), ("final@half", 0), ("celu", 1), ("final@half", 1)]
    others = [{**record("celu", 0), field: "other"} for field in Setting._fields]
    others += [record("celu", 2), record("final", 0)]
    assert missing(plan.runs(), others, SETTING) == plan.runs()
    held = [record("celu", 0), record("final@half", 1), record("final@5", 0)]  # final@5 is final@half by another name
    assert [(r.name, seed) for r, seed in missing(plan.runs(), [*others, *held], SETTING)] == [("celu", 1)]
    assert missing([(get("ema"), 0)], [record("tta", 0)], SETTING) == []
    assert missing([(get("tta"), 0)], [record("ema", 0)], SETTING) == [(get("tta"), 0)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seeds = ", "is not a plan"),
        ("", "question: Field required"),
        (TOML + "colour = 3", "colour: Extra inputs are not permitted"),
        (TOML.replace("3", '"3"'), "seeds: Input should be a valid integer"),
        (TOML.replace("3", "0"), "seeds: Input should be greater than or equal to 1"),
        (TOML.replace("3", "1000000000"), "seeds: Input should be less than or equal to 100000"),
        (TOML.replace("celu", "selu"), "plan.toml is not a plan: no recipe is called 'selu': did you mean celu"),
        (TOML + '"a\\nb" = 1\n', "plan.toml is not a plan: a b: Extra inputs are not permitted"),
        (TOML.replace("half", "much"), "no recipe is called 'final@much'"),
        (TOML.replace("half", "-1"), "epochs: Input should be greater than 0"),
        (TOML.replace("final@half", "celu"), "'celu' is listed 2 times"),
        (TOML.replace("small", "huge"), "scale: Input should be 'full', 'small' or 'smoke'"),
        (TOML + "[fewer]\nbaseline = 1", "`fewer` names 'baseline', which is not one of its rungs"),
        (TOML + "target = 94", "target: Input should be less than 1"),
        (TOML + "worth = inf", "worth: Input should be less than or equal to 100"),
        (TOML + "worth = 1e-200", "worth: Input should be greater than or equal to 0.001"),
        (TOML + 'target_rung = "relu"', "`target_rung` must be one of its rungs"),
        (TOML + 'target_rung = "celu"\ntarget = 0.9', "and excludes `target`"),
        (TOML.replace('["celu", "final@half"]', "[]"), "names no rungs and no tries"),
        (TOML + TRY.replace("quick", "celu"), "'celu' is listed 2 times"),
        (TOML + TRY.replace("final", "finl"), "no recipe is called 'finl': did you mean final"),
        (TOML + TRY.replace("cutout", "colour"), "try 'quick': a recipe has no 'colour'"),
        (TOML + TRY.replace("= 0", '= "none"'), "recipe 'quick': cutout: Input should be a valid integer"),
        (TOML + TRY.replace("cutout = 0", "epochs = -1"), "epochs: Input should be greater than 0"),
        (
            TOML + TRY.replace("cutout = 0", "epochs = 'x'"),
            "try 'quick': epochs: could not convert string to float: 'x'",
        ),
        (TOML + TRY.replace("cutout = 0", "knots = [[1, 0.0], [0, 1.0]]"), "knots: the epochs must rise"),
        (TOML + TRY.replace("cutout = 0", "frozen = []"), "frozen: the epochs must rise"),
        (TOML + TRY.replace("cutout = 0", "pad = 40"), "pad is 0 to 31 pixels here, not 40"),
        (TOML + TRY.replace("cutout = 0", f"epochs = 1{'0' * 400}"), "try 'quick': epochs: "),
        (TOML + TRY.replace("quick", ""), "a recipe cannot be called ''"),
        (TOML + TRY.replace("quick", "a/b"), "a recipe cannot be called 'a/b'"),
        (TOML + TRY.replace("quick", "a|b"), "a recipe cannot be called 'a|b'"),
        (TOML + TRY.replace("quick", "fast"), "there is another recipe called 'fast' already"),
        (TOML + "first_seed = 100000000000000000000", "first_seed: "),
        (TOML + "deep = " + "[" * 3000, "is not a plan"),
    ],
)
def test_a_plan_that_is_wrong_says_why_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_plan(path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_plan_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "plan.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not a plan"):
        read_plan(tmp_path / "plan.toml")


def test_a_byte_order_mark_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(TOML, encoding="utf-8-sig")
    assert read_plan(tmp_path / "plan.toml").names == ["celu", "final@half"]


def test_a_search_may_call_its_tries_as_it_likes(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(TOML.replace("noise", "noise-validation") + TRY.replace("quick", "fast"))
    assert read_plan(tmp_path / "plan.toml").names == ["celu", "final@half", "fast"]


def test_one_recipe_under_two_names_is_run_once() -> None:
    plan = Plan(**{**GOOD, "rungs": ["final@half", "celu", "final@5"], "seeds": 2})
    made = [(recipe.name, seed) for recipe, seed in missing(plan.runs(), [], SETTING)]
    assert made == [("final@half", 0), ("celu", 0), ("final@half", 1), ("celu", 1)]


def test_the_projects_own_plans() -> None:
    plans = {path.stem: read_plan(path) for path in (ROOT / "book" / "results").glob("*.toml")}
    half = plans["ladder_half"]
    assert half.rungs == [f"{name}@half" for name in LADDER]
    assert (half.seeds, half.fewer) == (8, {"gpu_data@half": 3, "pool_before_act@half": 3})
    assert len(half.runs()) == 9 * 8 + 2 * 3  # ema@half is tta@half
    left_out = plans["leave_one_out"]
    assert left_out.rungs[0] == "final"
    assert left_out.compare == "first"
    assert left_out.seeds >= 8
    assert plans["final_small"].seeds >= 8
    assert (plans["final_full"].scale, plans["final_full"].seeds) == ("full", 3)
    assert (plans["ladder"].dataset, plans["ladder"].seeds, plans["ladder"].rungs) == ("cifar10", 10, LADDER)
    assert all(get(name).epochs == get(name.removesuffix("@half")).epochs / 2 for name in half.rungs)


def test_a_try_is_another_recipe_with_changes(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    text = TOML + TRY.replace("cutout = 0", "epochs = 5, cutout = 3")
    path.write_text(text + TRY.replace("quick", "quicker").replace("final", "quick").replace("cutout", "pad"))
    quick, quicker = read_plan(path).recipes()[2:]
    assert (quick.name, quick.knots, quick.cutout) == ("quick", get("final@half").knots, 3)
    assert replace(quick, cutout=0).digest == get("final@half").digest
    assert (quicker.name, quicker.pad, replace(quicker, pad=4).digest) == ("quicker", 0, quick.digest)
    assert [recipe.name for recipe, seed in read_plan(path).runs() if seed == 2] == [
        "celu", "final@half", "quick", "quicker",
    ]  # fmt: skip


def test_the_searches_do_not_see_the_test_images_nor_the_seeds_of_the_evidence() -> None:
    plans = [read_plan(path) for path in (ROOT / "book" / "results").glob("*.toml")]
    used = max(plan.first_seed + max([plan.seeds, *plan.fewer.values()]) for plan in plans if not plan.search)
    searches = [plan for plan in plans if plan.search]
    assert searches
    for plan in searches:
        assert plan.dataset in {"cifar10-validation", "cifar10-jpeg-validation"}
        assert plan.first_seed >= used
