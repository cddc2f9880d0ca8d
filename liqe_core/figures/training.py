"""Figures of a training run: its curves and its model's predictions."""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import (
    MARKERS,
    Drawn,
    dot,
    heat_map,
    legend,
    listed,
    palette,
    panels,
    plain,
    runs_and_mean,
)


@drawing("training_curves", "multitask_training", "Task losses, their weights and validation, over epochs.")
def training_curves(epochs: pd.DataFrame) -> Drawn:
    """Draw task losses, their weights and the validation measures over epochs.

    Args:
        epochs: a row for each epoch: ``epoch``, ``<task>_loss``, ``<task>_weight`` and the measures. With a
            column ``run``, each run has a thin line and their mean a thick one.
    """
    epochs = epochs.assign(epoch=epochs["epoch"] + 1)  # axes count from one
    measures = {"quality": "srcc", "scene": "scene_accuracy", "distortion": "distortion_accuracy"}
    validated = [measure for measure in measures.values() if measure in epochs]
    figure, axes = panels(["training loss", "weight of the loss", "validation"], 4, 3.2, least=2.4)
    for task, measure in measures.items():
        word = "SRCC" if measure == "srcc" else "accuracy"
        # A task has one color in all three axes, and one entry in the legend.
        label = f"{task} ({word})" if measure in validated else task
        for ax, column in zip(axes, (f"{task}_loss", f"{task}_weight", measure), strict=True):
            if column in epochs:
                shown = epochs.dropna(subset=[column])
                runs_and_mean(ax, shown, "epoch", column, palette().tasks[task], label)
            ax.set(xlabel="epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            plain(ax, "y")
    legend(figure)
    last = epochs[validated].groupby(epochs["epoch"]).mean().dropna().tail(1)
    last.columns = last.columns.str.replace("srcc", "SRCC").str.replace("_", " ")
    ends = "".join(f", at the end {listed(values)}" for _, values in last.iterrows())
    return figure.described(
        f"Lines over {epochs['epoch'].max()} epochs: the loss of each task, its weight, and validation{ends}."
    )


@drawing("agreement", "multitask_training", "Predicted quality against human score, images of a test part.")
@drawing("tiny_biq2021", "open_benchmark", "liqe-tiny's predictions against MOS on BIQ2021's test part.")
@drawing("tiny_hevc", "open_benchmark", "liqe-tiny on HEVC, which differs from its training data.")
@drawing("tiny_hevc_as_shown", "open_benchmark", "liqe-tiny on HEVC, all images enlarged to one size.")
def agreement(table: pd.DataFrame, title: str = "", score: str = "human score") -> Drawn:
    """Draw a scatter plot of predicted quality and MOS, colored by distortion.

    Args:
        table: ``quality``, ``mos`` and, for colors, ``distortion_group``.
        score: the label of the axis of ``mos``.
    """
    figure, (ax,) = panels([title], 6.5, 4.6)
    groups = table.groupby("distortion_group") if "distortion_group" in table else [("", table)]
    looks = product(MARKERS, palette().colors)  # markers distinguish groups of equal color
    for (mark, color), (name, rows) in zip(looks, groups, strict=False):
        dots: dict[str, Any] = {"marker": mark, "color": color, "s": dot(16), "alpha": 0.85, "linewidths": 0}
        ax.scatter(rows["quality"], rows["mos"], label=name, **dots)
    ax.set(xlabel="predicted quality", ylabel=score)
    if "distortion_group" in table:
        legend(figure)
    plain(ax, "both")
    srcc = table["quality"].corr(table["mos"], method="spearman")
    subject = f"{len(table)} images" + (f", {title}" if title else "")
    return figure.described(
        f"Scatter plot: predicted quality against {score} of {subject}; rank correlation {srcc:.2f}."
    )


@drawing("confusion", "multitask_training", "Confusion matrix of distortions in the first dataset.")
@drawing("confusion_scene", "paper_tables", "Confusion matrix of scenes in all datasets.")
@drawing("confusion_distortion", "paper_tables", "Confusion matrix of distortions in all datasets.")
def confusion(matrix: pd.DataFrame, title: str = "") -> Drawn:
    """Draw a confusion matrix with the shares of each row (label) in its cells.

    Args:
        matrix: counts, labels as rows and predictions as columns.
    """
    shares = matrix.div(matrix.sum(axis=1).clip(lower=1), axis=0)
    figure, (ax,) = panels([title], 1.6 + 0.62 * matrix.shape[1], 1.4 + 0.48 * matrix.shape[0])
    look: dict[str, Any] = {"cmap": palette().sequential, "vmin": 0, "vmax": 1, "aspect": "auto"}
    heat_map(ax, shares, lambda share: f"{share:.2f}".lstrip("0") if share else "", 45, "x-small", **look)
    ax.set(xlabel="predicted", ylabel="label")
    right = {word: shares.at[word, word] for word in matrix.index.intersection(matrix.columns)}
    return figure.described(
        f"Confusion matrix: {title or 'labels in rows, predictions in columns'}. Correct: {listed(right)}."
    )
