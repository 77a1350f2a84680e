import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from clocks import taking
from records import record

from cifar_fast_utils import experiment, notebook
from cifar_fast_utils.data import Dataset
from cifar_fast_utils.device import SCALES, Scale
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.ledger import append
from cifar_fast_utils.notebook import Lesson
from cifar_fast_utils.recipe import Recipe, get, with_epochs
from cifar_fast_utils.run import Run
from cifar_fast_utils.train import count_flops, train

NARROW = Scale("narrow", 4, train_images=1024, test_images=100, epochs=1)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook would display, as text."""
    said: list[str] = []

    def display(thing: Any, raw: bool = False) -> None:
        said.append(thing["text/plain"] if raw else thing.data)

    monkeypatch.setattr(notebook, "display", display)
    return said


def lesson(tiny: Dataset, scale: Scale = NARROW, speed: float = 1e12) -> Lesson:
    return Lesson(tiny, scale, torch.device("cpu"), "float32", speed)


def test_a_lesson_on_a_cpu_is_short_unless_asked_for_the_articles_length(tiny: Dataset) -> None:
    small = lesson(tiny, SCALES["small"])
    assert small.recipe("celu") == get("celu@2")
    assert small.recipe("celu", article=True) == get("celu")
    assert small.recipe("celu@1") == get("celu@1")
    assert replace(small, device=torch.device("meta")).recipe("celu") == get("celu")
    assert lesson(tiny).recipe("celu").epochs == 1


def test_minutes_are_flops_over_the_measured_speed(tiny: Dataset) -> None:
    recipe = get("final@2")
    expected = count_flops(recipe, 16) * 2 * (1100 // 512) / 1e9 / 60
    assert lesson(tiny, SCALES["small"], 1e9).minutes([recipe]) == pytest.approx(expected)
    assert lesson(tiny, SCALES["small"], 1e9).minutes([recipe, recipe]) == pytest.approx(2 * expected)
    more = replace(SCALES["small"], train_images=4096)  # than there are
    assert lesson(tiny, more, 1e9).minutes([recipe]) == pytest.approx(expected)


def test_a_race_trains_and_shows_each(tiny: Dataset, shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    runs = lesson(tiny).race("label_smoothing", "tta")
    assert [run.recipe.name for run in runs.values()] == ["label_smoothing@1", "tta@1"]
    (table,) = shown
    assert table.startswith("On `noise`, which is not CIFAR-10; narrow scale")
    assert f"{100 * (runs['tta'].tta_accuracy or 0):.2f}" in table
    assert "minutes here" not in capsys.readouterr().out


def test_a_race_is_warmed_up_once(tiny: Dataset, shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    warmed: list[str] = []

    def spy(recipe: Recipe, dataset: Dataset, **settings: Any) -> Run:
        warmed.append(recipe.name)
        return train(recipe, dataset, **settings)

    monkeypatch.setattr(experiment, "train", spy)
    ours = lesson(tiny)
    ours.race("gpu_data")
    ours.race("gpu_data", seed=1)
    assert warmed == ["warm-up"]


def test_without_a_gpu_colab_is_told_how_to_get_one(
    tiny: Dataset, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(notebook.SCALE_VARIABLE, "smoke")
    monkeypatch.setenv("CIFAR_FAST_DEVICE", "cpu")
    monkeypatch.setattr(notebook, "load", lambda source: tiny)
    monkeypatch.setattr(notebook, "measured_speed", lambda *_: 1e12)
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    notebook.start()
    assert "No GPU" not in shown[-1]  # nobody wants one
    monkeypatch.delenv("CIFAR_FAST_DEVICE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(notebook, "unused_gpu", lambda: "")
    notebook.start()
    assert shown[-1].endswith("No GPU: Runtime → Change runtime type → T4 GPU, then run all cells again.")
    monkeypatch.setattr(notebook, "unused_gpu", lambda: "its driver is too old")
    notebook.start()
    assert shown[-1].endswith("then run all cells again.")  # Colab's drivers are none of its users' business
    monkeypatch.delitem(sys.modules, "google.colab")
    notebook.start()
    assert shown[-1].endswith("The GPU is not used: its driver is too old.")


def test_a_race_has_the_length_and_the_seed_it_is_told(
    tiny: Dataset, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def spy(recipe: Recipe, dataset: Dataset, **settings: Any) -> Run:
        asked.append((recipe.epochs, *(settings[name] for name in ("seed", "device", "precision"))))
        return train(with_epochs(recipe, 1), dataset, scale=NARROW, device="cpu", progress=False)

    monkeypatch.setattr(notebook, "train", spy)
    monkeypatch.setattr(notebook, "_warm_up", lambda *_: None)
    lesson(tiny, SCALES["small"]).race("celu", seed=3, article=True)
    assert asked == [(20, 3, "cpu", "float32")]


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyboardInterrupt(), KeyboardInterrupt), (MemoryError(), UserError), (KeyError(), KeyError)]
)
def test_a_race_that_is_stopped_shows_what_is_done(
    error: BaseException, raised: type[BaseException], tiny: Dataset, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spy(recipe: Recipe, dataset: Dataset, **settings: Any) -> Run:
        if recipe.name.startswith("tta"):
            raise error
        return train(recipe, dataset, **settings, progress=False)

    monkeypatch.setattr(notebook, "train", spy)
    with pytest.raises(raised, match="is out of memory: shut down" if raised is UserError else None):
        lesson(tiny).race("celu", "tta")
    assert "`celu@1`" in shown[0]
    assert "tta" not in shown[0]


def test_the_speed_is_the_best_of_three_after_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "Clock", taking([1.0, 9.0, 2.0, 4.0]))
    monkeypatch.setattr(notebook, "a_step", lambda *_: lambda: None)
    speed = notebook.measured_speed(NARROW, torch.device("cpu"), "float32")
    assert speed == count_flops(get("final"), 4) / 2


def test_a_race_that_takes_long_says_so_first(
    tiny: Dataset, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lesson(tiny, speed=1e4).race("gpu_data")
    said = capsys.readouterr().out
    assert re.search(r"This takes about \d+ minutes here.*scale='smoke'", said)
    assert shown


def test_start_says_where_it_is_and_leaves_its_provenance(
    shown: list[str], monkeypatch: pytest.MonkeyPatch, tiny: Dataset
) -> None:
    monkeypatch.setattr(notebook, "load", lambda name: tiny)
    monkeypatch.setenv(notebook.SCALE_VARIABLE, "")  # as where it is to be forgotten again
    assert notebook.start().scale.name in ("small", "full")
    shown.clear()
    monkeypatch.setenv(notebook.SCALE_VARIABLE, "smoke")
    assert notebook.start(scale="small").scale.name == "small"
    shown.clear()
    long = "13th Gen Intel(R) Core(TM) i9-13900KF with Turbo (family 6, model 183, AVX2), 24 cores"
    monkeypatch.setattr(notebook, "device_name", lambda device: long)
    found = notebook.start("final")
    assert (found.scale.name, found.dataset) == ("smoke", tiny)
    assert shown[0].startswith(f"{long}\n")
    assert re.search(r"float\d\d; PyTorch \S+\nnoise at the smoke scale; \d{4}-\d\d-\d\d; about \S+ minutes", shown[0])
    assert "was stopped: run all cells again" in shown[0]
    assert max(map(len, shown[0].splitlines())) <= 90
    assert found.flops_per_second > 1e6
    output = {"data": {"text/plain": "", notebook.MIME: {"dataset": "noise"}}}
    assert notebook.provenance([{"text": "hello"}, output]) == {"dataset": "noise"}
    assert notebook.provenance([]) is None
    monkeypatch.setattr(notebook, "measured_speed", lambda *_: 1e8)
    found = notebook.start("final", "tta")
    minutes = found.minutes([found.recipe("final"), found.recipe("tta")])
    assert minutes > 1
    assert f"; about {minutes:.2g} minutes of training" in shown[-1]


def test_the_evidence_of_a_rung_is_the_plans_table_with_the_rung_before(
    tmp_path: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "results_folder", lambda: tmp_path)
    notebook.evidence("celu")
    assert shown.pop() == "No recorded runs of `celu` yet."
    plan = 'question = "Which?"\ndataset = "noise"\nscale = "small"\nseeds = 3\ncompare = "before"\n'
    (tmp_path / "p.toml").write_text(plan + 'rungs = ["label_smoothing@half", "celu@half", "ghost_norm@half"]\n')
    for seed in range(4):
        for k, name in enumerate(("label_smoothing@half", "celu@half", "ghost_norm@half")):
            append(tmp_path / "p.jsonl", record(name, seed, 0.8 + 0.01 * k + 0.001 * seed))
    notebook.evidence("celu")
    (said,) = shown
    asked = "**Which?** (0.2 points matter; *better* and *worse* are corrected for 2 comparisons.)"
    assert said.startswith(f"{asked}\n\nOn `noise`, which is not CIFAR-10")
    assert re.findall(r"^\| `(\w+)@half`", said, re.MULTILINE) == ["label_smoothing", "celu"]
    assert "better" in said
    notebook.evidence("celu@half")
    assert shown[1] == said
    shown.clear()
    notebook.evidence("ghost_norm")
    assert "`label_smoothing" not in shown[0]  # what the rung before was compared with is another page's
    (tmp_path / "lengths.toml").write_text(plan.replace('"before"', '"none"') + 'rungs = ["celu@half", "celu"]\n')
    shown.clear()
    notebook.evidence("celu")
    assert len(shown) == 1  # a plan that compares nothing is shown where it is asked for
    notebook.evidence(plan="lengths")
    assert re.findall(r"^\| `(\w+)@half`", shown[1], re.MULTILINE) == ["celu"]
    notebook.evidence(plan="nothing")
    assert shown[2] == "No recorded runs of the plan `nothing` yet."
    (tmp_path / "tried.toml").write_text(plan.replace('"noise"', '"noise-validation"') + 'rungs = ["celu", "final"]\n')
    append(tmp_path / "tried.jsonl", {**record("celu"), "dataset": "noise-validation"})
    notebook.evidence(plan="tried")  # a search is no evidence
    assert shown.pop() == "No recorded runs of the plan `tried` yet."
    notebook.evidence("celu", plan="p")
    assert re.findall(r"^\| `(\w+)@half`", shown[3], re.MULTILINE) == ["label_smoothing", "celu"]
    notebook.evidence("baseline", plan="p")
    assert shown[4] == "No recorded runs of `baseline` in the plan `p` yet."
    append(tmp_path / "p.jsonl", {**record("celu@half"), "device": "one run's machine"})
    shown.clear()
    notebook.evidence("celu", plan="p")
    assert "one run's machine" not in shown[0]
    assert shown[1:] == ["Single runs only, which tell no difference: on one run's machine, float32."]
    append(tmp_path / "p.jsonl", {**record("celu@half", 1), "device": "one run's machine"})
    shown.clear()
    notebook.evidence("celu", plan="p")
    assert len(shown) == 2
    assert "On `noise`, which is not CIFAR-10; small scale; one run's machine" in shown[1]
    (tmp_path / "other.toml").write_text(plan.replace('"before"', '"none"') + 'rungs = ["celu@half"]\n')
    for name in ("celu@half", "ghost_norm@half"):  # together they say something, though not of celu
        for seed in range(2):
            append(tmp_path / "other.jsonl", {**record(name, seed), "device": "another's machine"})
        shown.clear()
        notebook.evidence("celu", plan="p")
        assert len(shown) == 2
    notebook.evidence("ghost_norm", plan="p")
    assert "another's machine" in shown[-1]
    assert "Made for other plans." in shown[-1]


def test_the_recorded_runs_are_found() -> None:
    assert (notebook.results_folder() / "schema.json").exists()
    assert len(notebook.recorded()) >= 6
