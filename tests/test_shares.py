import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clocks import taking

from cifar_fast_utils import shares
from cifar_fast_utils.data import Dataset
from cifar_fast_utils.device import Scale
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.recipe import LADDER, get, with_epochs
from cifar_fast_utils.report import report
from cifar_fast_utils.run import in_threads
from cifar_fast_utils.shares import shares_table
from cifar_fast_utils.train import count_flops

CPU = torch.device("cpu")
NARROW = Scale("narrow", 4, train_images=1024, test_images=100, epochs=2)


@pytest.mark.parametrize(
    ("name", "before", "step", "after", "data", "optimiser"),
    [
        ("baseline", [100, 10], [1, 2, 3, 5], [9], 110 + 4 * 1, 4 * 5),  # its data is what a step waits for
        ("final", [100, 10], [1, 2, 3, 5, 7], [40, 9], 110 + 2 * 40, 4 * (5 + 7 / 5)),  # an average each fifth
    ],
)
def test_the_phases_are_those_of_all_steps(
    name: str, before: list[float], step: list[float], after: list[float], data: float, optimiser: float,
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    spans = [*before, *(1000 * seconds for seconds in step), *(4 * step), *after]  # the first step warms up
    monkeypatch.setattr(shares, "Clock", taking(spans))
    recipe = with_epochs(get(name), 2)
    found = shares.shares_of(recipe, tiny, 4, CPU, "float32", steps=4)
    assert [found.pop(phase) for phase in shares.PHASES] == pytest.approx([data, 4 * 2, 4 * 3, optimiser, 9])
    assert found == {"flops_per_image": count_flops(recipe, 4) / recipe.batch_size}


def test_every_rung_is_measured_and_reported(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "get", lambda name: replace(get(name), epochs=1))
    figures = shares.measure(tiny, NARROW, CPU, "float32", 1, progress=False)
    assert list(figures["rungs"]) == LADDER
    table = shares_table(figures)
    assert "noise; narrow scale; " in table
    assert f"{in_threads(torch.get_num_threads())}, medians of 1 step," in table
    for line, name in zip(table.splitlines()[4:], LADDER, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == f"`{name}`"
        assert sum(float(cell) for cell in cells[1:6]) == pytest.approx(100, abs=0.3)
    (tmp_path / "shares_here.json").write_text(json.dumps(figures))
    assert table in report(tmp_path)
    for damaged in ('{"rungs"', "[]", "{}", json.dumps({**figures, "rungs": {"celu": {}}})):
        (tmp_path / "shares_here.json").write_text(damaged)
        with pytest.raises(UserError, match=r"shares_here\.json does not hold what"):
            report(tmp_path)


@pytest.mark.parametrize("name", ["baseline", "final"])
def test_too_few_images_for_a_batch_are_refused(name: str, tiny: Dataset) -> None:
    with pytest.raises(UserError, match="for the ladder's rungs, not for 'fast'"):
        shares.shares_of(get("fast"), tiny, 4, CPU, "float32", 1)
    with pytest.raises(UserError, match="a batch of 512 is larger than the data: 100 training images"):
        shares.shares_of(get(name), tiny.subset(100, 10), 4, CPU, "float32", 1)
