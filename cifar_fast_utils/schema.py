"""What a record must look like, for those who read ledgers that others have written.

`python -m cifar_fast_utils.schema` prints it as JSON Schema; it is published as book/results/schema.json.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import UserError, in_a_line
from .fields import Count, FromZero, Positive
from .recipe import from_dict

Fraction = Annotated[float, Field(ge=0, le=1)]
Word = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]
NAME = r"^[^\x00-\x1f\x7f/\\|`]+$"
"""What a file may be called, and a cell of a table may hold."""
Name = Annotated[str, Field(pattern=NAME)]


class _Strict(BaseModel):
    """No other keys, no text for a number, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Epoch(_Strict):
    """One row of a run's history; `test_accuracy` is null where the network was not tested."""

    epoch: Positive
    rate: FromZero
    train_loss: float
    train_accuracy: Fraction
    test_accuracy: Fraction | None
    seconds: Positive


class Seconds(_Strict):
    """The three clocks: training; with the final test; with one step before it that is thrown away."""

    train: Positive
    train_eval: Positive
    cold: Positive


class Record(_Strict):
    """One training of one recipe with one seed. Accuracies are fractions of 1, `tta_accuracy` null without TTA.

    `cross_entropy`, in nats, is that of the tested answers at the temperature that suits them best; the first runs that
    were recorded lack it.
    """

    recipe: dict[str, Any]
    scale: Name
    dataset: Name
    dataset_digest: Word
    seed: Count
    epochs: Positive
    accuracy: Fraction
    tta_accuracy: Fraction | None
    cross_entropy: FromZero | None = None
    history: Annotated[list[Epoch], Field(min_length=1)]
    seconds: Seconds
    flops: Annotated[int, Field(gt=0, lt=2**63)]
    device: Word
    threads: Annotated[int, Field(ge=1)]
    precision: Name
    torch: Word
    version: Word
    commit: Word | None
    started: Word

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Record:
        """What a schema cannot say: the digest is the recipe's, the clocks are in order, the date is one."""
        try:
            recipe = from_dict(self.recipe)
            dated = datetime.fromisoformat(self.started).tzinfo is not None
        except (TypeError, UserError, ValueError) as error:
            raise ValueError(str(error)) from None
        written = json.loads(json.dumps(recipe.to_dict()))
        said = self.recipe.get("digest")
        if said != recipe.digest:
            raise ValueError(f"the digest of recipe '{recipe.name}' is {recipe.digest}, not {said}")
        for wrong, why in (
            (not is_name(recipe.name), "the recipe's name is not allowed"),
            ({**written, **self.recipe} != written, "`recipe` holds a value of another type than a recipe's"),
            (self.epochs != recipe.epochs, "`epochs` is not the recipe's"),
            ((self.tta_accuracy is not None) != recipe.tta, "`tta_accuracy` goes with a recipe that has `tta`"),
            (not self.seconds.train <= self.seconds.train_eval <= self.seconds.cold, "the clocks are out of order"),
            (not dated, "`started` has no time zone"),
        ):
            if wrong:
                raise ValueError(why)
        return self


def is_name(name: str) -> bool:
    """Whether a recipe may have this name."""
    return name.isprintable() and re.match(NAME, name) is not None


def validate(content: object) -> None:
    """Raise `UserError`, in one line that says where, unless `content` is a record."""
    try:
        Record.model_validate(content)
    except ValidationError as error:
        raise UserError(in_a_line(error)) from None


def as_json() -> str:
    """The JSON Schema of a record, as published."""
    return json.dumps(Record.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(as_json(), end="")
