"""What a recipe says, as a frozen dataclass: comparable, hashable, JSON both ways."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import UserError

Knots = tuple[tuple[float, float], ...]
FROM_0 = ("weight_decay", "ema_every", "lookahead_every", "muon_factor", "whiten_bias_epochs")
FROM_AN_EPOCH = {"sides": int, "hardest": float, "frozen": int, "resting": int}
"""The fields of pairs (epoch, what holds from then on), with its kind."""
SHARES = ("label_smoothing", "ema_momentum", "norm_momentum", "muon_momentum", "jitter", "self_distillation")


def later(default: Any) -> Any:
    """A field that came after runs had been recorded: it counts in a recipe's digest only where it is not this."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class Recipe:
    """One way to train the network. The defaults are those of the ladder's second rung.

    Raises `UserError` where the fields contradict themselves.
    """

    name: str
    epochs: float
    knots: Knots
    """Pairs of (epoch, learning rate) on the mean loss; linear between them."""
    batch_size: int = 512
    momentum: float = 0.9
    """Nesterov's."""
    weight_decay: float = 5e-4
    bias_factor: int = 1
    """The norm biases' rate is this times the others', their weight decay the same factor smaller."""
    pad: int = 4
    """Pixels of reflected border that the random crop may show; 0: no crop."""
    flip: Literal["random", "none", "alternate"] = "random"
    """`alternate`: drawn once for each image and side, then all images are flipped together every other pass."""
    cutout: int = 8
    """Side of the square that is blanked out, in pixels; 0: none."""
    augment_on: Literal["host", "device"] = "device"
    """`host`: image by image in a DataLoader; `device`: in groups, where the data is."""
    label_smoothing: float = 0.0
    activation: Literal["relu", "celu", "gelu"] = "relu"
    celu_alpha: float = 0.0
    """CELU's α; as α → 0 it becomes ReLU."""
    pool: Literal["after_act", "before_act", "before_norm"] = "after_act"
    ghost_groups: int = 1
    """Batch-norm statistics are taken over this many equal parts of the batch."""
    freeze_norm_scale: bool = False
    logit_scale: float = 1 / 8
    whiten: bool = False
    """The first convolution is the fixed 3×3 patch whitening, then a learnable 1×1."""
    ema_every: int = 0
    """Average the weights every so many steps; 0: do not."""
    ema_momentum: float = 0.0
    """What the average keeps of itself per step."""
    tta: bool = False
    """Test on the image and its mirror, logits averaged."""
    master_weights: bool = False
    """Keep float32 weights in a float16 run."""

    # What the years after the article brought.
    network: Literal["resnet9", "lean"] = later("resnet9")
    """`lean`: three blocks of two convolutions, no residuals (see `lean`)."""
    widths: tuple[int, ...] = later((1, 4, 4))
    """Channels of the lean network's three blocks, in units of the scale's width."""
    dirac: bool = later(False)
    """Each convolution's first filters start by passing their channel on."""
    whiten_stride: int = later(1)
    """2: the lean network whitens patches that do not overlap, for half as many places in height and in width."""
    whiten_bias_epochs: float = later(0.0)
    """For how many epochs the bias of the lean network's whitening is trained: each pass that begins before that is
    over does so to its end. Afterwards it is fixed as well."""
    norm_momentum: float = later(0.1)
    """How far the running statistics move towards the batch's at each step."""
    norm_eps: float = later(1e-5)
    lookahead_every: int = later(0)
    """Pull the network back to a slow copy of itself every so many steps (see `Lookahead`); 0: do not."""
    muon_factor: float = later(0.0)
    """The filters take orthogonalised steps (see `WithMuon`), at this times the others' rate; 0: they take SGD's."""
    muon_momentum: float = later(0.6)
    """Nesterov's, of the orthogonalised steps."""
    jitter: float = later(0.0)
    """Each image's brightness is moved by up to this, in standard deviations, and its contrast scaled by up to it."""
    tta_shift: int = later(0)
    """With TTA, also test on the image and its mirror shifted by so many pixels either way along the diagonal."""
    tta_side: int = later(0)
    """With TTA, also test on the image and its mirror at so many pixels a side; 0: do not."""
    sides: tuple[tuple[float, int], ...] = later(((0.0, 32),))
    """Pairs of (epoch, side): from then on the network is trained on images of so many pixels a side."""
    hardest: tuple[tuple[float, float], ...] = later(((0.0, 1.0),))
    """Pairs of (epoch, share): from then on a pass takes this share of the images, the hardest (see `LastSeen`)."""
    self_distillation: float = later(0.0)
    """How much of an image's target, in the end, is what the network said when it last saw it (see `LastSeen`)."""
    frozen: tuple[tuple[float, int], ...] = later(((0.0, 0),))
    """Pairs of (epoch, blocks): from then on the first so many blocks of the lean network are no longer trained."""
    resting: tuple[tuple[float, int], ...] = later(((0.0, 0),))
    """Pairs of (epoch, blocks): from then on the first so many blocks are trained at every other step alone."""
    test_side: int = later(32)
    """The side of the images it is tested on."""

    def __post_init__(self) -> None:
        """Check the fields; make numbers of their kind, so that equal recipes have one digest, JSON between or not."""
        for name, kind in _kinds().items():
            value = getattr(self, name)
            if kind is bool and not isinstance(value, bool):
                raise UserError(f"recipe '{self.name}': {name} is true or false, not {value!r}")
            if kind in (int, float):
                object.__setattr__(self, name, self._number(name, kind, value))
        for name, kind in {"knots": float, **FROM_AN_EPOCH}.items():
            pairs = ((self._number(name, float, e), self._number(name, kind, to)) for e, to in getattr(self, name))
            object.__setattr__(self, name, tuple(pairs))
        object.__setattr__(self, "widths", tuple(self._number("widths", int, width) for width in self.widths))
        epochs = [epoch for epoch, _ in self.knots]
        sides, shares, frozen, resting = (
            [what for _, what in pairs] for pairs in (self.sides, self.hardest, self.frozen, self.resting)
        )
        smallest = min(sides, default=32)
        min_side = min(smallest, self.test_side, self.tta_side or 32)
        lean = self.network == "lean"
        most = 2 if lean else 0
        largest_cut = smallest - (self.augment_on == "host")  # torchvision's erases less than all or nothing
        for wrong, why in (
            *(
                (
                    getattr(self, name) not in get_args(kind),
                    f"{name} is one of {', '.join(get_args(kind))}, not {getattr(self, name)!r}",
                )
                for name, kind in _kinds().items()
                if get_origin(kind) is Literal
            ),
            (not 0 < self.epochs < 1e6, f"epochs must be more than 0 and fewer than a million, not {self.epochs:g}"),
            (not 0 < self.batch_size <= 1e6, f"the batch size must be 1 to a million, not {self.batch_size}"),
            (
                self.ghost_groups < 1 or self.batch_size % max(self.ghost_groups, 1) != 0,
                f"a batch of {self.batch_size} cannot be split into {self.ghost_groups} equal ghost groups: "
                f"take a multiple of {self.ghost_groups}",
            ),
            (lean and self.batch_size < 2 * self.ghost_groups, "a norm needs two images or more"),
            (not epochs or epochs != sorted(set(epochs)), f"the knots' epochs must rise: {epochs}"),
            (min(map(min, self.knots), default=0) < 0, f"the knots hold numbers from 0 up: {self.knots}"),
            *(
                (not right, f"{name} {must}, not {getattr(self, name)}")
                for name, right, must in (
                    ("momentum", 0 < self.momentum < 1, "lies between 0 and 1"),
                    ("bias_factor", self.bias_factor >= 1, "is at least 1"),
                    ("whiten_stride", self.whiten_stride >= 1, "is at least 1"),
                    ("celu_alpha", self.celu_alpha > 0 or self.activation != "celu", "is more than 0 with CELU"),
                    ("norm_eps", self.norm_eps > 0, "is more than 0"),
                    ("logit_scale", self.logit_scale > 0, "is more than 0"),
                    ("pad", 0 <= self.pad < smallest, f"is 0 to {smallest - 1} pixels here"),
                    ("cutout", 0 <= self.cutout <= largest_cut, f"is 0 to {largest_cut} pixels a side here"),
                    ("tta_shift", 0 <= self.tta_shift < self.test_side, f"is 0 to {self.test_side - 1} pixels here"),
                    *((name, getattr(self, name) >= 0, "is at least 0") for name in FROM_0),
                    *((name, 0 <= getattr(self, name) < 1, "is a share from 0 to below 1") for name in SHARES),
                )
            ),
            *(
                (
                    changes[:1] != [0] or changes != sorted(set(changes)) or any(e != round(e) for e in changes),
                    f"the epochs of {what} must be whole numbers that rise from 0: {changes}",
                )
                for what in FROM_AN_EPOCH
                for changes in [[epoch for epoch, _ in getattr(self, what)]]
            ),
            (any(not 0 < share <= 1 for share in shares), f"the hardest are a share above 0, at most 1: {shares}"),
            (self.augment_on == "host" and self.self_distillation != 0, "self-distillation is done on the device only"),
            (self.augment_on == "host" and shares != [1], "the hardest can be chosen on the device only"),
            (
                frozen != sorted(frozen) or any(not 0 <= n <= most for n in frozen),
                f"0 to 2 blocks of the lean network can be frozen, never fewer than before: {frozen}",
            ),
            (any(not 0 <= n <= most for n in resting), f"0 to 2 blocks of the lean network can rest: {resting}"),
            (self.augment_on == "host" and self.flip == "alternate", "flips alternate on the device only"),
            (self.augment_on == "host" and sides != [32], "images are shrunk on the device only"),
            (lean and not self.whiten, "the lean network begins with the whitening"),
            (self.augment_on == "host" and self.jitter != 0, "brightness and contrast are jittered on the device only"),
            (
                len(self.widths) != 3 or any(not 1 <= width <= 1000 for width in self.widths),
                f"the lean network's widths are three numbers from 1 to 1000, not {list(self.widths)}",
            ),
            (
                any(not (16 if lean else 32) <= side <= 32 for side in (*sides, self.test_side, self.tta_side or 32)),
                "the lean network takes images of 16 to 32 pixels a side, the ResNet-9 of 32",
            ),
            (
                lean and (min_side - 2) // max(self.whiten_stride, 1) < 7,
                f"a whitening stride of {self.whiten_stride} leaves too little of {min_side} pixels for three blocks",
            ),
            (
                not lean and (self.widths, self.whiten_stride, self.whiten_bias_epochs) != ((1, 4, 4), 1, 0),
                "widths, whiten_stride and whiten_bias_epochs are the lean network's: the ResNet-9 has none of them",
            ),
        ):
            if wrong:
                raise UserError(f"recipe '{self.name}': {why}")

    def _number(self, name: str, kind: Any, value: Any) -> Any:
        """The value as a number of that kind, unless that would change it, or it has no end and JSON cannot hold it."""
        if kind is int and value != int(value):
            raise UserError(f"recipe '{self.name}': {name} is a whole number, not {value!r}")
        if not math.isfinite(number := kind(value)):
            raise UserError(f"recipe '{self.name}': {name} is a finite number, not {value!r}")
        return number

    @property
    def looks_back(self) -> bool:
        """Whether a training keeps account of what the network said when it last saw each image."""
        return self.self_distillation > 0 or any(share < 1 for _, share in self.hardest)

    @functools.cached_property
    def digest(self) -> str:
        """Twelve hex digits that change with any field but the name; a later one counts only off its default."""
        content = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "name" and not (field.metadata.get("later") and getattr(self, field.name) == field.default)
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Every field and the digest, ready for `json.dumps`."""
        return {"name": self.name, "digest": self.digest, **asdict(self)}


@functools.cache
def _kinds() -> dict[str, Any]:
    """The type of each field."""
    return get_type_hints(Recipe)


def from_dict(content: Mapping[str, Any]) -> Recipe:
    """What `Recipe.to_dict` wrote, perhaps through JSON. `UserError` on fields unknown or missing, but `later`."""
    content = {key: value for key, value in content.items() if key != "digest"}
    if lacks := [one.name for one in fields(Recipe) if one.name not in content and not one.metadata.get("later")]:
        raise UserError(f"not a recipe: it lacks {', '.join(lacks)}")
    try:
        return Recipe(**content)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"not a recipe: {error}") from None
