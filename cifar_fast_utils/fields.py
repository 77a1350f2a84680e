"""What a recipe says, as a frozen dataclass: comparable, hashable, JSON both ways."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, field, fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, Strict, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from .errors import UserError, in_a_line

T = TypeVar("T")
Truth = Annotated[bool, Strict()]
Count = Annotated[int, Field(ge=0)]
FromOne = Annotated[int, Field(ge=1)]
FromZero = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Side = Annotated[int, Field(ge=16, le=32)]
Blocks = Annotated[int, Field(ge=0, le=2)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=3, max_length=3)]


def _rise(pairs: tuple[tuple[float, T], ...]) -> tuple[tuple[float, T], ...]:
    epochs = [epoch for epoch, _ in pairs]
    if not epochs or epochs != sorted(set(epochs)):
        raise ValueError(f"the epochs must rise: {epochs}")
    return pairs


def _rise_from_0(pairs: tuple[tuple[float, T], ...]) -> tuple[tuple[float, T], ...]:
    epochs = [epoch for epoch, _ in _rise(pairs)]
    if epochs[0] != 0 or any(epoch != round(epoch) for epoch in epochs):
        raise ValueError(f"the epochs must be whole numbers that rise from 0: {epochs}")
    return pairs


Knots = Annotated[tuple[tuple[FromZero, FromZero], ...], AfterValidator(_rise)]
FromAnEpoch = Annotated[tuple[tuple[float, T], ...], AfterValidator(_rise_from_0)]
"""Pairs (epoch, what holds from then on)."""
FROM_AN_EPOCH = ("sides", "hardest", "frozen", "resting")
"""The fields of such pairs."""


def later(default: Any) -> Any:
    """A field added after runs had been recorded: it counts in a recipe's digest only where it differs from this."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Recipe:
    """One way to train the network. The defaults are those of the ladder's second rung.

    Raises `UserError` where the fields contradict themselves.
    """

    name: str
    epochs: Annotated[float, Field(gt=0, lt=1e6)]
    knots: Knots
    """Pairs of (epoch, learning rate) on the mean loss; linear between them."""
    batch_size: Annotated[int, Field(gt=0, le=1_000_000)] = 512
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Nesterov's."""
    weight_decay: FromZero = 5e-4
    bias_factor: FromOne = 1
    """The norm biases' rate is this many times the others', and their weight decay smaller by the same factor."""
    pad: Count = 4
    """Pixels of reflected border that the random crop may show; 0: no crop."""
    flip: Literal["random", "none", "alternate"] = "random"
    """`alternate`: drawn once for each image and side, then all images are flipped together every other pass."""
    cutout: Count = 8
    """Side of the square that is blanked out, in pixels; 0: none."""
    augment_on: Literal["host", "device"] = "device"
    """`host`: image by image in a DataLoader; `device`: in groups, where the data is."""
    label_smoothing: Share = 0.0
    activation: Literal["relu", "celu", "gelu"] = "relu"
    celu_alpha: float = 0.0
    """CELU's α; as α → 0 it becomes ReLU."""
    pool: Literal["after_act", "before_act", "before_norm"] = "after_act"
    ghost_groups: FromOne = 1
    """Batch-norm statistics are taken over this many equal parts of the batch."""
    freeze_norm_scale: Truth = False
    logit_scale: Positive = 1 / 8
    whiten: Truth = False
    """The first convolution is the fixed 3×3 patch whitening, then a learnable 1×1."""
    ema_every: Count = 0
    """Average the weights every so many steps; 0: do not."""
    ema_momentum: Share = 0.0
    """What the average keeps of itself per step."""
    tta: Truth = False
    """Test on the image and its mirror, logits averaged."""
    master_weights: Truth = False
    """Keep float32 weights in a float16 run."""

    # What the years after the article brought.
    network: Literal["resnet9", "lean"] = later("resnet9")
    """`lean`: three blocks of two convolutions, no residuals (see `lean`)."""
    widths: Widths = later((1, 4, 4))
    """Channels of the lean network's three blocks, in units of the scale's width."""
    dirac: Truth = later(False)
    """Each convolution's first filters start by passing their channel on."""
    whiten_stride: FromOne = later(1)
    """2: the lean network whitens patches that do not overlap, for half as many places in height and in width."""
    whiten_bias_epochs: FromZero = later(0.0)
    """For how many epochs the bias of the lean network's whitening is trained; a pass that begins before they are over
    trains it throughout. Afterwards it is fixed as well."""
    norm_momentum: Share = later(0.1)
    """How far the running statistics move towards the batch's at each step."""
    norm_eps: Positive = later(1e-5)
    lookahead_every: Count = later(0)
    """Pull the network back to a slow copy of itself every so many steps (see `Lookahead`); 0: do not."""
    muon_factor: FromZero = later(0.0)
    """The filters take orthogonalised steps (`WithMuon`), at this many times the others' rate; 0: they take SGD's."""
    muon_momentum: Share = later(0.6)
    """Nesterov's, of the orthogonalised steps."""
    jitter: Share = later(0.0)
    """Each image's brightness moves by up to this, in standard deviations, and its contrast scales by 1 ± as much."""
    tta_shift: Count = later(0)
    """With TTA, also test on the image and its mirror shifted by this many pixels either way along the diagonal."""
    tta_side: Count = later(0)
    """With TTA, also test on the image and its mirror at this many pixels a side; 0: do not."""
    sides: FromAnEpoch[Side] = later(((0.0, 32),))
    """Pairs of (epoch, side): from then on the network is trained on images of this many pixels a side."""
    hardest: FromAnEpoch[Annotated[float, Field(gt=0, le=1)]] = later(((0.0, 1.0),))
    """Pairs of (epoch, share): from then on a pass takes this share of the images, the hardest (see `LastSeen`)."""
    self_distillation: Share = later(0.0)
    """How much of an image's target, in the end, is what the network said when it last saw it (see `LastSeen`)."""
    frozen: FromAnEpoch[Blocks] = later(((0.0, 0),))
    """Pairs of (epoch, blocks): from then on this many of the lean network's first blocks are no longer trained."""
    resting: FromAnEpoch[Blocks] = later(((0.0, 0),))
    """Pairs of (epoch, blocks): from then on this many of the first blocks are trained only at every other step."""
    test_side: Side = later(32)
    """The side of the images it is tested on."""

    @model_validator(mode="wrap")
    @classmethod
    def _in_a_line(cls, said: ArgsKwargs, check: Callable[[ArgsKwargs], Recipe]) -> Recipe:
        try:
            return check(said)
        except ValidationError as error:
            name = (said.kwargs or {}).get("name", *said.args[:1])
            raise UserError(f"recipe '{name}': {in_a_line(error)}") from None

    def __post_init__(self) -> None:
        """What no field can say alone."""
        lean, host = self.network == "lean", self.augment_on == "host"
        sides, frozen, resting = ([held for _, held in pairs] for pairs in (self.sides, self.frozen, self.resting))
        tested = {self.test_side, self.tta_side or self.test_side}
        smallest = min(sides)
        min_side = min(smallest, *tested)
        largest_cut = smallest - host  # torchvision's erases less than all or nothing
        on_the_device = {
            "flips alternate": self.flip == "alternate",
            "images are shrunk": sides != [32],
            "brightness and contrast are jittered": self.jitter > 0,
            "the hardest can be chosen": self.hardest != ((0, 1),),
            "self-distillation is done": self.self_distillation > 0,
        }
        for wrong, why in (
            (
                self.batch_size % self.ghost_groups != 0,
                f"a batch of {self.batch_size} cannot be split into {self.ghost_groups} equal ghost groups: "
                f"take a multiple of {self.ghost_groups}",
            ),
            (lean and self.batch_size < 2 * self.ghost_groups, "a norm needs two images or more"),
            (self.activation == "celu" and self.celu_alpha <= 0, f"CELU's alpha is more than 0, not {self.celu_alpha}"),
            (self.pad >= smallest, f"pad is 0 to {smallest - 1} pixels here, not {self.pad}"),
            (self.cutout > largest_cut, f"cutout is 0 to {largest_cut} pixels a side here, not {self.cutout}"),
            (
                self.tta_shift >= self.test_side,
                f"tta_shift is 0 to {self.test_side - 1} pixels here, not {self.tta_shift}",
            ),
            (self.tta_side not in (0, *range(16, 33)), f"tta_side is 0, or 16 to 32, not {self.tta_side}"),
            *((host and done, f"{what} on the device only") for what, done in on_the_device.items()),
            (frozen != sorted(frozen), f"the number of frozen blocks cannot fall: {frozen}"),
            (lean and not self.whiten, "the lean network begins with the whitening"),
            (
                lean and (min_side - 2) // self.whiten_stride < 7,
                f"a whitening stride of {self.whiten_stride} leaves too little of {min_side} pixels for three blocks",
            ),
            (not lean and {*sides, *tested} != {32}, "the ResNet-9 takes images of 32 pixels a side"),
            (not lean and any((*frozen, *resting)), "only the lean network's blocks can be frozen or rest"),
            (
                not lean and (self.widths, self.whiten_stride, self.whiten_bias_epochs) != ((1, 4, 4), 1, 0),
                "widths, whiten_stride and whiten_bias_epochs are the lean network's: the ResNet-9 has none of them",
            ),
        ):
            if wrong:
                raise UserError(f"recipe '{self.name}': {why}")

    @property
    def looks_back(self) -> bool:
        """Whether a training keeps track of what the network said when it last saw each image."""
        return self.self_distillation > 0 or any(share < 1 for _, share in self.hardest)

    @functools.cached_property
    def digest(self) -> str:
        """Twelve hex digits that change with any field but the name; a later one counts only if not at its default."""
        content = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "name" and not (field.metadata.get("later") and getattr(self, field.name) == field.default)
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Every field and the digest, ready for `json.dumps`."""
        return {"name": self.name, "digest": self.digest, **asdict(self)}


def from_dict(content: Mapping[str, Any]) -> Recipe:
    """What `Recipe.to_dict` wrote, perhaps through JSON. `UserError` on unknown fields and missing ones not `later`."""
    content = {key: value for key, value in content.items() if key != "digest"}
    if lacks := [one.name for one in fields(Recipe) if one.name not in content and not one.metadata.get("later")]:
        raise UserError(f"not a recipe: it lacks {', '.join(lacks)}")
    return Recipe(**content)
