"""Figures of ablations and of the paper's tables, from the data frames of `ablations` and `paper_tables`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from liqe_core.plots import FAINT, INK, TASK_COLORS

_PAPER = "#CC79A7"
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def ablation(
    table: pd.DataFrame,
    scores: pd.DataFrame,
    reference: object,
    paper: Mapping[object, float] | None = None,
    measure: str = "SRCC",
) -> Figure:
    """A row a level: every run a dot, their mean and spread, and the difference to the reference.

    Args:
        table: from `ablations.compare`.
        scores: from `ablations.scores`; dots of one session and seed are joined.
        reference: the level that differences are taken to.
        paper: the published value of some levels, drawn as a diamond.
    """
    levels, paper = list(table["level"]), paper or {}
    figure = Figure(figsize=(10.5, 1.5 + 0.55 * len(levels)), layout="constrained")
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
                color="#666666",
            )
            continue
        spread = 0 if np.isnan(row.spread) else row.spread
        left.errorbar(row.mean, at, xerr=spread, color=TASK_COLORS["quality"], fmt="o", capsize=4, zorder=3)
        if not np.isnan(row.difference):
            error = 0 if np.isnan(row.difference_spread) else row.difference_spread
            right.errorbar(
                row.difference, at, xerr=error, color=TASK_COLORS["distortion"], fmt="o", capsize=4
            )
    known = {level: value for level, value in paper.items() if level in place and not np.isnan(value)}
    if known:
        rows = [place[level] for level in known]
        left.scatter(
            known.values(), rows, marker="D", s=36, color=_PAPER, label="paper, its six sets", zorder=4
        )
        left.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.22))
    left.set_yticks(range(len(levels)), [_named(level) for level in levels])
    left.set(ylim=(len(levels) - 0.5, -0.5), xlabel=f"{measure}: runs, mean and spread")
    right.axvline(0, color=INK, linewidth=0.9)
    right.set_xlabel(f"less {_named(reference)!r}, same seeds")
    for axes in (left, right):
        _plain(axes, "x")
        axes.tick_params(axis="y", length=0)
    return figure


def loss_weights(epochs: pd.DataFrame, levels: Sequence) -> Figure:
    """The weight of each task's loss over the epochs; a panel a level, a thin line a run.

    Args:
        epochs: ``level``, ``run``, ``epoch`` and ``<task>_weight``.
    """
    levels = [level for level in levels if level in set(epochs["level"])]
    figure = Figure(figsize=(1 + 2.8 * max(1, len(levels)), 2.9), layout="constrained")
    for ax, level in zip(
        figure.subplots(1, max(1, len(levels)), sharey=True, squeeze=False)[0], levels, strict=False
    ):
        of = epochs[epochs["level"] == level]
        for task, color in TASK_COLORS.items():
            column = f"{task}_weight"
            if column not in of or of[column].isna().all():
                continue
            for _, run in of.groupby("run"):
                ax.plot(run["epoch"] + 1, run[column], color=color, linewidth=0.7, alpha=0.5)
            mean = of.groupby("epoch")[column].mean()
            ax.plot(mean.index + 1, mean, color=color, linewidth=2, label=task, marker="o", markersize=3)
        ax.set(title=_named(level), xlabel="epoch", xticks=_whole(of["epoch"] + 1))
        ax.legend(frameon=False, fontsize="small")
        _plain(ax, "y")
    figure.axes[0].set_ylabel("weight of the loss")
    return figure


def by_crops(table: pd.DataFrame) -> Figure:
    """A measure against the number of crops a picture is tested on; a thin line a run, a thick one a level.

    Args:
        table: ``level``, ``run``, ``crops`` and ``value``.
    """
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    ax = figure.subplots()
    for color, (level, of) in zip(_COLORS, table.groupby("level", sort=False), strict=False):
        for _, run in of.groupby("run"):
            ax.plot(run["crops"], run["value"], color=color, linewidth=0.8, alpha=0.5)
        mean = of.groupby("crops")["value"].mean()
        ax.plot(mean.index, mean, color=color, linewidth=2, marker="o", label=_named(level))
    ax.set(xlabel="crops a picture in testing", ylabel="SRCC", xticks=sorted(set(table["crops"])))
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    _plain(ax, "y")
    return figure


def shaded_table(
    text: pd.DataFrame, distance: pd.DataFrame, title: str = "", limit: float = 0.05, label: str = ""
) -> Figure:
    """A table as a figure, a cell shaded by how far ours lies from the published number.

    Args:
        text: what each cell says. distance: ours less published, the same shape; NaN is not shaded.
        limit: the distance of the darkest shade.
    """
    lines = [max(str(cell).count("\n") + 1 for cell in row) for row in text.to_numpy()]
    heights = 0.12 + 0.17 * np.array(lines)  # inches
    top, columns = np.concatenate([[0], heights.cumsum()]), text.shape[1]
    figure = Figure(figsize=(1.9 + 0.86 * columns, 0.9 + top[-1]), layout="constrained")
    ax = figure.subplots()
    shades, scale = colormaps["RdBu"], Normalize(-limit, limit)
    for (i, j), value in np.ndenumerate(distance.to_numpy(dtype=float)):
        known, cell = not np.isnan(value), str(text.iat[i, j])
        color = shades(scale(np.clip(value, -limit, limit))) if known else "#FFFFFF"
        ax.add_patch(Rectangle((j, top[i]), 1, heights[i], facecolor=color, edgecolor=FAINT, linewidth=0.8))
        dark, number = known and abs(value) > 0.7 * limit, cell[:1].isdigit() or cell[:1] == "-"
        ink = "white" if dark else INK if number else "#888888"
        ax.text(j + 0.5, top[i] + heights[i] / 2, cell, ha="center", va="center", fontsize=7.5, color=ink)
    ax.set(xlim=(0, columns), ylim=(top[-1], 0), title=title)
    ax.set_xticks(np.arange(columns) + 0.5, text.columns, fontsize=8)
    ax.set_yticks(top[:-1] + heights / 2, text.index, fontsize=8)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if distance.notna().any(axis=None):
        bar = ScalarMappable(scale, shades)
        figure.colorbar(bar, ax=ax, label=label or "ours less published", fraction=0.03, pad=0.01)
    return figure


def _named(level) -> str:
    return "\n".join(textwrap.wrap(str(level), 26)) or "(default)"


def _whole(values: pd.Series) -> list[int]:
    """At most about eight whole numbers over a range of epochs."""
    first, last = int(values.min()), int(values.max())
    return list(range(first, last + 1, max(1, (last - first + 1) // 8)))


def _plain(ax, grid: str) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(axis=grid, color=FAINT, linewidth=0.6)
