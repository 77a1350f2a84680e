import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from cifar_fast_utils import augment, host
from cifar_fast_utils.errors import UserError
from cifar_fast_utils.recipe import RECIPES


def epoch(seed: int, **change: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    recipe = replace(RECIPES["baseline"], **change)
    n = 600
    # Columns count from 1, so that a crop and a flip can be read off an image.
    columns = torch.arange(1, 33, dtype=torch.float32)[None, None, :, None].expand(n, 32, 32, 3)
    loader = host.loader(augment.pad(columns, 4), torch.arange(n), recipe, torch.Generator().manual_seed(seed))
    return list(host.batches(loader, torch.device("cpu"), torch.bfloat16))


def test_the_baselines_loader_crops_flips_and_cuts_out_image_by_image() -> None:
    (images, labels), *rest = epoch(0)
    assert rest == []  # 600 images are one batch of 512; the rest is dropped
    assert images.dtype == torch.bfloat16
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert len(labels.unique()) == 512
    assert not torch.equal(labels, labels.sort().values)  # shuffled
    assert labels.max() >= 512  # so that it is not always the same ones that are dropped
    cut = (images[:, 0] == 0).sum((1, 2))
    assert (cut == 64).all()  # an 8 × 8 box, wholly inside
    assert len((images[:, 0] == 0).flatten(1).unique(dim=0)) > 200  # and not in the same place
    row = images[:, 0].amax(1)  # no column is blanked out over all rows
    rising = (row[:, 16] > row[:, 14]).float().mean().item()
    assert 0.4 < rising < 0.6  # about half are mirrored
    assert len(row.unique(dim=0)) == 18  # nine places, two mirrors


def test_a_torchvision_for_another_pytorch_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(UserError, match="torchvision does not import"):
        host.transforms(RECIPES["baseline"])


def test_without_cutout_and_flips_it_only_crops() -> None:
    ((images, _),) = epoch(0, cutout=0, flip="none")
    assert (images != 0).all()
    row = images[:, 0].amax(1)
    assert (row[:, 16] > row[:, 14]).all()
    assert len(row.unique(dim=0)) == 9


def test_the_seed_decides() -> None:
    assert torch.equal(epoch(0)[0][0], epoch(0)[0][0])
    assert not torch.equal(epoch(0)[0][0], epoch(1)[0][0])
