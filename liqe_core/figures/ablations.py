"""Ablations, from the data frames of `studies.ablations`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from liqe_core.figures.style import (
    COLORS,
    FAINT,
    GREY,
    INK,
    TASK_COLORS,
    listed,
    new_figure,
    plain,
    runs_and_mean,
)


def ablation(
    table: pd.DataFrame,
    scores: pd.DataFrame,
    differences: pd.DataFrame,
    reference: object,
    paper: Mapping[object, float] | None = None,
    measure: str = "SRCC",
) -> Figure:
    """A row a level: every run a dot, their mean and spread; and the differences to the reference, each a
    dot, their mean, and its interval where there is one.

    Args:
        table: from `ablations.compare`.
        scores: from `ablations.scores`; dots of one session and seed are joined.
        differences: from `ablations.paired`.
        reference: the level that differences are taken to.
        paper: the published value of some levels, drawn as a diamond.
    """
    levels, paper = list(table["level"]), paper or {}
    figure = new_figure(10.5, 1.5 + 0.55 * len(levels))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
    place = {level: row for row, level in enumerate(levels)}
    for _, repeat in scores.groupby(["session", "seed"]):
        repeat = repeat[repeat["level"].isin(levels)].sort_values("level", key=lambda c: c.map(place))
        rows = repeat["level"].map(place)
        left.plot(repeat["value"], rows, color=FAINT, linewidth=0.9, zorder=1)
        left.scatter(repeat["value"], rows, s=16, color=INK, alpha=0.6, linewidths=0, zorder=2)
    for row in table.itertuples():
        at = place[row.level]
        if np.isnan(row.mean):
            left.text(
                0.5,
                at,
                row.reason,
                transform=left.get_yaxis_transform(),
                ha="center",
                va="center",
                color=GREY,
            )
            continue
        spread = 0 if np.isnan(row.spread) else row.spread
        left.errorbar(row.mean, at, xerr=spread, color=TASK_COLORS["quality"], fmt="o", capsize=4, zorder=3)
        if not np.isnan(row.difference):
            each = differences.loc[differences["level"] == row.level, "difference"]
            right.scatter(each, np.full(len(each), at), s=16, color=INK, alpha=0.6, linewidths=0, zorder=2)
            right.plot(row.difference, at, "o", color=TASK_COLORS["distortion"], zorder=3)
            right.hlines(at, row.low, row.high, color=TASK_COLORS["distortion"], linewidth=2, zorder=3)
    known = {level: value for level, value in paper.items() if level in place and not np.isnan(value)}
    if known:
        rows = [place[level] for level in known]
        left.scatter(
            known.values(), rows, marker="D", s=36, color=COLORS[3], label="paper, its six sets", zorder=4
        )
        left.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.22))
    left.set_yticks(range(len(levels)), [_named(level) for level in levels])
    left.set(ylim=(len(levels) - 0.5, -0.5), xlabel=f"{measure}: runs, mean and spread")
    right.axvline(0, color=INK, linewidth=0.9)
    told = table["low"].notna().any()
    right.set_xlabel(f"less {_named(reference)}, same seeds" + ("" if told else ": too few for an interval"))
    for axes in (left, right):
        plain(axes, "x")
        axes.tick_params(axis="y", length=0)
    means = table.set_index("level")["mean"].dropna()
    return figure.described(
        f"Dot plot: {measure} of every run, a row a level, beside it the difference to {_said(reference)} "
        f"on the same seeds. Means: {listed(means.rename(index=_said)) or 'no finished run'}."
    )


def loss_weights(epochs: pd.DataFrame, levels: Sequence) -> Figure:
    """The weight of each task's loss over the epochs; a panel a level, a thin line a run.

    Args:
        epochs: ``level``, ``run``, ``epoch`` and ``<task>_weight``.
    """
    levels = [level for level in levels if level in set(epochs["level"])]
    epochs = epochs.assign(epoch=epochs["epoch"] + 1)  # people count from one
    figure = new_figure(1 + 2.8 * max(1, len(levels)), 2.9)
    (axes,) = figure.subplots(1, max(1, len(levels)), sharey=True, squeeze=False)
    for ax, level in zip(axes, levels, strict=False):
        of = epochs[epochs["level"] == level]
        for task, color in TASK_COLORS.items():
            column = f"{task}_weight"
            if column not in of or of[column].isna().all():
                continue
            runs_and_mean(ax, of, "epoch", column, color, task, marker="o", markersize=3)
        ax.set(title=_named(level), xlabel="epoch", xticks=_whole(of["epoch"]))
        ax.legend(frameon=False, fontsize="small")
        plain(ax, "y")
    figure.axes[0].set_ylabel("weight of the loss")
    return figure.described(
        "Lines: the weight of each task's loss over the epochs, a panel for each of "
        f"{', '.join(map(_said, levels)) or 'no level'}; over {epochs['epoch'].max()} epochs."
    )


def by_crops(table: pd.DataFrame) -> Figure:
    """A measure against the number of crops a picture is tested on; a thin line a run, a thick one a level.

    Args:
        table: ``level``, ``run``, ``crops`` and ``value``.
    """
    figure = new_figure(6.4, 3.4)
    ax = figure.subplots()
    for color, (level, of) in zip(COLORS, table.groupby("level", sort=False), strict=False):
        runs_and_mean(ax, of, "crops", "value", color, _named(level), marker="o")
    ax.set(xlabel="crops a picture in testing", ylabel="SRCC", xticks=sorted(set(table["crops"])))
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    plain(ax, "y")
    means = table[table["crops"] == table["crops"].max()].groupby("level", sort=False)["value"].mean()
    return figure.described(
        "Lines: SRCC against the number of crops a picture is tested on. "
        f"With {table['crops'].max()} crops: {listed(means.rename(index=_said))}."
    )


def _said(level) -> str:
    return str(level) or "(default)"


def _named(level) -> str:
    return "\n".join(textwrap.wrap(_said(level), 26))


def _whole(values: pd.Series) -> list[int]:
    """At most about eight whole numbers over a range of epochs."""
    first, last = int(values.min()), int(values.max())
    return list(range(first, last + 1, max(1, (last - first + 1) // 8)))
