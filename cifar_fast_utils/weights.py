"""Trained weights: saved, loaded, and used on any picture."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from .augment import SIZE
from .errors import UserError
from .files import whole
from .network import new_network
from .recipe import Recipe, from_dict
from .run import Run
from .sources import as_rgb
from .train import answering


def save_network(run: Run, width: int, classes: tuple[str, ...], path: Path) -> None:
    """Write the run's tested network, in float32, with its recipe, width and classes as metadata, as safetensors.

    Raises `UserError` where the file cannot be written.
    """
    assert run.network is not None
    state = {name: value.detach().float().cpu().contiguous() for name, value in run.network.state_dict().items()}
    about = {
        "recipe": json.dumps(run.recipe.to_dict()),
        "width": str(width),
        "classes": json.dumps(classes),
        "dataset": run.dataset,
        "scale": run.scale,
        "seed": str(run.seed),
        "accuracy": str(run.accuracy),
    }
    with whole(path) as temporary:
        temporary.write_bytes(save(state, about))


def load_network(path: Path) -> tuple[nn.Module, Recipe, tuple[str, ...]]:
    """The network that `save_network` wrote, in evaluation mode on the CPU, its recipe and its classes.

    Raises `UserError` where the file is missing, damaged or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
        recipe = from_dict(json.loads(about["recipe"]))
        network = new_network(recipe, int(about["width"]))
        network.load_state_dict(load(path.read_bytes()))
        return network.eval(), recipe, tuple(json.loads(about["classes"]))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except SafetensorError:
        raise UserError(f"{path} is not a complete safetensors file") from None
    except UserError as error:  # of its recipe
        raise UserError(f"{path} holds a network that this version cannot read: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        raise UserError(f"{path} does not hold a network saved by `cifar-fast train --save`") from None


def read_picture(path: Path) -> Tensor:
    """Any picture as a uint8 image (32, 32, 3): the largest central square, resampled.

    Raises `UserError` where it cannot be read as a picture.
    """
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            small = ImageOps.fit(as_rgb(upright), (SIZE, SIZE), Image.Resampling.BICUBIC)
    except UnidentifiedImageError:
        raise UserError(f"{path} is not a picture that Pillow can read") from None
    except Exception as error:  # damaged bytes make Pillow raise almost anything
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    return torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(SIZE, SIZE, 3)


def predict(network: nn.Module, pictures: Tensor, recipe: Recipe) -> Tensor:
    """The probabilities (n, 10) that a network gives to uint8 images (n, 32, 32, 3), seen as in its test."""
    logits, views = answering(recipe, pictures, torch.float32)(network, tta=recipe.tta)
    return (logits if views is None else views).softmax(1)
