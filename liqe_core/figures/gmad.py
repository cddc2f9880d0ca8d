"""The gMAD competition, from the data frames of `studies.gmad`; its pairs are drawn by `figures.pictures`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liqe_core.figures.style import (
    drawing,
    legend,
    listed,
    new_figure,
    palette,
    panels,
    plain,
    readable_on,
    signed,
)


@drawing
def disagreement_figure(disagreement: pd.DataFrame) -> Figure:
    """`gmad.disagreement` as a heat map, which says so: nobody has judged."""
    count = len(disagreement)
    figure = new_figure(3.4 + 0.75 * count, 2 + 0.5 * count)
    axes = figure.subplots()
    _heat(axes, disagreement)
    axes.set_title("Disagreement: nobody has judged who is right")
    axes.set(xlabel="called equally good by", ylabel="pulled apart by,\nin % of its own range")
    return figure.described(
        "Heat map: how far each scorer pulls apart pictures that another calls equally good, in percent "
        f"of its range; scorers: {', '.join(map(str, disagreement.index))}."
    )


@drawing
def attack_resistance_figure(competition) -> Figure:
    """A `gmad.Competition`: the two matrices as heat maps, and the global strengths beside them."""
    attack, resistance, ranking = competition
    order = list(ranking.index)
    count = len(order)
    titles = [f"{side} (row, against column)" for side in ("Attack", "Resistance")]
    figure, (*matrices, axes) = panels(
        [*titles, "Global strength (case V)"],
        1.4 + 0.53 * count,
        1.4 + 0.45 * count,
        ratios=[count, count, 0.75 * count + 0.6],
    )
    for ax, matrix, other in zip(matrices, (attack, resistance), ("defender", "attacker"), strict=True):
        _heat(ax, matrix.reindex(index=order, columns=order))
        ax.set_xlabel(other)
    rows, paint = np.arange(count), palette()
    axes.barh(rows - 0.19, ranking["attack"], 0.34, color=paint.colors[1], label="attack")
    axes.barh(rows + 0.19, ranking["resistance"], 0.34, color=paint.colors[0], label="resistance")
    axes.axvline(0, color=paint.grey)
    axes.set_yticks(rows, order)
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    legend(figure)
    return figure.described(
        "Two heat maps, attack and resistance of every scorer against every other, and bars of their global "
        f"strength. Attack: {listed(ranking['attack'])}. Resistance: {listed(ranking['resistance'])}."
    )


@drawing
def verdicts_figure(table: pd.DataFrame) -> Figure:
    """`gmad.how_often_right`: attacking on the left, defending on the right, a bar a scorer; beside it how
    often that scorer was right, with its interval."""
    scorers = list(dict.fromkeys(table["scorer"]))
    paint, sides = palette(), ("attacker", "defender")
    colors = {"attacker": paint.colors[1], "defender": paint.colors[0], "neither": paint.faint}
    figure, both = panels(["", ""], 5.5, 1.6 + 0.36 * len(scorers), sharey=True)
    for axes, side in zip(both, sides, strict=True):
        of = table[table["side"] == side].set_index("scorer").loc[scorers]
        left = np.zeros(len(of))
        for who in (side, *(who for who in colors if who != side)):
            axes.barh(scorers, of[who], left=left, color=colors[who], label=f"people say: {who}")
            left += of[who].to_numpy()
        for scorer, row in of.iterrows():
            share, low, high = (f"{row[key]:.0%}" for key in ("share", "low", "high"))
            told = f"{share} ({low} to {high})" if row["pairs"] else "no pair"
            beside: dict[str, Any] = {
                "transform": axes.get_yaxis_transform(),
                "va": "center",
                "fontsize": "small",
            }
            axes.text(1.02, scorer, told, **beside)
        axes.set_title(f"as {side}", loc="left")
        axes.text(1.02, 1.02, "right in", transform=axes.transAxes, va="bottom")
        axes.set_xlabel("pairs, no picture in two of them")
        plain(axes, "x")
    figure.axes[0].invert_yaxis()  # shared, so of both
    legend(figure)
    shares = table.assign(who=table["scorer"] + " as " + table["side"]).set_index("who")["share"].dropna()
    return figure.described(
        "Stacked bars: who was right about the pairs, by people's scores, for every scorer as attacker "
        f"and as defender. Right in: {listed(shares, '.0%')}."
    )


def _heat(axes: Axes, matrix: pd.DataFrame) -> None:
    """A matrix in percent, every number written; "·" where there is none."""
    values = matrix.to_numpy(dtype=float)
    paint = palette()
    # Aggressiveness by human preference can be negative; then the scale is symmetric and diverging.
    shades, least = (paint.diverging, -100) if np.nanmin(values, initial=0) < 0 else (paint.sequential, 0)
    axes.set_facecolor(paint.faint)
    shown = axes.imshow(np.ma.masked_invalid(values), cmap=shades, vmin=least, vmax=100)
    for (i, j), value in np.ndenumerate(values):
        text = "·" if np.isnan(value) else signed(value, 0)
        color = paint.ink if np.isnan(value) else readable_on(shown.to_rgba(value))
        axes.text(j, i, text, ha="center", va="center", color=color)
    names = list(matrix.columns)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(matrix)), matrix.index)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
