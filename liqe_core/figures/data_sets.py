"""Figures of a dataset: its images and its labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import Drawn, legend, listed, palette, panels, plain
from liqe_core.images import read_image


@drawing("mini_levels", "data_preparation", "Distortions of a built-in photograph, from weak to strong.")
@drawing("mini_worst_to_best", "data_preparation", "Images of the built-in dataset, from worst to best.")
def contact_sheet(
    images: pd.DataFrame | Sequence[np.ndarray],
    captions: Sequence[str],
    columns: int = 6,
    size: Sequence[int] | None = None,
) -> Drawn:
    """Draw small images in reading order, with a caption above each.

    Args:
        images: from `saving.image_table`; or arrays, in which case the figure cannot be saved.
        columns: the largest number of columns. size: width and height in pixels of images from a table.
    """
    figure, axes = panels(captions, 2, 1.75, most=columns, least=1.5)
    if isinstance(images, pd.DataFrame):
        files = [read_image(file) for file in images["file"]]
        images = [np.asarray(image.resize((size[0], size[1])) if size else image) for image in files]
    for ax, image in zip(axes, images, strict=True):
        ax.set_axis_off()
        ax.imshow(image)
        ax.title.set_fontsize("small")
    return figure.described(f"A grid of images with captions: {'; '.join(captions)}.")


@drawing("label_counts", "data_preparation", "The number of images of each scene and each distortion.")
def label_counts(table: pd.DataFrame) -> Drawn:
    """Draw the number of images of each scene and each distortion, stacked by dataset.

    Args:
        table: ``axis`` (scene or distortion), ``dataset``, ``word`` and the number of ``images``.
    """
    axes_of_words = ("scene", "distortion")
    figure, axes = panels(axes_of_words, 5.5, 3.8)
    looks = list(product(("", "//", ".."), palette().colors))
    totals = {}
    for ax, axis in zip(axes, axes_of_words, strict=True):
        of_axis = table[table["axis"] == axis]
        counts = of_axis.pivot_table("images", "word", "dataset", "sum", fill_value=0)
        totals[axis] = counts.sum(axis=1).sort_values(ascending=False)
        counts = counts.loc[totals[axis].index]
        starts = counts.cumsum(axis=1) - counts
        for (hatch, color), name in zip(looks, counts.columns, strict=False):
            ax.barh(counts.index, counts[name], left=starts[name], label=name, color=color, hatch=hatch)
        ax.invert_yaxis()
        ax.set(xlabel="images")
        plain(ax, "x")
    legend(figure)
    scenes, distortions = (listed(totals[axis], ".0f") for axis in axes_of_words)
    return figure.described(
        f"Bars: images per scene ({scenes}) and per distortion ({distortions}), stacked by dataset."
    )
