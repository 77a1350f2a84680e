"""The recipe on one page (notebook A1) beside the package: the same numbers to the bit."""

import ast
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cifar_fast_utils.data import Dataset
from cifar_fast_utils.device import Scale
from cifar_fast_utils.recipe import get
from cifar_fast_utils.train import train

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "A1_one_page.ipynb"
NARROW = Scale("narrow", width=4)


@pytest.fixture(scope="module")
def source() -> str:
    """The one cell that is tagged as the page."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    (page,) = [cell for cell in cells if "one-page" in cell["metadata"].get("tags", [])]
    return "".join(page["source"])


def namespace(source: str, name: str = "one_page") -> dict[str, Any]:
    """What the cell defines, as a module of that name."""
    page: dict[str, Any] = {"__name__": name}
    exec(compile(source, "one_page.py", "exec"), page)
    return page


def data_of(dataset: Dataset) -> tuple[torch.Tensor, ...]:
    return dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels


# Two steps an epoch: the last epoch half done, the average updated twice or never.
@pytest.mark.parametrize(("epochs", "seed"), [(5.5, 0), (1.5, 3)])
def test_it_equals_the_package_to_the_bit(source: str, tiny: Dataset, epochs: float, seed: int) -> None:
    recipe = get(f"final@{epochs}")
    run = train(recipe, tiny, scale=NARROW, device="cpu", precision="float32", seed=seed, progress=False)
    page = namespace(source)
    network, accuracy, seconds = page["train"](
        *data_of(tiny), width=NARROW.width, epochs=epochs, seed=seed, device="cpu", dtype=torch.float32
    )
    assert run.network is not None
    ours, theirs = network.state_dict(), run.network.state_dict()
    different = [a for (a, x), y in zip(ours.items(), theirs.values(), strict=True) if not torch.equal(x, y)]
    assert different == []
    assert accuracy == run.tta_accuracy
    assert math.isfinite(seconds)
    torch.manual_seed(seed)
    fresh = page["ResNet9"](NARROW.width, torch.zeros(27, 3, 3, 3)).state_dict()
    assert not torch.equal(ours["linear.weight"], fresh["linear.weight"])


def test_its_length_is_the_recipes(source: str) -> None:
    page, recipe = namespace(source), get("final")
    assert (page["EPOCHS"], page["KNOTS"], page["WIDTH"]) == (recipe.epochs, recipe.knots, 64)


def test_it_is_one_page_that_needs_torch_and_torchvision_alone(source: str) -> None:
    lines = source.splitlines()
    assert len([line for line in lines if line.strip()]) <= 165
    assert max(map(len, lines)) <= 88
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").split(".")[0])
    assert modules == {"itertools", "time", "torch", "torchvision"}


def test_it_is_a_script_too(
    source: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On CIFAR-10 as torchvision hands it out: an array of images and a list of labels."""
    from torchvision import datasets

    def cifar10(folder: str, train: bool, download: bool) -> SimpleNamespace:
        images, labels = data_of(tiny)[:2] if train else data_of(tiny)[2:]
        data: np.ndarray[Any, Any] = images.numpy()
        return SimpleNamespace(data=data, targets=labels.tolist())

    monkeypatch.setattr(datasets, "CIFAR10", cifar10)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "WIDTH, BATCH, EPOCHS = 64, 512, 10" in source
    namespace(source.replace("= 64, 512, 10", "= 4, 512, 2"), "__main__")
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("step 4 of 4: loss ")
    assert "of the test images are right, after" in said[-1]


def test_too_few_images_are_said_to_be(source: str, tiny: Dataset) -> None:
    with pytest.raises(ValueError, match="511 images are fewer than a batch of 512"):
        namespace(source)["train"](*data_of(tiny.subset(511, 10)))
