"""A planned experiment: written down, and committed, before its runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UserError
from .ledger import Record, Setting, setting_of
from .recipe import Recipe, from_dict, get

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


Seeds = Annotated[int, Field(ge=1)]


class Plan(BaseModel):
    """What a plan's TOML file says."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    question: str
    """What the runs are to tell."""
    dataset: str
    """The name the dataset must have, whichever way it is found."""
    scale: Literal["full", "small", "smoke"]
    rungs: Annotated[list[str], Field(min_length=1)]
    """Names of recipes, in the order of the report; `NAME@half` and `NAME@EPOCHS` are understood."""
    seeds: Seeds
    fewer: dict[str, Seeds] = {}
    """For some rungs, another number of seeds."""
    first_seed: Annotated[int, Field(ge=0)] = 0
    compare: Literal["before", "first", "none"] = "none"
    """Each rung against the one before it, or against the first."""
    worth: Annotated[float, Field(gt=0)] = 0.2
    """The smallest difference that matters, in points of accuracy."""
    target: Annotated[float, Field(gt=0, lt=1)] | None = None
    """An accuracy (fraction of 1) that each rung's mean is tested to reach."""
    test_each_epoch: bool = False
    """Fill `test_accuracy` in the history; it is off the clocks, but takes its time."""

    def recipes(self) -> list[Recipe]:
        """The rungs' recipes, in order. Raises `UserError` for an unknown name."""
        return [get(name) for name in self.rungs]

    def runs(self) -> list[tuple[Recipe, int]]:
        """All (recipe, seed), seed by seed, so that a machine's drift falls on all rungs alike.

        A rung that another of the plan equals but for TTA is not run: the other's runs give its accuracy as well.
        """
        recipes = self.recipes()
        with_tta = {untested(recipe).digest for recipe in recipes if recipe.tta}
        run = [recipe for recipe in recipes if recipe.tta or recipe.digest not in with_tta]
        return [
            (recipe, self.first_seed + seed)
            for seed in range(max([self.seeds, *self.fewer.values()]))
            for recipe in run
            if seed < self.fewer.get(recipe.name, self.seeds)
        ]


def untested(recipe: Recipe) -> Recipe:
    """The recipe without TTA, which trains the same network."""
    return replace(recipe, tta=False)


def read_plan(path: Path) -> Plan:
    """The plan in a TOML file. Raises `UserError`, in one line, for anything wrong with it."""
    try:
        plan = Plan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path} is no plan: {where}: {first['msg']}") from None
    except ValueError as error:  # not TOML, not UTF-8
        raise UserError(f"{path} is no plan: {error}") from None
    plan.recipes()
    for name, count in [(name, plan.rungs.count(name)) for name in plan.rungs]:
        if count > 1:
            raise UserError(f"{path} is no plan: rung '{name}' stands in it {count} times")
    for name in plan.fewer:
        if name not in plan.rungs:
            raise UserError(f"{path} is no plan: `fewer` names '{name}', which is none of its rungs")
    return plan


def missing(
    runs: Sequence[tuple[Recipe, int]], records: Sequence[Record], setting: Setting
) -> list[tuple[Recipe, int]]:
    """Those of the runs (recipe, seed) that no record of this setting holds yet; one with TTA holds that without it."""
    here = [(from_dict(record["recipe"]), record["seed"]) for record in records if setting_of(record) == setting]
    held = {(kind.digest, seed) for recipe, seed in here for kind in (recipe, untested(recipe))}
    return [(recipe, seed) for recipe, seed in runs if (recipe.digest, seed) not in held]
