"""What models reach: the open benchmark's arms and answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import Drawn, dot, legend, listed, name_rows, palette, panels, plain


@drawing("right_and_wrong", "quickstart", "How often liqe-tiny names each distortion of photographs rightly.")
@drawing("tiny_distortions", "open_benchmark", "How often liqe-tiny names each distortion rightly.")
def right_and_wrong(table: pd.DataFrame) -> Drawn:
    """How often each distortion's images are called by it, and by which other words, a bar a distortion; a
    line where always naming the commonest would be, of all images.

    Args:
        table: a row an image: ``true_distortion``, without which it is left out, and the predicted
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
    overall = f"named correctly: {(predicted == true).mean():.0%} of all images"
    ax.set(xlim=(0, 1), xlabel="share named correctly", title=overall)
    legend(figure)
    plain(ax, "x")
    return figure.described(
        f"Bars: how often each distortion is named correctly; {overall}, {commonest}: "
        f"{listed(shares[::-1], '.0%')}."
    )


@drawing("arms", "open_benchmark", "Every run of the open benchmark's arms, and their means.")
def arms(runs: pd.DataFrame, order: Sequence[str], title: str = "") -> Drawn:
    """The SRCC of every run, a row an arm: a dot a seed, a bar at their mean.

    Args:
        runs: a row a run: ``arm``, ``seed`` and ``srcc``.
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
        f"Dot plot: {title}, SRCC of every seed, a row an arm. Means: {listed(means, '.3f')}."
    )


@drawing("differences", "open_benchmark", "Each arm minus quality alone, with its interval.")
@drawing("differences_labelled", "open_benchmark", "The same, trained on labelled images alone.")
@drawing("differences_tuned", "open_benchmark", "The same, the image tower trains too.")
@drawing("open_differences", "ablations", "What each arm of the open benchmark has more than quality alone.")
def differences(table: pd.DataFrame, title: str = "") -> Drawn:
    """Differences and their intervals, a row each, with a line at none.

    Args:
        table: ``arm``, ``difference``, ``low``, ``high``.
    """
    figure = _intervals(table, "difference", "arm", "difference in SRCC, with its interval", title)
    figure.axes[0].axvline(0, color=palette().grey)
    return figure


@drawing("levels", "open_benchmark", "What the arms and simple methods reach, with intervals.")
def levels(table: pd.DataFrame, title: str = "") -> Drawn:
    """Values and their intervals, a row each, the highest first.

    Args:
        table: ``method``, ``srcc``, ``low``, ``high``.
    """
    table = table.sort_values("srcc", ascending=False)
    return _intervals(table, "srcc", "method", "SRCC with people, with its interval", title)


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
