"""Figures of the gMAD competition and its pairs of images, from the data frames of `studies.gmad`."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import Drawn, heat_map, legend, listed, name_rows, palette, panels, plain, signed
from liqe_core.images import read_image

#: Heading, the reason why the column is empty or "", and the images with their captions.
Column = tuple[str, str, list[tuple[Hashable, str]]]
_PIXELS = 640  # the longer side of a drawn image


@drawing("own_attack_resistance", "gmad", "Attack and resistance of the scorers, judged by MOS.")
@drawing("open_attack_resistance", "gmad", "Attack and resistance of the open benchmark's arms.")
def attack_resistance_figure(ranking: pd.DataFrame, attack: pd.DataFrame, resistance: pd.DataFrame) -> Drawn:
    """Draw the tables of a `gmad.Competition`: both matrices as heat maps, and the global strengths."""
    order = list(ranking.index)
    count = len(order)
    titles = [f"{side} (row against column)" for side in ("Attack", "Resistance")]
    figure, (*matrices, axes) = panels(
        [*titles, "Global strength (case V)"],
        1.4 + 0.53 * count,
        1.4 + 0.45 * count,
        most=3 if count <= 4 else 1,
    )
    for ax, matrix, opponent in zip(matrices, (attack, resistance), ("defender", "attacker"), strict=True):
        _heat(ax, matrix.reindex(index=order, columns=order))
        ax.set_xlabel(opponent)
    rows, paint = np.arange(count), palette()
    axes.barh(rows - 0.19, ranking["attack"], 0.34, color=paint.colors[1], label="attack")
    axes.barh(rows + 0.19, ranking["resistance"], 0.34, color=paint.colors[0], label="resistance")
    axes.axvline(0, color=paint.grey)
    name_rows(axes, order)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    legend(figure)
    return figure.described(
        "Two heat maps, attack and resistance of every scorer against every other, and bars of their global "
        f"strength. Attack: {listed(ranking['attack'])}. Resistance: {listed(ranking['resistance'])}."
    )


@drawing("own_verdicts", "gmad", "How often each scorer was right, judged by MOS.")
@drawing("open_verdicts", "gmad", "How often each arm of the open benchmark was right.")
def verdicts_figure(table: pd.DataFrame) -> Drawn:
    """Draw the table of `gmad.how_often_right`: the attackers on the left, the defenders on the right.

    Each scorer has a bar of verdicts, and the share of pairs in which it was right, with its interval.
    """
    scorers = list(dict.fromkeys(table["scorer"]))
    paint, sides = palette(), ("attacker", "defender")
    colors = {"attacker": paint.colors[1], "defender": paint.colors[0], "neither": paint.faint}
    figure, both = panels(["", ""], 5.5, 1.6 + 0.36 * len(scorers), sharey=True)
    for axes, side in zip(both, sides, strict=True):
        of_side = table[table["side"] == side].set_index("scorer").loc[scorers]
        counts = of_side[sorted(colors, key=lambda verdict: verdict != side)]
        starts = counts.cumsum(axis=1) - counts
        for verdict in counts:
            look: dict[str, Any] = {"color": colors[verdict], "label": f"people say: {verdict}"}
            axes.barh(scorers, counts[verdict], left=starts[verdict], **look)
        for scorer, row in of_side.iterrows():
            interval = f"{row['share']:.0%} ({row['low']:.0%} to {row['high']:.0%})"
            text = interval if row["pairs"] else "no pair"
            place = axes.get_yaxis_transform()
            axes.text(1.02, scorer, text, transform=place, va="center", fontsize="small")
        axes.set_title(f"as {side}", loc="left")
        axes.text(1.02, 1.02, "right in", transform=axes.transAxes, va="bottom")
        axes.set_xlabel("pairs (each image in one pair only)")
        plain(axes, "x")
    figure.axes[0].invert_yaxis()  # the y axis is shared
    legend(figure)
    shares = table.set_index(table["scorer"] + " as " + table["side"])["share"].dropna()
    return figure.described(
        "Stacked bars: which scorer was right about the pairs, judged by MOS, for every scorer as attacker "
        f"and as defender. Share of right verdicts: {listed(shares, '.0%')}."
    )


@drawing("pairs", "gmad", "gMAD pairs of two scorers: the attacker's better image above its worse.")
@drawing("task_sets", "gmad", "The strongest disagreements between task sets.")
def pair_grid(pairs: pd.DataFrame, images: pd.DataFrame) -> Drawn:
    """Draw gMAD pairs as in the literature: a column for each pair, the attacker's better image at the top.

    Args:
        pairs: rows of `gmad.gmad_pairs` or `gmad.compete`, in drawing order, at most about 8; the optional
            column `right` of `gmad.who_was_right` is added to the headings.
        images: from `saving.image_table`, with every image that `pairs` names.
    """
    columns: list[Column] = []
    for row in pairs.itertuples(index=False):
        heading = f"{row.defender} fixed at {row.name}\nattacked by {row.attacker}"
        if row.reason:
            columns.append((heading, row.reason, []))
            continue
        if "right" in pairs:
            heading += f"\npeople say: {row.right}"
        cells = [
            (image, f"{row.attacker} {signed(attack)}  ·  {row.defender} {signed(defend)}")
            for image, attack, defend in (
                (row.better, row.attacker_better, row.defender_better),
                (row.worse, row.attacker_worse, row.defender_worse),
            )
        ]
        columns.append((heading, "", cells))
    return image_pairs(columns, images.set_index("image")["file"], ("attacker's better", "attacker's worse"))


def image_pairs(columns: Sequence[Column], files: pd.Series, sides: tuple[str, str]) -> Drawn:
    """Draw columns of two images, one above the other.

    Args:
        files: the files by the image names in `columns`. sides: labels of the upper and the lower row.

    Raises:
        ValueError: there are no columns.
        KeyError: an image has no file. ImageError: an image cannot be read.
    """
    if not columns:
        raise ValueError("no pairs to draw: the table is empty")
    paint = palette()
    headings = [heading for heading, _, _ in columns]
    figure, places = panels(headings, 2.8, 5, most=len(columns), least=2.3, rows=2)
    for pair, (_, reason, cells) in zip(places, columns, strict=True):
        pair[0].title.set_fontweight("bold")
        for row, axes in enumerate(pair):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=paint.grey, linewidth=0.4)  # makes the edge of a white image visible
            if not cells:
                axes.set_facecolor(paint.faint)
                if row == 0:
                    note = textwrap.fill(f"no pair: {reason}", 26)
                    middle: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
                    axes.text(0.5, 0.5, note, fontsize="small", **middle)
                continue
            image, caption = cells[row]
            thumbnail = read_image(files[image])
            thumbnail.thumbnail((_PIXELS, _PIXELS))
            axes.imshow(thumbnail)
            axes.set_xlabel(caption, fontsize="small")
        if pair[0].get_subplotspec().is_first_col():
            for axes, side in zip(pair, sides, strict=True):
                axes.set_ylabel(side, color=paint.grey)
    cells_in_words = "; ".join(
        f"{heading}: " + (reason or " and ".join(caption for _, caption in cells))
        for heading, reason, cells in columns
    )
    return figure.described(f"Pairs of images, {sides[0]} above {sides[1]}. {cells_in_words}.")


def _heat(axes: Axes, matrix: pd.DataFrame) -> None:
    """Draw a matrix in percent with the number in every cell, and "·" for missing ones."""
    paint = palette()
    # Attack by human preference can be negative, which needs a symmetric, diverging color scale.
    shades, least = (paint.diverging, -100) if matrix.min(axis=None) < 0 else (paint.sequential, 0)
    axes.set_facecolor(paint.faint)
    look: dict[str, Any] = {"cmap": shades, "vmin": least, "vmax": 100}
    heat_map(axes, matrix, lambda value: "·" if np.isnan(value) else signed(value, 0), 40, **look)
    axes.spines[:].set_visible(False)
