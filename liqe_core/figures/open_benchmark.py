"""What the open benchmark found, from its tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from liqe_core.figures.style import dot, drawing, listed, new_figure, palette, panels, plain


@drawing
def right_and_wrong(table: pd.DataFrame, axis: str = "distortion") -> Figure:
    """How often each word's pictures are called by it, and by which other words, a bar a word; a line where
    always naming the commonest word would be, of all pictures.

    Args:
        table: a row a picture: ``true_<axis>`` and ``<axis>``, the word that was said.
        axis: ``distortion`` or ``scene``.
    """
    true, said = table[f"true_{axis}"], table[axis]
    words = (said == true).groupby(true).mean().sort_values().index
    figure, paint = new_figure(7, 0.8 + 0.36 * len(words)), palette()
    ax = figure.subplots()
    for row, word in enumerate(words):
        of = said[true == word]
        share = (of == word).mean()
        ax.barh(row, share, color=paint.tasks[axis])
        ax.barh(row, 1 - share, left=share, color=paint.faint)
        others = of[of != word].value_counts()
        note = f"rather: {others.index[0]} ({others.iloc[0]})" if len(others) else ""
        ax.text(0.99, row, note, ha="right", va="center", fontsize="x-small", color=paint.ink)
    ax.set_yticks(range(len(words)), [f"{word} ({(true == word).sum()})" for word in words])
    most = true.value_counts(normalize=True)
    ax.axvline(most.iloc[0], color=paint.grey, linestyle=":")
    told = f"{(said == true).mean():.0%} of all; always {most.index[0]!r}: {most.iloc[0]:.0%} (dotted)"
    ax.set(xlim=(0, 1), xlabel=f"share called by the right name, {told}")
    plain(ax, "x")
    shares = (said == true).groupby(true).mean().loc[words[::-1]]
    return figure.described(
        f"Bars: how often each {axis} is called by its name, {told}: {listed(shares, '.0%')}."
    )


@drawing
def beside_the_others(table: pd.DataFrame, word: str, quality: float, title: str = "") -> Figure:
    """The answers about many pictures with one fault: what they were called, and the quality they got.

    Args:
        table: a row a picture: ``quality``, ``distortion``.
        word: the right name. quality: of the picture that is shown beside, marked.
    """
    figure, (left, right) = panels(["called", title or "quality"], 3.5, 3, least=3)
    paint = palette()
    counts = table["distortion"].value_counts()
    colors = [paint.tasks["distortion"] if name == word else paint.faint for name in counts.index]
    left.barh(counts.index, counts, color=colors)
    left.invert_yaxis()
    left.set_xlabel(f"of {len(table)} photographs")
    right.hist(table["quality"], bins=list(np.arange(1, 5.01, 0.25)), color=paint.tasks["quality"])
    right.axvline(quality, color=paint.ink, linestyle="--", linewidth=1.2)
    right.set(xlabel="predicted quality", ylabel="photographs")
    for ax in (left, right):
        plain(ax, "x")
    return figure.described(
        f"Left, bars of what {len(table)} pictures with {word} were called: {listed(counts, 'd')}. Right, a "
        f"histogram of their predicted quality, mean {table['quality'].mean():.2f}; the picture beside has "
        f"{quality:.2f}."
    )


@drawing
def arms(runs: pd.DataFrame, order: Sequence[str], measure: str = "srcc", title: str = "") -> Figure:
    """A measure of every run, a row an arm: a dot a seed, a bar at their mean.

    Args:
        runs: a row a run: ``arm``, ``seed`` and the measure.
        order: the arms, from the top.
    """
    figure, paint = new_figure(7, 0.9 + 0.38 * len(order)), palette()
    ax = figure.subplots()
    for row, arm in enumerate(order):
        values = runs.loc[runs["arm"] == arm, measure].dropna()
        ax.scatter(values, np.full(len(values), row), s=dot(22), color=paint.colors[0], alpha=0.7, zorder=3)
        if len(values):
            ax.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=paint.ink, linewidth=2)
    ax.set_yticks(range(len(order)), order)
    ax.invert_yaxis()
    ax.set(xlabel=measure.upper().replace("_", " "), title=title)
    plain(ax, "both")
    means = runs.groupby("arm")[measure].mean().reindex(order).dropna()
    return figure.described(
        f"Dot plot: {title}, {measure.upper().replace('_', ' ')} of every seed, a row an arm. "
        f"Means: {listed(means, '.3f')}."
    )


@drawing
def differences(table: pd.DataFrame, title: str = "") -> Figure:
    """Differences and their intervals, a row each, with a line at none.

    Args:
        table: ``arm``, ``difference``, ``low``, ``high``.
    """
    figure = _intervals(table, "difference", "arm", "difference in SRCC, with its interval", title)
    figure.axes[0].axvline(0, color=palette().grey)
    return figure


@drawing
def levels(table: pd.DataFrame, title: str = "") -> Figure:
    """Values and their intervals, a row each.

    Args:
        table: ``method``, ``srcc``, ``low``, ``high``.
    """
    return _intervals(table, "srcc", "method", "SRCC with people, with its interval", title)


def _intervals(table: pd.DataFrame, value: str, name: str, label: str, title: str) -> Figure:
    rows = np.arange(len(table))
    figure, color = new_figure(7, 0.9 + 0.38 * len(table)), palette().colors[0]
    ax = figure.subplots()
    ax.hlines(rows, table["low"], table["high"], color=color, linewidth=2)
    ax.scatter(table[value], rows, s=dot(36), color=color, zorder=3)
    ax.set_yticks(rows, table[name])
    ax.invert_yaxis()
    ax.set(xlabel=label, title=title)
    plain(ax, "both")
    return figure.described(
        f"Dots with intervals: {title}, {label}. {listed(table.set_index(name)[value], '.3f')}."
    )
