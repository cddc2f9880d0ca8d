"""What a dataset is: its images, its scores, its labels, its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import Drawn, legend, listed, name_rows, palette, panels, plain
from liqe_core.images import read_image


@drawing("mini_levels", "data_preparation", "Distortions of one built-in photograph, weak to strong.")
@drawing("mini_worst_to_best", "data_preparation", "Images of the built-in dataset, from worst to best.")
def contact_sheet(
    images: pd.DataFrame | Sequence[np.ndarray],
    captions: Sequence[str],
    columns: int = 6,
    size: Sequence[int] | None = None,
) -> Drawn:
    """Small images in reading order, a caption above each.

    Args:
        images: from `saving.image_table`; or arrays, and then the figure cannot be saved.
        columns: at most. size: width and height in pixels to show the files of a table at.
    """
    figure, axes = panels(captions, 2, 1.75, most=columns, least=1.5)
    if isinstance(images, pd.DataFrame):
        files = [read_image(file) for file in images["file"]]
        images = [np.asarray(image.resize((size[0], size[1])) if size else image) for image in files]
    for ax, image in zip(axes, images, strict=True):
        ax.set_axis_off()
        ax.imshow(image)
        ax.title.set_fontsize("small")
    return figure.described(f"Images side by side, captioned: {'; '.join(captions)}.")


@drawing("score_histograms", "data_preparation", "Human scores of the datasets, each on its own scale.")
def score_histograms(table: pd.DataFrame) -> Drawn:
    """Human scores of every data set, side by side, each on its own scale.

    Args:
        table: ``dataset``, ``mos``.
    """
    sets = list(dict.fromkeys(table["dataset"]))
    figure, axes = panels(sets, 2.9, 2.5, least=2)
    for ax, name in zip(axes, sets, strict=True):
        ax.hist(table.loc[table["dataset"] == name, "mos"], bins=30, color=palette().tasks["quality"])
        ax.set_xlabel("score")
        plain(ax, "y")
    ranges = table.groupby("dataset", sort=False)["mos"].agg(["min", "max"])
    scales = ", ".join(f"{row.Index} {row.min:.3g} to {row.max:.3g}" for row in ranges.itertuples())
    return figure.described(f"Histograms of human scores, a panel a dataset, each on its scale: {scales}.")


@drawing("label_counts", "data_preparation", "How many images show each scene and each distortion.")
def label_counts(table: pd.DataFrame) -> Drawn:
    """How many images show each scene and each distortion; datasets stacked.

    Args:
        table: ``axis`` (scene or distortion), ``dataset``, ``word`` and how many ``images``.
    """
    axes_of_words = ("scene", "distortion")
    figure, axes = panels(axes_of_words, 5.5, 3.8)
    looks: list[dict[str, Any]] = [
        {"color": c, "hatch": h} for h in ("", "//", "..") for c in palette().colors
    ]
    totals = {}
    for ax, axis in zip(axes, axes_of_words, strict=True):
        of_axis = table[table["axis"] == axis]
        counts = of_axis.pivot_table("images", "word", "dataset", "sum", fill_value=0)
        totals[axis] = counts.sum(axis=1).sort_values(ascending=False)
        counts = counts.loc[totals[axis].index]
        start = np.zeros(len(counts))
        for look, name in zip(looks, counts.columns, strict=False):
            ax.barh(range(len(counts)), counts[name], left=start, label=name, **look)
            start += counts[name].to_numpy()
        name_rows(ax, counts.index)
        ax.set(xlabel="images")
        plain(ax, "x")
    legend(figure)
    scenes, distortions = (listed(totals[axis], ".0f") for axis in axes_of_words)
    return figure.described(
        f"Bars: images a scene ({scenes}) and a distortion ({distortions}), stacked by dataset."
    )


@drawing("session_sizes", "data_preparation", "How many images each session trains, validates and tests on.")
def session_sizes(table: pd.DataFrame) -> Drawn:
    """How many images each session trains on, validates on and tests on; a panel a dataset.

    Args:
        table: ``dataset``, ``session`` from 1, ``part`` and how many ``images``.
    """
    sets, sessions = table["dataset"].unique(), sorted(table["session"].unique())
    figure, axes = panels(sets, 3.1, 2.4, least=2.2)
    colors = dict(zip(("train", "val", "test"), palette().colors, strict=False))
    for ax, name in zip(axes, sets, strict=True):
        bottom = np.zeros(len(sessions))
        for part, color in colors.items():
            of_part = table[(table["dataset"] == name) & (table["part"] == part)]
            counts = of_part.set_index("session")["images"].reindex(sessions, fill_value=0).to_numpy()
            ax.bar(sessions, counts, bottom=bottom, color=color, label=part)
            bottom += counts
        ax.set(xlabel="session", xticks=sessions)
        plain(ax, "y")
    legend(figure, axes)
    return figure.described(
        f"Stacked bars: images to train, validate and test on in {len(sessions)} sessions, "
        f"a panel for each of {', '.join(sets)}."
    )
