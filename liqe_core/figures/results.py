"""Figures of results: the arms and predictions of the open benchmark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import Drawn, dot, legend, listed, name_rows, palette, panels, plain


@drawing("right_and_wrong", "quickstart", "liqe-tiny's accuracy for each distortion of photographs.")
@drawing("tiny_distortions", "open_benchmark", "liqe-tiny's accuracy for each distortion.")
def right_and_wrong(table: pd.DataFrame) -> Drawn:
    """Draw the accuracy for each distortion, its most frequent wrong prediction, and the majority baseline.

    Args:
        table: a row for each image: ``true_distortion`` (images without it are excluded) and the predicted
            ``distortion``.
    """
    true = table["true_distortion"].dropna()
    predicted = table.loc[true.index, "distortion"]
    shares = (predicted == true).groupby(true).mean().sort_values()
    figure, (ax,) = panels([""], 7, 0.8 + 0.36 * len(shares))
    paint = palette()
    ax.barh(range(len(shares)), shares, color=paint.tasks["distortion"])
    ax.barh(range(len(shares)), 1 - shares, left=shares, color=paint.faint)
    for row, word in enumerate(shares.index):
        wrong_words = predicted[(true == word) & (predicted != word)].value_counts()
        note = "".join(f"wrong: {wrong} ({count})" for wrong, count in wrong_words.head(1).items())
        ax.text(1.02, row, note, va="center", fontsize="small", color=paint.ink)
    ax.set_yticks(range(len(shares)), [f"{word} ({(true == word).sum()})" for word in shares.index])
    most = true.value_counts(normalize=True)
    commonest = f"always {most.index[0]!r}: {most.iloc[0]:.0%}"
    ax.axvline(most.iloc[0], color=paint.grey, linestyle=":", label=commonest)
    overall = f"predicted correctly: {(predicted == true).mean():.0%} of all images"
    ax.set(xlim=(0, 1), xlabel="share predicted correctly", title=overall)
    legend(figure)
    plain(ax, "x")
    return figure.described(
        f"Bars: the accuracy for each distortion; {overall}, {commonest}: {listed(shares[::-1], '.0%')}."
    )


@drawing("arms", "open_benchmark", "Every run of the open benchmark's arms, and their means.")
def arms(runs: pd.DataFrame, order: Sequence[str], title: str = "") -> Drawn:
    """Draw the SRCC of every run, a row for each arm, with a dot for each seed and a bar at the mean.

    Args:
        runs: a row for each run: ``arm``, ``seed`` and ``srcc``.
        order: the arms, from the top.
    """
    figure, (ax,) = panels([title], 7, 0.9 + 0.38 * len(order))
    paint = palette()
    for row, arm in enumerate(order):
        values = runs.loc[runs["arm"] == arm, "srcc"].dropna()
        ax.scatter(values, np.full(len(values), row), s=dot(22), color=paint.colors[0], alpha=0.7, zorder=3)
        if len(values):
            ax.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=paint.ink, linewidth=2)
    name_rows(ax, order)
    ax.set_xlabel("SRCC")
    plain(ax, "both")
    means = runs.groupby("arm")["srcc"].mean().reindex(order).dropna()
    return figure.described(
        f"Dot plot: {title}, SRCC of every seed, one row per arm. Means: {listed(means, '.3f')}."
    )


@drawing("differences", "open_benchmark", "Each arm minus quality alone, with its interval.")
@drawing("differences_labelled", "open_benchmark", "Each arm minus quality alone, on labelled images.")
@drawing("differences_tuned", "open_benchmark", "Each arm minus quality alone, with a trained image tower.")
@drawing("open_differences", "ablations", "Each arm of the open benchmark minus quality alone.")
def differences(table: pd.DataFrame, title: str = "") -> Drawn:
    """Draw differences and their intervals, a row for each arm, with a line at zero.

    Args:
        table: ``arm``, ``difference``, ``low``, ``high``.
    """
    figure = _intervals(table, "difference", "arm", "difference in SRCC, with its interval", title)
    figure.axes[0].axvline(0, color=palette().grey)
    return figure


@drawing("levels", "open_benchmark", "The SRCC of arms and baselines, with intervals.")
def levels(table: pd.DataFrame, title: str = "") -> Drawn:
    """Draw values and their intervals, a row for each method, the highest first.

    Args:
        table: ``method``, ``srcc``, ``low``, ``high``.
    """
    table = table.sort_values("srcc", ascending=False)
    return _intervals(table, "srcc", "method", "SRCC with its interval", title)


def _intervals(table: pd.DataFrame, value: str, name: str, label: str, title: str) -> Drawn:
    rows = np.arange(len(table))
    figure, (ax,) = panels([title], 7, 0.9 + 0.38 * len(table))
    color = palette().colors[0]
    ax.hlines(rows, table["low"], table["high"], color=color, linewidth=2)
    ax.scatter(table[value], rows, s=dot(36), color=color, zorder=3)
    name_rows(ax, list(table[name]))
    ax.set_xlabel(label)
    plain(ax, "both")
    return figure.described(
        f"Dots with intervals: {title}, {label}. {listed(table.set_index(name)[value], '.3f')}."
    )
