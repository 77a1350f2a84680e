"""A planned experiment: written down, and committed, before its runs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UserError, in_a_line
from .ledger import Record, Setting, setting_of
from .recipe import Recipe, from_dict, get, is_another, with_epochs
from .schema import Name, is_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


Seeds = Annotated[int, Field(ge=1, le=100_000)]
VALIDATION = "-validation"
"""How the name of a dataset ends whose test images are training images set aside (`experiment.validation`)."""


def is_search(dataset: str) -> bool:
    """Whether runs on the dataset of this name choose between tries, and are no evidence."""
    return dataset.endswith(VALIDATION)


class Try(BaseModel):
    """A recipe that only its plan knows: another one, with changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    base: str
    """A recipe's name, or that of a try before it in the plan."""
    change: dict[str, Any]
    """The fields that differ, with their values; `epochs` alone stretches the schedule as well."""
    why: str
    """What it was expected to do."""


class Plan(BaseModel):
    """What a plan's TOML file says."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    question: str
    """What the runs are to answer."""
    dataset: Name
    """The name the dataset must have, whichever way it is found; with `VALIDATION` added for choosing between tries."""
    scale: Literal["full", "small", "smoke"]
    rungs: list[str] = []
    """Names of recipes, in the order of the report; `NAME@half` and `NAME@EPOCHS` are understood."""
    tries: list[Try] = []
    """After the rungs: recipes that are being tried."""
    seeds: Seeds
    fewer: dict[str, Seeds] = {}
    """For some rungs, another number of seeds."""
    first_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    compare: Literal["before", "first", "none"] = "none"
    """Each rung against the one before it, or against the first."""
    worth: Annotated[float, Field(ge=0.001, le=100)] = 0.2
    """The smallest difference that matters, in points of accuracy."""
    target: Annotated[float, Field(gt=0, lt=1)] | None = None
    """An accuracy (fraction of 1) that each rung's mean is tested to reach."""
    target_rung: str | None = None
    """Or a rung whose mean, less `worth`, they are tested to reach."""
    gpu: bool = False
    """Asked of a GPU alone: a CPU's runs of the same recipes do not answer it."""

    @property
    def search(self) -> bool:
        """Whether its runs are for choosing, and no evidence."""
        return is_search(self.dataset)

    @property
    def names(self) -> list[str]:
        """Of the rungs and the tries, in the order of `recipes`."""
        return [*self.rungs, *(one.name for one in self.tries)]

    def recipes(self) -> list[Recipe]:
        """The rungs' and the tries' recipes, in order. Raises `UserError` for an unknown name or a wrong change."""
        tried: dict[str, Recipe] = {}
        for one in self.tries:
            base = tried[one.base] if one.base in tried else get(one.base)
            change = dict(one.change)
            if unknown := sorted(change.keys() - {field.name for field in fields(Recipe)}):
                raise UserError(f"try '{one.name}': a recipe has no '{unknown[0]}'")
            try:
                if "epochs" in change:
                    base = with_epochs(base, float(change.pop("epochs")))
                tried[one.name] = replace(base, **{**change, "name": one.name})
            except (TypeError, ValueError, OverflowError) as error:
                raise UserError(f"try '{one.name}': epochs: {error}") from None
        return [*(get(name) for name in self.rungs), *tried.values()]

    def runs(self) -> list[tuple[Recipe, int]]:
        """All (recipe, seed), seed by seed, so that a machine's drift falls on all rungs alike.

        A rung that is another of the plan without TTA is not run: the other's runs give its accuracy as well.
        """
        count = [(recipe, self.fewer.get(recipe.name, self.seeds)) for recipe in self.recipes()]
        with_tta: dict[str, int] = {}
        for recipe, n in count:
            if recipe.tta:
                trained = untested(recipe).digest
                with_tta[trained] = max(n, with_tta.get(trained, 0))
        return [
            (recipe, self.first_seed + seed)
            for seed in range(max(n for _, n in count))
            for recipe, n in count
            if seed < n and (recipe.tta or seed >= with_tta.get(untested(recipe).digest, 0))
        ]


def untested(recipe: Recipe) -> Recipe:
    """The recipe without TTA, which trains the same network."""
    return replace(recipe, tta=False, tta_shift=0, tta_side=0)


def read_plan(path: Path) -> Plan:
    """The plan in a TOML file. Raises `UserError`, in one line, for anything wrong with it."""
    try:
        plan = Plan.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise UserError(f"{path} is not a plan: {in_a_line(error)}") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8
        raise UserError(f"{path} is not a plan: {error}") from None
    names = plan.names
    if not names:
        raise UserError(f"{path} is not a plan: it names no rungs and no tries")
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"{path} is not a plan: rung '{name}' is listed {count} times")
    try:
        recipes = plan.recipes()
    except UserError as error:
        raise UserError(f"{path} is not a plan: {error}") from None
    for recipe in recipes:
        if not is_name(recipe.name):
            raise UserError(f"{path} is not a plan: a recipe cannot be called {recipe.name!r}")
        if not plan.search and is_another(recipe):
            raise UserError(f"{path} is not a plan: there is another recipe called '{recipe.name}' already")
    for name in plan.fewer:
        if name not in names:
            raise UserError(f"{path} is not a plan: `fewer` names '{name}', which is not one of its rungs")
    if plan.target_rung is not None and (plan.target_rung not in names or plan.target is not None):
        raise UserError(f"{path} is not a plan: `target_rung` must be one of its rungs, and excludes `target`")
    return plan


def missing(
    runs: Sequence[tuple[Recipe, int]], records: Sequence[Record], setting: Setting
) -> list[tuple[Recipe, int]]:
    """Those of the runs (recipe, seed) that no record of this setting holds yet; one with TTA counts without it too.

    Of runs that differ only in the recipe's name, the first.
    """
    here = [(from_dict(record["recipe"]), record["seed"]) for record in records if setting_of(record) == setting]
    held = {(kind.digest, seed) for recipe, seed in here for kind in (recipe, untested(recipe))}
    left: dict[tuple[str, int], tuple[Recipe, int]] = {}
    for recipe, seed in runs:
        left.setdefault(((recipe if recipe.tta else untested(recipe)).digest, seed), (recipe, seed))
    return [run for key, run in left.items() if key not in held]
