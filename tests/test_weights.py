import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cifar_fast_utils import augment, cli
from cifar_fast_utils.data import Dataset
from cifar_fast_utils.device import Scale
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.evaluate import answers, logits_of
from cifar_fast_utils.network import new_network
from cifar_fast_utils.recipe import RECIPES, get, with_epochs
from cifar_fast_utils.run import Run
from cifar_fast_utils.train import train
from cifar_fast_utils.weights import load_network, predict, read_picture, save_network


@pytest.fixture(scope="module")
def run(tiny: Dataset) -> Run:
    return train(with_epochs(RECIPES["final"], 3), tiny, scale=Scale("narrow", 4), precision="float32", device="cpu",
                 progress=False)  # fmt: skip


@pytest.fixture
def saved(run: Run, tiny: Dataset, tmp_path: Path) -> Path:
    save_network(run, 4, tiny.classes, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_what_is_loaded_is_what_was_saved(run: Run, tiny: Dataset, saved: Path) -> None:
    network, recipe, classes = load_network(saved)
    assert (recipe, classes) == (run.recipe, tiny.classes)
    assert run.network is not None
    images = augment.prepare(tiny.test_images, torch.float32).permute(0, 3, 1, 2)
    torch.testing.assert_close(logits_of(network, images), logits_of(run.network, images))
    expected = logits_of(network, images) + logits_of(network, images, mirror=True)
    torch.testing.assert_close(predict(network, tiny.test_images, recipe), (expected / 2).softmax(1))
    assert list(saved.parent.iterdir()) == [saved]


def test_of_two_classes_both_are_named(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_network(run, 4, ("cat", "dog"), tmp_path / "net.safetensors")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    assert cli.main(["predict", str(tmp_path / "net.safetensors"), str(tmp_path / "a.png")]) == 0
    said = capsys.readouterr().out.removeprefix(f"{tmp_path / 'a.png'}: ")
    assert sorted(part.split()[0] for part in said.split(", ")) == ["cat", "dog"]


@pytest.mark.parametrize("change", [{}, {"tta_side": 20}, {"tta_side": 20, "tta_shift": 0}])
def test_a_picture_is_seen_in_all_the_views_of_the_test(change: dict[str, int], tiny: Dataset) -> None:
    recipe = replace(get("airbench94"), **change)  # type: ignore[arg-type]
    network = new_network(recipe, 4).eval()
    images = augment.prepare(tiny.test_images, torch.float32).permute(0, 3, 1, 2)
    smaller = augment.prepare(augment.shrink(tiny.test_images, 20), torch.float32).permute(0, 3, 1, 2)
    _, expected = answers(network, images, True, recipe.tta_shift, smaller if recipe.tta_side else None)
    assert expected is not None
    torch.testing.assert_close(predict(network, tiny.test_images, recipe), expected.softmax(1))


def test_a_picture_is_seen_at_the_size_that_the_recipe_tests_at(tiny: Dataset) -> None:
    recipe = replace(get("airbench94"), test_side=20, tta=False)
    network = new_network(recipe, 4).eval()
    small = augment.prepare(augment.shrink(tiny.test_images, 20), torch.float32).permute(0, 3, 1, 2)
    torch.testing.assert_close(predict(network, tiny.test_images, recipe), logits_of(network, small).softmax(1))


def test_a_picture_of_32_by_32_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").numpy(), pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_any_picture_is_cropped_to_its_centre_and_shrunk(mode: str, tmp_path: Path) -> None:
    wide = Image.new("RGB", (300, 100), "white")
    wide.paste("black", (100, 0, 200, 100))
    wide.convert(mode).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png")
    assert image.shape == (32, 32, 3)
    assert image.max() < 64  # nothing but the black centre, and what bicubic lets in of its edge


def test_a_picture_taken_sideways_is_upright(tmp_path: Path) -> None:
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    upright.save(tmp_path / "upright.png")
    turned = upright.transpose(Image.Transpose.ROTATE_90)  # as a telephone stores it, with a note which way is up
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    assert torch.equal(read_picture(tmp_path / "turned.png"), read_picture(tmp_path / "upright.png"))


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    hidden = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    hidden.save(tmp_path / "a.png")
    hidden.convert("LA").save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert read_picture(tmp_path / name).min() == 255


def test_deeper_grey_is_refused(tmp_path: Path) -> None:
    for kind, top in ((np.int32, 100_000), (np.float32, 1.0)):
        Image.fromarray(np.full((40, 40), top, kind)).save(tmp_path / "a.tiff")
        with pytest.raises(UserError, match="expected 8 or 16 bits of grey, found more"):
            read_picture(tmp_path / "a.tiff")


def test_sixteen_bits_of_grey_are_grey(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 30_000, np.uint16)).save(tmp_path / "a.png")
    assert torch.equal(read_picture(tmp_path / "a.png"), torch.full((32, 32, 3), 116, dtype=torch.uint8))


def test_files_that_hold_no_network_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*missing"):
        load_network(tmp_path / "missing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="not a complete safetensors file"):
        load_network(tmp_path / "text")
    whole = saved.read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        load_network(tmp_path / "half")
    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(UserError, match="does not hold a network"):
        load_network(tmp_path / "other")
    recipe = json.dumps(RECIPES["final"].to_dict())
    save_file({"x": torch.zeros(1)}, tmp_path / "wrong", {"recipe": recipe, "width": "4", "classes": "[]"})
    with pytest.raises(UserError, match="does not hold a network"):
        load_network(tmp_path / "wrong")
    newer = json.dumps({**RECIPES["final"].to_dict(), "newer": 1})
    for recipe, says in (
        (newer, "a network that this version cannot read: .*newer: Unexpected keyword argument"),
        ("[]", "does not hold a network"),
    ):
        save_file({"x": torch.zeros(1)}, tmp_path / "newer", {"recipe": recipe, "width": "4", "classes": "[]"})
        with pytest.raises(UserError, match=says):
            load_network(tmp_path / "newer")
    with pytest.raises(UserError, match="cannot read"):
        load_network(tmp_path)


def test_files_that_are_no_picture_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(UserError, match=r"text\.jpg is not a picture"):
        read_picture(tmp_path / "text.jpg")
    with pytest.raises(UserError, match=r"cannot read .*none\.jpg: No such file"):
        read_picture(tmp_path / "none.jpg")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
    with pytest.raises(UserError, match=r"cannot read .*half\.png"):
        read_picture(tmp_path / "half.png")
    Image.effect_noise((400, 400), 50).save(tmp_path / "large.png")
    whole = (tmp_path / "large.png").read_bytes()
    second = whole.index(b"IDAT", whole.index(b"IDAT") + 1)
    (tmp_path / "damaged.png").write_bytes(whole[:second] + bytes(4) + whole[second + 4 :])
    with pytest.raises(UserError, match=r"cannot read .*damaged\.png"):
        read_picture(tmp_path / "damaged.png")
