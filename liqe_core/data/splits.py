"""Splits made by this project, for datasets without a split or with near-duplicates across the split.

Near-duplicates are images of the same photograph, found by the correlation of small grey thumbnails.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from liqe_core.data.manifests import SESSIONS
from liqe_core.images import read_ahead, read_image
from liqe_core.intake.progress import tqdm

#: The parts of a split, and the columns of a label table that hold the part of each image.
PARTS = ("train", "val", "test")
SESSION_COLUMNS = tuple(f"session_{k}" for k in range(1, SESSIONS + 1))

#: The least correlation of near-duplicates. On BIQ2021, duplicate files correlate above 0.999, and the same
#: photograph with different colors, blur or noise above 0.99. Other shots of the same scene start at 0.98 and
#: below, and images that are merely similar (sky, sea) at 0.96 and below.
SAME_PHOTOGRAPH = 0.99
_FLAT = 2.0


def random_sessions(
    table: pd.DataFrame, seed: int = 0, fractions=(0.7, 0.1, 0.2), parts: Sequence[str] = PARTS
) -> pd.DataFrame:
    """Return a copy with ten new random splits, for a dataset without a split.

    Images of the same reference stay in the same part; an image without a reference is its own group.

    Args:
        seed: the same seed gives the same splits.
        fractions: fractions of the references per part; the first part has at least one reference.
    """
    table = table.copy()
    groups, names = pd.factorize(table["reference"].fillna(table["image"]))
    ends = np.maximum(np.round(np.cumsum(fractions) * len(names)).astype(int), 1)
    for k, session in enumerate(SESSION_COLUMNS):
        order = np.random.default_rng([seed, k]).permutation(len(names))
        part = np.empty(len(names), dtype=object)
        for label, group in zip(parts, np.split(order, ends[:-1]), strict=True):
            part[group] = label
        table[session] = part[groups]
    return table


def with_validation(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with ten sessions, made from a public split without a val part.

    The public test part is the test part of every session; in each session, a random tenth of the public
    training part is held out for validation. Images of the same reference stay in the same part.

    Raises:
        ValueError: session 1 has no training part.
    """
    public = table["session_1"]
    if not (training := public == "train").any():
        raise ValueError("session_1 has no training part to hold out validation images from")
    dealt = random_sessions(table[training], 0, (0.1, 0.9), ("val", "train"))
    return table.assign(**{name: public.mask(training, dealt[name]) for name in SESSION_COLUMNS})


def by_neighbours(table: pd.DataFrame, run: int = 50, fractions=(0.75, 1 / 12, 1 / 6)) -> pd.DataFrame:
    """Return a copy with ten random splits in which images with neighbouring numbers stay together.

    If images were numbered in the order of collection, images of one photographer, place or album have
    neighbouring numbers. A split that separates them tests a model on images close to its training images.

    Args:
        table: a label table; the last digits in an image's name are its number (``ss01 (17).jpg``).
        run: number of consecutive numbers that stay together.
        fractions: see `random_sessions`; default: the sizes of BIQ2021's public split.

    Raises:
        ValueError: a name has no number; the message names it.
    """
    found = table["image"].str.extract(r"^(.*?)(\d+)\D*$")
    if found[1].isna().any():
        name = table["image"][found[1].isna()].iloc[0]
        raise ValueError(f"{name!r} has no number; splits by neighbours need numbered names")
    together = found[0] + (found[1].astype(int) // run).astype(str)
    split = random_sessions(table.assign(reference=together), 0, fractions)
    return split.assign(reference=table["reference"])


def without_near_duplicates(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return a copy without near-duplicates of training images in the test and val parts of session 1.

    The removed images belong to no part of that session; the training part is unchanged, so that results on
    both test parts can be compared.

    Args:
        pairs: from `near_duplicates`.
    """
    table = table.copy()
    table.loc[table["image"].isin(pairs["image"]), "session_1"] = None
    return table


def thumbnails(files: Sequence[str | os.PathLike], size: int = 32, progress: bool = True) -> np.ndarray:
    """Make small grey thumbnails of image files.

    Returns:
        (n, size, size) float32 in 0..255.

    Raises:
        ImageError: a file cannot be read.
    """

    def shrink(file: str | os.PathLike) -> np.ndarray:
        grey = read_image(file).convert("L")
        return np.asarray(grey.resize((size, size), Image.Resampling.BOX), dtype=np.float32)

    shrunk = tqdm(read_ahead(shrink, files), total=len(files), desc="thumbnails", disable=not progress)
    return np.stack(list(shrunk))


def correlations(thumbs: np.ndarray) -> np.ndarray:
    """Normalize thumbnails to vectors whose inner products are correlations.

    Args:
        thumbs: (n, h, w).

    Returns:
        (n, h * w) float32; zeros for a nearly constant image, whose correlations are meaningless.
    """
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    plain = length < _FLAT * np.sqrt(flat.shape[1])
    return np.where(plain, 0, flat / np.where(plain, 1, length))


def near_duplicates(
    table: pd.DataFrame, folder: str | os.PathLike, session: int = 1, progress: bool = True
) -> pd.DataFrame:
    """Find pairs of images of the same photograph in different parts of a split.

    Args:
        table: a label table; the column ``file`` (see `find_images`) takes precedence over ``image``.
        folder: the folder of the dataset.

    Returns:
        ``image, part, other, other_part, correlation, mos, other_mos``, highest correlation first. ``image``
        is in the test part, or in val if ``other`` is in train.
    """
    files = [Path(folder) / name for name in table["file" if "file" in table else "image"]]
    vectors = correlations(thumbnails(files, progress=progress))
    part = table[f"session_{session}"].to_numpy(dtype=object)
    images, mos = table["image"].to_numpy(dtype=object), table["mos"].to_numpy()
    pairs = []
    for first, second in (("test", "train"), ("test", "val"), ("val", "train")):
        rows, columns = np.flatnonzero(part == first), np.flatnonzero(part == second)
        product = vectors[rows] @ vectors[columns].T
        for row, column in np.argwhere(product >= SAME_PHOTOGRAPH):
            i, j, correlation = rows[row], columns[column], float(min(product[row, column], 1.0))
            pairs.append((images[i], first, images[j], second, correlation, mos[i], mos[j]))
    names = ["image", "part", "other", "other_part", "correlation", "mos", "other_mos"]
    found = pd.DataFrame(pairs, columns=names)
    return found.sort_values("correlation", ascending=False, kind="stable", ignore_index=True)
