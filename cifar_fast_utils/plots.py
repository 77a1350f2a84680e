"""The figures, each a function from records or tensors to a matplotlib figure."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

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
        top.plot(
            epochs[-1], run.tta_accuracy, "*", ms=14, color=ORANGE, mec="black", label="test, with the mirror (TTA)"
        )
    top.set(ylabel="accuracy")
    top.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    top.legend(loc="lower right")
    knots = [(epoch, rate) for epoch, rate in run.recipe.knots if epoch <= run.recipe.epochs]
    bottom.plot(*zip(*knots, strict=True), color="black")
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
