"""The gMAD competition, from the data frames of `studies.gmad`; its pairs are drawn by `figures.pictures`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liqe_core.figures.style import COLORS, FAINT, GREY, listed, new_figure, plain, signed

#: Who was right, and how it is drawn.
RIGHT_COLORS = {"attacker": COLORS[1], "defender": COLORS[0], "neither": FAINT}


def disagreement_figure(disagreement: pd.DataFrame) -> Figure:
    """`gmad.disagreement` as a heat map, which says so: nobody has judged."""
    count = len(disagreement)
    figure = new_figure(3.4 + 0.75 * count, 2 + 0.5 * count)
    axes = figure.subplots()
    _heat(axes, disagreement)
    axes.set_title("Disagreement: nobody has judged who is right", fontsize="medium")
    axes.set(xlabel="called equally good by", ylabel="pulled apart by,\nin % of its own range")
    return figure.described(
        "Heat map: how far each scorer pulls apart pictures that another calls equally good, in percent "
        f"of its range; scorers: {', '.join(map(str, disagreement.index))}."
    )


def attack_resistance_figure(competition) -> Figure:
    """A `gmad.Competition`: the two matrices as heat maps, and the global strengths beside them."""
    attack, resistance, ranking = competition
    order = list(ranking.index)
    count = len(order)
    figure = new_figure(4.2 + 1.6 * count, 1.9 + 0.55 * count)
    panels = figure.subplots(1, 3, width_ratios=[count, count, 0.75 * count + 0.6])
    for axes, matrix, title, other in (
        (panels[0], attack, "Attack", "defender"),
        (panels[1], resistance, "Resistance", "attacker"),
    ):
        _heat(axes, matrix.reindex(index=order, columns=order))
        axes.set_title(f"{title} (row, against column)", fontsize="medium")
        axes.set_xlabel(other)
    axes, rows = panels[2], np.arange(count)
    axes.barh(rows - 0.19, ranking["attack"], 0.34, color=COLORS[1], label="attack")
    axes.barh(rows + 0.19, ranking["resistance"], 0.34, color=COLORS[0], label="resistance")
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(rows, order)
    axes.invert_yaxis()
    axes.set_title("Global strength (case V)", fontsize="medium")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return figure.described(
        "Two heat maps, attack and resistance of every scorer against every other, and bars of their global "
        f"strength. Attack: {listed(ranking['attack'])}. Resistance: {listed(ranking['resistance'])}."
    )


def verdicts_figure(table: pd.DataFrame) -> Figure:
    """`gmad.how_often_right`: attacking on the left, defending on the right, a bar a scorer; beside it how
    often that scorer was right, with its interval."""
    scorers = list(dict.fromkeys(table["scorer"]))
    figure = new_figure(11, 1.6 + 0.36 * len(scorers))
    for axes, side in zip(figure.subplots(1, 2, sharey=True), ("attacker", "defender"), strict=True):
        of = table[table["side"] == side].set_index("scorer").loc[scorers]
        left = np.zeros(len(of))
        for who in (side, *(who for who in RIGHT_COLORS if who != side)):
            axes.barh(scorers, of[who], left=left, color=RIGHT_COLORS[who], label=who)
            left += of[who].to_numpy()
        for scorer, row in of.iterrows():
            share, low, high = (f"{row[key]:.0%}" for key in ("share", "low", "high"))
            told = f"{share} ({low} to {high})" if row["pairs"] else "no pair"
            beside = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": "small"}
            axes.text(1.02, scorer, told, **beside)
        axes.set_title(f"as {side}", loc="left", fontsize="medium")
        axes.text(1.02, 1.02, "right in", transform=axes.transAxes, va="bottom")
        axes.set_xlabel("pairs, no picture in two of them")
        plain(axes, "x")
    figure.axes[0].invert_yaxis()  # shared, so of both
    labels = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(
        [labels[who] for who in RIGHT_COLORS],
        [f"people say: {who}" for who in RIGHT_COLORS],
        frameon=False,
        loc="outside lower center",
        ncols=3,
        fontsize="small",
    )
    shares = table.assign(who=table["scorer"] + " as " + table["side"]).set_index("who")["share"].dropna()
    return figure.described(
        "Stacked bars: who was right about the pairs, by people's scores, for every scorer as attacker "
        f"and as defender. Right in: {listed(shares, '.0%')}."
    )


def _heat(axes: Axes, matrix: pd.DataFrame) -> None:
    """A matrix in percent, every number written; "·" where there is none."""
    values = matrix.to_numpy(dtype=float)
    # Aggressiveness by human preference can be negative; then the scale is symmetric and diverging.
    shades, least = ("RdBu", -100) if np.nanmin(values, initial=0) < 0 else ("Blues", 0)
    axes.set_facecolor("#EEEEEE")
    axes.imshow(np.ma.masked_invalid(values), cmap=shades, vmin=least, vmax=100)
    for (i, j), value in np.ndenumerate(values):
        text = "·" if np.isnan(value) else signed(value, 0)
        axes.text(j, i, text, ha="center", va="center", color="white" if abs(value) > 60 else "black")
    names = list(matrix.columns)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(matrix)), matrix.index)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
