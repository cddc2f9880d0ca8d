"""Splits of our own: for sets that come without one, or with one that near-duplicates cross.

Near-duplicates are images of the same photograph, found by correlating small grey thumbnails.
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

#: The parts of a split, and the columns of a label table that name the part of each image.
PARTS = ("train", "val", "test")
SESSION_COLUMNS = tuple(f"session_{k}" for k in range(1, SESSIONS + 1))

#: On BIQ2021 the same file stored twice correlates above 0.999, the same photograph with other colours, blur
#: or noise above 0.99; from 0.98 down come further shots of one scene, from 0.96 mere likeness (sky, sea).
SAME_PHOTOGRAPH = 0.99
_FLAT = 2.0


def random_sessions(
    table: pd.DataFrame, seed: int = 0, fractions=(0.7, 0.1, 0.2), parts: Sequence[str] = PARTS
) -> pd.DataFrame:
    """A copy with ten new random splits, for a set that comes without.

    Images of one reference stay together; an image without reference stands for itself.

    Args:
        seed: the same seed gives the same splits.
        fractions: shares of the parts, each of the references; the first part has one at least.
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
    """A copy with ten sessions made from a public split that has no val part.

    The public test part is the test part of every session; of the public training part, another random tenth
    is held back for validation each time. Images of one reference stay together.

    Raises:
        ValueError: session 1 has no training part.
    """
    public = table["session_1"]
    if not (training := public == "train").any():
        raise ValueError("session_1 has no training part to hold something back from")
    dealt = random_sessions(table[training], 0, (0.1, 0.9), ("val", "train"))
    return table.assign(**{name: public.mask(training, dealt[name]) for name in SESSION_COLUMNS})


def by_neighbours(table: pd.DataFrame, run: int = 50, fractions=(0.75, 1 / 12, 1 / 6)) -> pd.DataFrame:
    """A copy with ten random splits in which images with neighbouring numbers stay together.

    Where images were numbered as they were gathered, those of one photographer, place or album are
    neighbours; a split that parts them asks a model for what it has nearly seen.

    Args:
        table: its images' names have a number, the last digits in them (``ss01 (17).jpg``).
        run: how many numbers in a row stay together.
        fractions: see `random_sessions`; BIQ2021's public sizes.

    Raises:
        ValueError: a name without a number; names it.
    """
    found = table["image"].str.extract(r"^(.*?)(\d+)\D*$")
    if found[1].isna().any():
        name = table["image"][found[1].isna()].iloc[0]
        raise ValueError(f"{name!r} has no number to tell its neighbours by")
    together = found[0] + (found[1].astype(int) // run).astype(str)
    split = random_sessions(table.assign(reference=together), 0, fractions)
    return split.assign(reference=table["reference"])


def without_near_duplicates(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """A copy whose test (and val) part of session 1 lacks the images that the training part also has.

    They belong to no part of it then; the training part stays as it is, so that results on both
    test parts can be compared.

    Args:
        pairs: from `near_duplicates`.
    """
    table = table.copy()
    table.loc[table["image"].isin(pairs["image"]), "session_1"] = None
    return table


def thumbnails(files: Sequence[str | os.PathLike], size: int = 32, progress: bool = True) -> np.ndarray:
    """Small grey copies.

    Returns:
        (n, size, size) float32 in 0..255.

    Raises:
        ImageError: a file that cannot be read.
    """

    def shrink(file: str | os.PathLike) -> np.ndarray:
        grey = read_image(file).convert("L")
        return np.asarray(grey.resize((size, size), Image.Resampling.BOX), dtype=np.float32)

    shrunk = tqdm(read_ahead(shrink, files), total=len(files), desc="thumbnails", disable=not progress)
    return np.stack(list(shrunk))


def correlations(thumbs: np.ndarray) -> np.ndarray:
    """Thumbnails as vectors whose products are their correlations; zeros for an image of one flat grey,
    which is like everything and a duplicate of nothing.

    Args:
        thumbs: (n, h, w).

    Returns:
        (n, h * w) float32.
    """
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    plain = length < _FLAT * np.sqrt(flat.shape[1])
    return np.where(plain, 0, flat / np.where(plain, 1, length))


def near_duplicates(
    table: pd.DataFrame, folder: str | os.PathLike, session: int = 1, progress: bool = True
) -> pd.DataFrame:
    """Pairs of images that are one photograph and lie in different parts of a split.

    Args:
        table: a label table; column ``file`` (see `find_images`) in place of ``image`` where it is there.
        folder: the dataset's folder.

    Returns:
        ``image, part, other, other_part, correlation, mos, other_mos``, best first; ``image`` lies in the
        test part, or in val where ``other`` is in train.
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
