"""Pictures side by side, each with what is said of it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from liqe_core.figures.style import drawing, palette, panels, signed, stacked
from liqe_core.images import PictureError, read_picture

Paths = Mapping[Hashable, str | os.PathLike]
#: Heading, why it is empty or "", and the pictures with their captions.
Column = tuple[str, str, list[tuple[Hashable, str]]]
_PIXELS = 640  # the longer side of a drawn picture


@drawing
def contact_sheet(pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6) -> Figure:
    """Small pictures in reading order, a caption above each."""
    figure, axes = panels(captions, 2, 1.75, most=columns, least=1.5)
    for ax, picture in zip(axes, pictures, strict=True):
        ax.set_axis_off()
        ax.imshow(picture)
        ax.title.set_fontsize("small")
    return figure.described(f"Pictures side by side, captioned: {'; '.join(captions)}.")


@drawing
def pair_grid(pairs: pd.DataFrame, paths: Paths) -> Figure:
    """gMAD pairs as in the literature: a column a pair, the attacker's better image above its worse one.

    Args:
        pairs: rows of `gmad.gmad_pairs` or `gmad.compete`, in the order to draw, at most about 8; with a
            column `right` from `gmad.who_was_right`, who that is stands above.
        paths: the file of every image that `pairs` names.
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
    return _picture_grid(columns, paths, ("attacker's better", "attacker's worse"))


@drawing
def same_score_grid(pairs: pd.DataFrame, paths: Paths) -> Figure:
    """Images of two data sets with the same score that lie apart once realigned: a column a row of the table.

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
    return _picture_grid(columns, paths, ("better, realigned", "worse, realigned"))


def _picture_grid(columns: list[Column], paths: Paths, sides: tuple[str, str]) -> Figure:
    """Two pictures a column."""
    if not columns:
        raise ValueError("no pairs to draw: the table is empty")
    paint = palette()
    figure, places = stacked(len(columns), 2.8, 5, 2, least=2.3)
    for pair, (heading, reason, cells) in zip(places, columns, strict=True):
        pair[0].set_title(heading, fontweight="bold")
        for row, axes in enumerate(pair):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=paint.grey, linewidth=0.4)  # a white picture keeps its edge
            if not cells:
                axes.set_facecolor(paint.faint)
                if row == 0:
                    _note(axes, f"no pair: {reason}")
                continue
            image, caption = cells[row]
            if image not in paths:
                raise KeyError(f"no path for image {image!r}: add it to `paths`")
            try:
                picture = read_picture(paths[image])
                picture.thumbnail((_PIXELS, _PIXELS))
                axes.imshow(picture)
            except PictureError as error:
                _note(axes, f"{image} cannot be drawn: {error}")
            axes.set_xlabel(caption, fontsize="small")
        if pair[0].get_subplotspec().is_first_col():
            for axes, side in zip(pair, sides, strict=True):
                axes.set_ylabel(side, color=paint.grey)
    told = "; ".join(
        f"{heading}: " + (reason or " and ".join(caption for _, caption in cells))
        for heading, reason, cells in columns
    )
    return figure.described(f"Pairs of pictures, {sides[0]} above {sides[1]}. {told}.")


def _note(axes, text: str) -> None:
    wrapped = "\n".join(textwrap.wrap(text, 26))
    axes.text(0.5, 0.5, wrapped, transform=axes.transAxes, ha="center", va="center", fontsize="small")
