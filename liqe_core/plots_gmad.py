"""Figures of the gMAD competition and of realignment, from the data frames of `gmad` and `realign`.

Every function returns a `matplotlib.figure.Figure` of its own, outside pyplot: nothing stays open, and the
caller saves it (``figure.savefig("pairs.svg")``) or shows it as a notebook cell's value.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's colours, told apart by colour-blind readers too; line styles tell them apart in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_GREY = "#666666"
_PIXELS = 640  # the longer side of a drawn picture

Paths = Mapping[Hashable, str | os.PathLike]


def pair_grid(pairs: pd.DataFrame, paths: Paths) -> Figure:
    """gMAD pairs as in the literature: a column a pair, the attacker's better image above its worse one.

    Args:
        pairs: rows of `gmad.gmad_pairs` or `gmad.compete`, in the order to draw, at most about 8.
        paths: the file of every image that `pairs` names.
    """
    columns = []
    for row in pairs.itertuples(index=False):
        heading = f"{row.defender} fixed at {row.name}\nattacked by {row.attacker}"
        if row.reason:
            columns.append((heading, row.reason, []))
            continue
        cells = [
            (image, f"{row.attacker} {_number(attack)}  ·  {row.defender} {_number(defend)}")
            for image, attack, defend in (
                (row.better, row.attacker_better, row.defender_better),
                (row.worse, row.attacker_worse, row.defender_worse),
            )
        ]
        columns.append((heading, "", cells))
    return _picture_grid(columns, paths, ("attacker's better", "attacker's worse"))


def same_score_grid(pairs: pd.DataFrame, paths: Paths) -> Figure:
    """Images of two data sets with the same score and a different quality: a column a row of the table.

    Args:
        pairs: rows of `realign.same_score_pairs`, in the order to draw, at most about 8.
        paths: the file of every image that `pairs` names.
    """
    columns = []
    for row in pairs.itertuples(index=False):
        heading = f"raw score {(row.better_raw + row.worse_raw) / 2:.2f}\n{row.gap:.2f} apart"
        cells = [
            (row.better, f"{row.better_dataset}  ·  realigned {row.better_aligned:.2f}"),
            (row.worse, f"{row.worse_dataset}  ·  realigned {row.worse_aligned:.2f}"),
        ]
        columns.append((heading, "", cells))
    return _picture_grid(columns, paths, ("better in fact", "worse in fact"))


def attack_resistance_figure(competition) -> Figure:
    """A `gmad.Competition`: the two matrices as heat maps, and the global strengths beside them."""
    attack, resistance, ranking = competition
    order = list(ranking.index)
    count = len(order)
    figure = Figure(figsize=(4.2 + 1.6 * count, 1.9 + 0.55 * count), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=[count, count, 0.75 * count + 0.6])
    for axes, matrix, title, other in (
        (panels[0], attack, "Attack", "defender"),
        (panels[1], resistance, "Resistance", "attacker"),
    ):
        values = matrix.reindex(index=order, columns=order).to_numpy(dtype=float)
        # Aggressiveness by human preference can be negative; then the scale is symmetric and diverging.
        negative = bool(np.nanmin(values, initial=0) < 0)
        shades = (
            {"cmap": "RdBu", "vmin": -100, "vmax": 100}
            if negative
            else {"cmap": "Blues", "vmin": 0, "vmax": 100}
        )
        axes.set_facecolor("#EEEEEE")
        axes.imshow(np.ma.masked_invalid(values), **shades)
        for (i, j), value in np.ndenumerate(values):
            text = "·" if np.isnan(value) else _number(value, 0)
            axes.text(j, i, text, ha="center", va="center", color="white" if abs(value) > 60 else "black")
        axes.set_xticks(range(count), order, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), order)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{title} (row, against column)", fontsize="medium")
        axes.set_xlabel(other)
    axes, rows = panels[2], np.arange(count)
    axes.barh(rows - 0.19, ranking["attack"], 0.34, color=_COLOURS[1], label="attack")
    axes.barh(rows + 0.19, ranking["resistance"], 0.34, color=_COLOURS[0], label="resistance")
    axes.axvline(0, color=_GREY, linewidth=0.8)
    axes.set_yticks(rows, order)
    axes.invert_yaxis()
    axes.set_title("Global strength (case V)", fontsize="medium")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return figure


def realignment_panels(
    scores: pd.DataFrame, points: pd.DataFrame, scale=(1.0, 5.0), most: int = 2000
) -> Figure:
    """Human score against prediction, a column a data set: the set's own scale above, realigned below.

    Args:
        scores: `Realignment.scores`.
        points: `realign.curve_points`; a set without a curve says so.
        scale: the common scale's ends.
        most: dots a panel at most, evenly taken.
    """
    sets = list(pd.unique(scores["dataset"]))
    figure = Figure(figsize=(1.1 + 1.95 * len(sets), 4.7), layout="constrained")
    panels = figure.subplots(2, len(sets), sharex=True, sharey="row", squeeze=False)
    for column, name in enumerate(sets):
        colour = _COLOURS[column % len(_COLOURS)]
        rows = scores[scores["dataset"] == name].dropna(subset=["prediction", "raw"])
        dots = rows.iloc[:: max(1, -(-len(rows) // most))]
        curve = points[points["dataset"] == name]
        before, after = panels[:, column]
        for axes, y in ((before, "raw"), (after, "aligned")):
            axes.scatter(
                dots["prediction"], dots[y], s=4, color=colour, alpha=0.35, linewidths=0, rasterized=True
            )
            axes.spines[["top", "right"]].set_visible(False)
        before.plot(curve["prediction"], curve["raw"], color="black", linewidth=1.6)
        after.plot(scale, scale, color="black", linewidth=1, linestyle=(0, (4, 3)))
        if curve.empty:
            after.text(0.5, 0.5, "no curve", transform=after.transAxes, ha="center", color=_GREY)
        before.set_title(f"{name}\n{len(rows):,} images", fontsize="medium")
        room = 0.03 * (scale[1] - scale[0])  # so that dots on the border are whole
        ends = (scale[0] - room, scale[1] + room)
        after.set(xlim=ends, ylim=ends, xticks=np.arange(np.ceil(scale[0]), scale[1] + 1e-9))
    panels[0, 0].set(ylabel="before: score / range", ylim=(-0.03, 1.03))
    panels[1, 0].set_ylabel("after: common scale")
    figure.supxlabel("prediction", fontsize="medium")
    return figure


def realignment_overview(curves: pd.DataFrame, points: pd.DataFrame, scale=(1.0, 5.0)) -> Figure:
    """All sets in one: their curves, and where the tenths of each set's range land on the common scale.

    Args:
        curves: `Realignment.curves`, for the numbers beside the sets.
        points: `realign.curve_points`.
        scale: the common scale's ends.
    """
    sets = list(pd.unique(points["dataset"]))
    figure = Figure(figsize=(10.2, max(3.6, 2.1 + 0.42 * len(sets))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.35])
    tenths = np.arange(1, 10) / 10
    naive = pd.DataFrame({"raw": [0.0, 1.0], "prediction": scale})
    for row, name in enumerate(["naive", *sets]):
        if row == 0:
            curve, colour, style = naive, _GREY, (0, (1, 2))
        else:
            curve = points[points["dataset"] == name].sort_values("prediction")
            colour, style = _COLOURS[(row - 1) % len(_COLOURS)], _STYLES[(row - 1) % len(_STYLES)]
            shift, stretch = curves.loc[name, ["shift", "stretch"]]
            beside = f"shift {'−' if shift < 0 else '+'}{abs(shift):.2f}   stretch {stretch:.2f}"
            place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": "small"}
            right.annotate(beside, (1.01, row), **place)
        left.plot(curve["prediction"], curve["raw"], color=colour, linestyle=style, linewidth=1.8, label=name)
        reached = tenths[(tenths >= curve["raw"].min()) & (tenths <= curve["raw"].max())]
        lands = np.interp(reached, curve["raw"], curve["prediction"])
        right.plot(curve["prediction"].iloc[[0, -1]], [row, row], color=colour, linewidth=1.2, alpha=0.6)
        right.scatter(
            lands, np.full(len(lands), row), c=reached, cmap="viridis", vmin=0, vmax=1, s=34, zorder=3
        )
        if row == 0:
            for x, tenth in zip(lands, reached, strict=True):
                right.annotate(
                    f"{tenth:.1f}", (x, -0.3), ha="center", va="bottom", fontsize="x-small", color=_GREY
                )
    left.set(xlim=scale, ylim=(0, 1), xlabel="prediction (common scale)", ylabel="human score / range")
    left.legend(frameon=False, fontsize="small", handlelength=3)
    left.set_title("Before: what each set's score means", fontsize="medium")
    right.set(xlim=scale, ylim=(len(sets) + 0.5, -0.8), xlabel="common scale")
    right.set_xticks(np.arange(np.ceil(scale[0]), scale[1] + 1e-9))
    right.set_yticks(range(len(sets) + 1), ["naive", *sets])
    right.tick_params(axis="y", length=0)
    right.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    right.set_axisbelow(True)
    right.set_title("After: where the tenths of its range land", fontsize="medium")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    right.spines["left"].set_visible(False)
    return figure


def _picture_grid(columns: list[tuple[str, str, list]], paths: Paths, sides: tuple[str, str]) -> Figure:
    """Two pictures a column; a column is (heading, why it is empty or "", [(image, caption), ...])."""
    if not columns:
        raise ValueError("no pairs to draw: the table is empty")
    figure = Figure(figsize=(0.5 + 2.75 * len(columns), 5.6), layout="constrained")
    panels = figure.subplots(2, len(columns), squeeze=False)
    for column, (heading, reason, cells) in enumerate(columns):
        panels[0, column].set_title(heading, fontsize="medium", fontweight="bold")
        for row, axes in enumerate(panels[:, column]):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color="#BBBBBB", linewidth=0.6)  # a white picture keeps its edge
            if not cells:
                axes.set_facecolor("#F4F4F4")
                if row == 0:
                    _note(axes, f"no pair: {reason}")
                continue
            image, caption = cells[row]
            if image not in paths:
                raise KeyError(f"no path for image {image!r}: add it to `paths`")
            try:
                with Image.open(paths[image]) as picture:
                    picture = picture.convert("RGB")
                picture.thumbnail((_PIXELS, _PIXELS))
                axes.imshow(picture)
            except OSError as error:
                _note(axes, f"{image} cannot be drawn: {error}")
            axes.set_xlabel(caption, fontsize="small")
    for axes, side in zip(panels[:, 0], sides, strict=True):
        axes.set_ylabel(side, color=_GREY)
    return figure


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _note(axes, text: str) -> None:
    wrapped = "\n".join(textwrap.wrap(text, 26))
    axes.text(
        0.5, 0.5, wrapped, transform=axes.transAxes, ha="center", va="center", color=_GREY, fontsize="small"
    )
