"""A training run: its curves, and what its model predicts."""

from __future__ import annotations

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
    """Task losses, their weights and the validation measures, over epochs.

    Args:
        epochs: ``epoch``, ``<task>_loss``, ``<task>_weight`` and the measures, a row an epoch; with a column
            ``run`` a thin line a run and a thick one for their mean.
    """
    epochs = epochs.assign(epoch=epochs["epoch"] + 1)  # people count from one
    colors = palette().tasks
    tasks = [task for task in colors if f"{task}_loss" in epochs]
    measures = {
        "srcc": ("SRCC", "quality"),
        "scene_accuracy": ("accuracy", "scene"),
        "distortion_accuracy": ("accuracy", "distortion"),
    }
    shown = {
        "training loss": {f"{task}_loss": task for task in tasks},
        "weight of the loss": {f"{task}_weight": task for task in tasks},
        "validation": {m: task for m, (_, task) in measures.items() if m in epochs},
    }
    # A task has one colour in all three, so that one legend tells them: below, where no curve goes.
    validated = {task: f"{task} ({word})" for measure, (word, task) in measures.items() if measure in epochs}
    figure, axes = panels(list(shown), 4, 3.2, least=2.4)
    for ax, lines in zip(axes, shown.values(), strict=True):
        for column, task in lines.items():
            label = validated.get(task, task)
            runs_and_mean(ax, epochs.dropna(subset=[column]), "epoch", column, colors[task], label)
        ax.set(xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        plain(ax, "y")
    legend(figure)
    last = epochs[[m for m in measures if m in epochs]].groupby(epochs["epoch"]).mean().dropna()
    ends = {measures[name][0]: value for name, value in last.iloc[-1].items()} if len(last) else {}
    return figure.described(
        f"Lines over {epochs['epoch'].max()} epochs: the loss of each task, its weight, and validation"
        f"{', at the end ' + listed(ends) if ends else ''}."
    )


@drawing("agreement", "multitask_training", "Predicted quality against human score, images of a test part.")
@drawing("tiny_biq2021", "open_benchmark", "liqe-tiny's quality against people's, on BIQ2021's test part.")
@drawing("tiny_hevc", "open_benchmark", "The same on HEVC, nothing like which it was trained on.")
@drawing("tiny_hevc_as_shown", "open_benchmark", "The same images, all enlarged to one size.")
def agreement(table: pd.DataFrame, title: str = "", score: str = "human score") -> Drawn:
    """Predicted quality against score, a dot a picture, a colour a distortion.

    Args:
        table: ``quality``, ``mos`` and, for colours, ``distortion_group``.
        score: what ``mos`` is, for the axis.
    """
    figure, (ax,) = panels([title], 6.5, 4.6)
    groups = table.groupby("distortion_group") if "distortion_group" in table else [("", table)]
    # More groups than colours: the marker tells apart those that share one.
    looks: list[dict[str, Any]] = [
        {"marker": mark, "color": color} for mark in MARKERS for color in palette().colors
    ]
    for look, (name, rows) in zip(looks, groups, strict=False):
        ax.scatter(rows["quality"], rows["mos"], s=dot(16), alpha=0.85, linewidths=0, label=name, **look)
    ax.set(xlabel="predicted quality", ylabel=score)
    if "distortion_group" in table:
        legend(figure)
    plain(ax, "both")
    srcc = table["quality"].corr(table["mos"], method="spearman")
    subject = f"{len(table)} images" + (f", {title}" if title else "")
    return figure.described(
        f"Scatter plot: predicted quality against {score} of {subject}; rank correlation {srcc:.2f}."
    )


@drawing("confusion", "multitask_training", "Which distortion was taken for which, in the first dataset.")
@drawing("confusion_scene", "paper_tables", "Which scene was taken for which, in all datasets.")
@drawing("confusion_distortion", "paper_tables", "Which distortion was taken for which, in all datasets.")
def confusion(matrix: pd.DataFrame, title: str = "") -> Drawn:
    """A confusion matrix, the shares of each row (label) written into it.

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
        f"Confusion matrix: {title or 'labels down, predictions across'}. Named rightly: {listed(right)}."
    )
