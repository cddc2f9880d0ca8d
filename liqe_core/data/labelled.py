"""Datasets for training and evaluation: images and their labels, aligned.

A label table has one row per image. Its columns are the same for all datasets: ``dataset, image, mos,
distortion, distortion_group, scenes, reference, session_1 .. session_10``.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from liqe_core.crops import CropGeometry, random_crops, testing_crops, training_crops
from liqe_core.data.distorted import make_missing
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import Manifest, load_manifest
from liqe_core.data.presence import find_images, refuse_missing
from liqe_core.data.splits import PARTS, SESSION_COLUMNS, random_sessions, with_validation
from liqe_core.data.store import ImageSource, KeptWindows, PackedStore
from liqe_core.files import json_sha256
from liqe_core.prompts import PromptGrid

Images = Sequence[np.ndarray] | PackedStore | KeptWindows

#: The range of the longer side, in pixels, for images of random size (log-uniform).
SIDES = (256, 1024)


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Images of one dataset with their labels, aligned.

    Attributes:
        name: name of the dataset.
        table: the label table, index 0..n-1.
        images: n arrays (H, W, 3) uint8, already resized for the crop geometry: a list, or a `PackedStore`
            that maps them from disk. Alternatively `KeptWindows`, their embeddings by a frozen tower.
        left_out: labelled images that are not in the table, with the reason for each.
        any_size: resize an image to a random size within `SIDES`, at least the size of a crop, each time it
            is used.
        grey: (n,) probability that an image is converted to grey each time it is used.
    """

    name: str
    table: pd.DataFrame
    images: Images
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    any_size: bool = False
    grey: np.ndarray | None = None

    def __post_init__(self):
        if len(self.table) != len(self.images):
            raise ValueError(f"{self.name}: {len(self.table)} labels for {len(self.images)} images")

    def __len__(self) -> int:
        return len(self.table)

    def training_crops(
        self, row: int, geometry: CropGeometry, count: int, rng: np.random.Generator
    ) -> Tensor:
        """Return random crops of an image (see `crops.training_crops`), or their kept embeddings."""
        if isinstance(self.images, KeptWindows):
            return self.images.for_training(row, count, rng)
        return training_crops(self._varied(row, geometry, rng), geometry, count, rng, self.names[row])

    def testing_crops(self, row: int, geometry: CropGeometry, seed: int | None = None) -> Tensor:
        """Return the crops on which an image is tested, or their kept embeddings.

        Args:
            seed: None: evenly spaced crops. An integer: random crops (see `crops.random_crops`) that depend
                only on the seed and the row.

        Raises:
            ImageError: the image is smaller than a crop; the message names it.
            TypeError: a seed was given, but only embeddings of evenly spaced windows were kept.
        """
        if isinstance(self.images, KeptWindows):
            if seed is not None:
                raise TypeError(f"{self.name}: only evenly spaced windows were kept; pass images, or no seed")
            return self.images.for_testing(row)
        if seed is not None:
            rng = np.random.default_rng((seed, row))
            return random_crops(self.images[row], geometry, rng, self.names[row])
        return testing_crops(
            self._varied(row, geometry, np.random.default_rng(row)), geometry, self.names[row]
        )

    def _varied(self, row: int, geometry: CropGeometry, rng: np.random.Generator) -> np.ndarray:
        """Return the pixels of an image, with the dataset's random resizing and grey conversion."""
        pixels = self.images[row]
        if self.grey is not None and rng.random() < self.grey[row]:
            pixels = np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))
        if self.any_size:
            side = np.exp(rng.uniform(*np.log(SIDES)))
            scale = max(side / max(pixels.shape), geometry.window / min(pixels.shape[:2]))
            size = [max(geometry.window, round(length * scale)) for length in pixels.shape[1::-1]]
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        return pixels

    def too_small(self, window: int) -> dict[str, str]:
        """Return the images with a side under `window` pixels, and their sizes as text."""
        if isinstance(self.images, KeptWindows):
            return {}  # sizes were checked before the embeddings were computed
        shapes = (self.images[row].shape for row in range(len(self)))
        pairs = zip(self.table["image"], shapes, strict=True)
        return {image: f"{w} x {h} pixels" for image, (h, w, _) in pairs if min(w, h) < window}

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the images for messages: ``dataset/file``."""
        return [f"{self.name}/{image}" for image in self.table["image"]]

    def part(self, session: int, part: str) -> np.ndarray:
        """Return the row numbers of the images in ``train``, ``val`` or ``test`` of session 1..10.

        Raises:
            ValueError: the part or session does not exist, or the part is empty.
        """
        column = f"session_{session}"
        if part not in PARTS or column not in self.table:
            raise ValueError(f"{self.name}: no part {part!r} of session {session}")
        rows = np.flatnonzero(self.table[column] == part)
        if len(rows) == 0:
            raise ValueError(f"{self.name}: session {session} has no image in its {part} part; add some")
        return rows

    def thinned(self, most: int) -> LabelledImages:
        """Return a copy with at most `most` images in each validation and test part, for quick checks.

        The selection is random but reproducible; the other images of these parts then belong to no part.
        """
        table = self.table.copy()
        for column, part in itertools.product(table.columns.intersection(SESSION_COLUMNS), PARTS[1:]):
            rows = np.flatnonzero(table[column] == part)
            shuffled = np.random.default_rng(len(rows)).permutation(rows)
            table.loc[shuffled[most:], column] = None
        return dataclasses.replace(self, table=table)


def targets(table: pd.DataFrame, grid: PromptGrid) -> dict[str, Tensor]:
    """Return the targets of the losses.

    Returns:
        ``mos`` (n,) float64; ``scene`` (n, S) and ``distortion`` (n, D) float32 of 0 and 1, with a row of
        zeros for an image without that label.

    Raises:
        ValueError: a label is not among the words of the grid; the message names the image.
    """
    scenes = [names if isinstance(names, tuple | list) else () for names in table["scenes"]]
    distortions = [() if pd.isna(name) else (name,) for name in table["distortion_group"]]
    return {
        "mos": torch.tensor(table["mos"].to_numpy(float)),
        "scene": _hot(scenes, grid, "scene", table["image"]),
        "distortion": _hot(distortions, grid, "distortion", table["image"]),
    }


def _hot(labels: Sequence[Sequence[str]], grid: PromptGrid, axis: str, images: pd.Series) -> Tensor:
    names = grid.names(axis)
    hot = torch.zeros(len(labels), len(names))
    for row, words in enumerate(labels if axis in grid.axes else ()):
        for word in words:
            if word not in names:
                raise ValueError(
                    f"{images.iloc[row]}: {axis} {word!r} is not among the grid's: {', '.join(names)}"
                )
            hot[row, names.index(word)] = 1
    return hot


def packed_set(
    name: str | os.PathLike | Manifest,
    geometry: CropGeometry | None = None,
    root: str | os.PathLike | None = None,
    missing: str = "error",
    leave_out: Mapping[str, str | None] | None = None,
    progress: bool = True,
    **reading: str,
) -> LabelledImages:
    """Load the labels and the packed images of a dataset; pack the images if needed.

    A dataset without splits gets ten random ones. A dataset whose public split has no val part gets ten that
    share its test part (see `splits`).

    Args:
        name: name of a dataset, path of a manifest, or a manifest.
        root: the folder of all datasets.
        missing: see `present_rows`.
        leave_out: images to leave out, each with the reason. With the reason None, an image was not
            requested: it is not reported, and the other images get a separate store. Splits are made before
            images are left out, so the others stay in their parts.
        reading: options of `read_image` that differ from its defaults.

    Returns:
        The dataset; its table has the rows whose images are present, and `left_out` names the others.

    Raises:
        LabelError, MissingImagesError, StoreError: the message says what is wrong and what to do.
    """
    manifest = name if isinstance(name, Manifest) else load_manifest(name)
    table = read_labels(manifest, root)
    if table[list(SESSION_COLUMNS)].isna().to_numpy().all():
        table = random_sessions(table)
    elif not (table["session_1"] == "val").any() and (table["session_1"] == "train").any():
        table = with_validation(table)
    reasons = dict(leave_out or {})
    wanted = table[~table["image"].isin(list(reasons))]
    table = present_rows(manifest, wanted, root, missing, progress)
    reasons |= dict.fromkeys(wanted["image"][~wanted["image"].isin(table["image"])], "missing")
    source = ImageSource(manifest.name, manifest.folder(root), geometry or CropGeometry(), reading)
    folder = source.store_folder()
    if untested := [image for image, reason in reasons.items() if reason is None]:
        folder = folder.with_name(f"{folder.name}-without-{json_sha256(untested)[:8]}")
    store = PackedStore.build(source, table, folder, progress=progress)
    left_out = {image: reason for image, reason in reasons.items() if reason}
    return LabelledImages(manifest.name, store.index, store, left_out)


def present_rows(
    manifest: Manifest,
    table: pd.DataFrame,
    root: str | os.PathLike | None = None,
    missing: str = "error",
    progress: bool = True,
) -> pd.DataFrame:
    """Return the rows of a label table whose images are present, with their paths in the column ``file``.

    The paths are relative to the folder of the dataset. Images that this project distorts itself
    (`data.distorted`) are made first.

    Args:
        missing: ``error``: raise an error if an image is missing; ``skip``: leave it out.

    Raises:
        MissingImagesError: an image is missing, or with ``skip`` all are; gives the count and five names.
    """
    if missing not in ("error", "skip"):
        raise ValueError(f"missing is {missing!r}: choose error or skip")
    if manifest.form == "distorted":
        make_missing(manifest, table, root, progress)
    found = find_images(table["image"], manifest.folder(root), manifest.image_folders)
    present = (found["match"] != "missing").to_numpy()
    if missing == "error" or not present.any():
        refuse_missing(found, manifest.folder(root))
    return table.assign(file=found["file"].to_numpy())[present]
