"""The figures, each a function from a run or from records to a matplotlib figure."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .evidence import Rung, how_many, rungs, settings
from .files import whole
from .ledger import Record, Setting
from .optimiser import rate_at
from .run import Run

BLUE, ORANGE = "#0072b2", "#d55e00"  # Okabe and Ito's, which the colour-blind tell apart too


def training_curves(run: Run) -> Figure:
    """Training and test accuracy by epoch, over the learning rate, of one run; the title says on what."""
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    epochs = [row["epoch"] for row in run.history]
    top.plot(
        epochs, [row["train_accuracy"] for row in run.history], "o-", color=BLUE, label="training, augmented images"
    )
    tested = [(row["epoch"], row["test_accuracy"]) for row in run.history if row["test_accuracy"] is not None]
    top.plot(*zip(*tested, strict=True), "s-", color=ORANGE, label="test")
    if run.tta_accuracy is not None:
        top.plot(epochs[-1], run.tta_accuracy, "*", ms=14, color=ORANGE, mec="black", label="test, with TTA")
    top.set(ylabel="accuracy")
    top.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    top.legend(loc="lower right")
    ends = [0.0, *(epoch for epoch, _ in run.recipe.knots if 0 < epoch < run.recipe.epochs), run.recipe.epochs]
    bottom.plot(ends, [rate_at(run.recipe, epoch) for epoch in ends], color="black")
    bottom.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None), xlim=(0, None))
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    top.set_title(
        f"{run.recipe.name} on {run.dataset}, {run.scale} scale, seed {run.seed}\n"
        f"{run.seconds['train']:.0f} s of training in {run.precision} on {run.device}, {run.started[:10]}",
        fontsize="medium",
    )
    return figure


def write_curves(run: Run, path: Path) -> None:
    """`training_curves` in the format of the file's ending. Raises `UserError` where the file cannot be written."""
    drawn = io.BytesIO()
    training_curves(run).savefig(drawn, format=path.suffix[1:], dpi=150)
    with whole(path) as temporary:
        temporary.write_bytes(drawn.getvalue())


def subtitle(setting: Setting, shown: Sequence[Rung]) -> str:
    """What every figure of recorded runs says of them."""
    return f"{setting.dataset}, {setting.scale} scale, {how_many(shown)}\n{setting.device}, {setting.precision}"


def seed_histogram(rung: Rung, setting: Setting) -> Figure:
    """How the accuracies of a rung's seeds spread, with their mean and its 95% interval."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.hist(rung.points, bins="sturges", color=BLUE, edgecolor="white")
    mean = rung.interval
    axes.axvspan(mean.low, mean.high, color=ORANGE, alpha=0.25, label="95% interval of the mean")
    axes.axvline(mean.mean, color=ORANGE, label=f"mean {mean.mean:.2f}, sd {mean.sd:.2f}")
    axes.set(xlabel="test accuracy of a seed, percent" + (", with TTA" if rung.recipe.tta else ""), ylabel="seeds")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{rung.recipe.name}: {subtitle(setting, [rung])}", fontsize="medium")
    axes.margins(y=0.1)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    return figure


def seed_strips(rungs: Sequence[Rung], setting: Setting) -> Figure:
    """The accuracy of every seed, a rung in each row, over the mean and its 95% interval."""
    figure = Figure(figsize=(7, 1.8 + 0.32 * len(rungs)), layout="constrained")
    axes = figure.subplots()
    for row, rung in enumerate(rungs):
        mean = rung.interval
        axes.plot(rung.points, [row] * mean.n, "o", color=BLUE, alpha=0.5, mec="none", label="a seed" * (not row))
        if mean.n > 1:
            axes.errorbar(mean.mean, row + 0.3, xerr=mean.high - mean.mean, fmt="|", color=ORANGE, capsize=3,
                          label="mean, with its 95% interval" * (not row))  # fmt: skip
    axes.set(xlabel="test accuracy of a seed, percent")
    axes.set_yticks(range(len(rungs)), [f"{rung.recipe.name} (n = {rung.n})" for rung in rungs])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(subtitle(setting, rungs), fontsize="medium")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    return figure


def accuracy_against(rungs: Sequence[Rung], cost: Callable[[Rung], float], label: str, setting: Setting) -> Figure:
    """Mean accuracy of each rung, with its 95% interval, against its cost; the legend explains the numbers."""
    figure = Figure(figsize=(7, 4 + 0.12 * len(rungs)), layout="constrained")
    axes = figure.subplots()
    for number, rung in enumerate(rungs, start=1):
        mean, beside = rung.interval, 5 if number % 2 else -5  # in turns, for points that lie close together
        error = [[mean.mean - mean.low], [mean.high - mean.mean]] if mean.n > 1 else None
        axes.plot([], [], " ", label=f"{number}: {rung.recipe.name} (n = {mean.n})")
        axes.errorbar(cost(rung), mean.mean, error, fmt="o" if mean.n > 1 else "x", color=BLUE, capsize=3)
        axes.annotate(str(number), (cost(rung), mean.mean), (beside, 4), ha="left" if beside > 0 else "right",
                      textcoords="offset points", fontsize="small")  # fmt: skip
    axes.set(xlabel=label, ylabel="test accuracy, percent, with its 95% interval", xlim=(0, None))
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", handlelength=0)
    axes.grid(alpha=0.3)
    axes.set_title(subtitle(setting, rungs), fontsize="medium")
    return figure


def evidence_figures(records: Sequence[Record]) -> dict[str, Figure]:
    """For each setting: accuracy against seconds and against FLOPs, and a histogram of each rung with 5 seeds or more.

    Each under a name that is fit for a file. Searches are no evidence: they get no figures.
    """
    figures = {}
    for number, (setting, theirs, neighbours) in enumerate(settings(records), start=1):
        found = rungs(theirs, neighbours)
        stem = f"{number}_{setting.dataset}_{setting.scale}_{setting.precision}"
        if timed := [rung for rung in found if rung.timed]:
            figures[f"{stem}_seconds"] = accuracy_against(
                timed, lambda rung: rung.seconds("train"), "training, median seconds", setting
            )
        figures[f"{stem}_flops"] = accuracy_against(found, lambda rung: rung.flops / 1e15, "training, PFLOP", setting)
        for rung in found:
            if rung.n >= 5:
                figures[f"{stem}_seeds_{rung.recipe.name}"] = seed_histogram(rung, setting)
    return figures
