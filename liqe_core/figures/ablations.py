"""Figures of ablations, from the data frames of `studies.ablations`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import Drawn, dot, legend, listed, palette, panels, plain, runs_and_mean


@drawing("ablation_open", "ablations", "Ablation of the open study: which tasks are learned together.")
@drawing("ablation_variant", "ablations", "Ablation: which tasks are learned together.")
@drawing("ablation_control", "ablations", "Ablation: controls of learning several tasks.")
@drawing("ablation_weighting", "ablations", "Ablation: how the losses are weighted.")
@drawing("ablation_freeze", "ablations", "Ablation: which tower is frozen.")
@drawing("ablation_crops", "ablations", "Ablation: the number of crops of an image in a training step.")
@drawing("ablation_template", "ablations", "Ablation: the wording of the prompts.")
def ablation(table: pd.DataFrame, runs: pd.DataFrame, pairs: pd.DataFrame, reference: str | int) -> Drawn:
    """Draw an ablation, a row for each level.

    The left panel shows every run as a dot, with mean and spread. The right panel shows the differences to
    the reference, with their mean and its interval.

    Args:
        table: from `ablations.compare`; published values in a column ``paper`` are drawn as diamonds.
        runs: from `ablations.scores`; a dot for each row.
        pairs: from `ablations.paired`.
        reference: the level that the others are compared with.
    """
    levels = list(table["level"])
    paint, height = palette(), 1.5 + 0.55 * len(levels)
    figure, (values_ax, differences_ax) = panels(["", ""], 5.25, height, sharey=True, width_ratios=[1.5, 1])
    place = {level: row for row, level in enumerate(levels)}
    look: dict[str, Any] = {"s": dot(16), "color": paint.ink, "alpha": 0.6, "linewidths": 0, "zorder": 2}
    runs = runs[runs["level"].isin(levels)]
    values_ax.scatter(runs["value"], runs["level"].map(place), **look)
    for row in table.itertuples():
        at = place[row.level]
        if np.isnan(row.mean):
            middle: dict[str, Any] = {"transform": values_ax.get_yaxis_transform(), "ha": "center"}
            values_ax.text(0.5, at, row.reason, color=paint.grey, va="center", **middle)
            continue
        mean: dict[str, Any] = {"fmt": "o", "color": paint.tasks["quality"], "capsize": 4, "zorder": 3}
        values_ax.errorbar(row.mean, at, xerr=np.nan_to_num(row.spread), **mean)
        if not np.isnan(row.difference):
            dots, color = pairs.loc[pairs["level"] == row.level, "difference"], paint.tasks["distortion"]
            differences_ax.scatter(dots, np.full(len(dots), at), **look)
            differences_ax.plot(row.difference, at, "o", color=color, zorder=3)
            differences_ax.hlines(at, row.low, row.high, color=color, linewidth=2, zorder=3)
    if "paper" in table and table["paper"].notna().any():
        look = {"marker": "D", "s": dot(36), "color": paint.colors[3], "zorder": 4}
        values_ax.scatter(table["paper"], range(len(levels)), label="paper, six datasets", **look)
        legend(figure)
    values_ax.set_yticks(range(len(levels)), [_named(level) for level in levels])
    values_ax.set(ylim=(len(levels) - 0.5, -0.5), xlabel="SRCC: runs, mean and spread")
    differences_ax.axvline(0, color=paint.ink, linewidth=0.9)
    few = "" if table["low"].notna().any() else ": too few runs for an interval"
    differences_ax.set_xlabel(f"minus {_named(reference)}, same seeds{few}")
    for axes in (values_ax, differences_ax):
        plain(axes, "x")
        axes.tick_params(axis="y", length=0)
    means = table.set_index("level")["mean"].dropna()
    return figure.described(
        f"Dot plot: SRCC of every run, one row per level, and the difference to {_said(reference)} "
        f"with the same seeds. Means: {listed(means.rename(index=_said)) or 'no finished run'}."
    )


@drawing("loss_weights", "ablations", "The weight of each task's loss over epochs, one panel per task set.")
def loss_weights(epochs: pd.DataFrame, levels: Sequence) -> Drawn:
    """Draw the weight of each task's loss over epochs: a panel for each level, a thin line for each run.

    Args:
        epochs: ``level``, ``run``, ``epoch`` and ``<task>_weight``.
    """
    levels = [level for level in levels if level in set(epochs["level"])]
    epochs = epochs.assign(epoch=epochs["epoch"] + 1)  # axes count from one
    figure, axes = panels([_named(level) for level in levels] or [""], 3, 2.9, least=2.2, sharey=True)
    for ax, level in zip(axes, levels, strict=False):
        of_level = epochs[epochs["level"] == level]
        for task, color in palette().tasks.items():
            column = f"{task}_weight"
            if column not in of_level or of_level[column].isna().all():
                continue
            runs_and_mean(ax, of_level, "epoch", column, color, task, marker=".")
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        plain(ax, "y")
    axes[0].set_ylabel("weight of the loss")
    legend(figure)
    return figure.described(
        f"Lines: the weight of each task's loss over {epochs['epoch'].max()} epochs, one panel for each of "
        f"{', '.join(map(_said, levels)) or 'no level'}."
    )


def _said(level) -> str:
    return str(level) or "(default)"


def _named(level) -> str:
    return "\n".join(textwrap.wrap(_said(level), 26))
