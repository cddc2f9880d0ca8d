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


def random_sessions(table: pd.DataFrame, seed: int = 0, fractions=(0.7, 0.1, 0.2)) -> pd.DataFrame:
    """A copy with ten new random splits, for a set that comes without.

    Images of one reference stay together; an image without reference stands for itself.

    Args:
        seed: the same seed gives the same splits.
        fractions: shares of train, val and test, each of the references.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions {fractions}: give three shares from 0 that sum to 1")
    table = table.copy()
    groups, names = pd.factorize(table["reference"].fillna(table["image"]))
    ends = np.round(np.cumsum(fractions) * len(names)).astype(int)
    for k, session in enumerate(SESSION_COLUMNS):
        order = np.random.default_rng([seed, k]).permutation(len(names))
        part = np.empty(len(names), dtype=object)
        for label, group in zip(PARTS, np.split(order, ends[:-1]), strict=True):
            part[group] = label
        table[session] = part[groups]
    return table


def with_validation(table: pd.DataFrame, fraction: float = 0.1, seed: int = 0) -> pd.DataFrame:
    """A copy with ten sessions made from a public split that has no val part.

    The public test part is the test part of every session; of the public training part, another random share
    is held back for validation each time. Images of one reference stay together.

    Args:
        fraction: share of the training part, by references.

    Raises:
        ValueError: session 1 has no training part.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}: give a number between 0 and 1")
    training = (table["session_1"] == "train").to_numpy()
    if not training.any():
        raise ValueError("session_1 has no training part to hold something back from")
    table = table.copy()
    groups, names = pd.factorize(table["reference"].fillna(table["image"])[training])
    public = table["session_1"].to_numpy(dtype=object)
    for k, session in enumerate(SESSION_COLUMNS):
        order = np.random.default_rng([seed, k]).permutation(len(names))
        held = np.isin(groups, order[: max(1, round(fraction * len(names)))])
        parts = public.copy()
        parts[training] = np.where(held, "val", "train")
        table[session] = parts
    return table


def by_neighbours(
    table: pd.DataFrame, run: int = 50, seed: int = 0, fractions=(0.75, 1 / 12, 1 / 6)
) -> pd.DataFrame:
    """A copy with ten random splits in which images with neighbouring numbers stay together.

    Where images were numbered as they were gathered, those of one photographer, place or album are
    neighbours; a split that parts them asks a model for what it has nearly seen.

    Args:
        table: its images' names have a number, the last digits in them (``ss01 (17).jpg``).
        run: how many numbers in a row stay together.
        seed, fractions: see `random_sessions`; BIQ2021's public sizes.

    Raises:
        ValueError: a name without a number; names it.
    """
    found = table["image"].str.extract(r"^(.*?)(\d+)\D*$")
    if found[1].isna().any():
        name = table["image"][found[1].isna()].iloc[0]
        raise ValueError(f"{name!r} has no number to tell its neighbours by")
    together = found[0] + (found[1].astype(int) // run).astype(str)
    split = random_sessions(table.assign(reference=together), seed, fractions)
    return split.assign(reference=table["reference"])


def without_near_duplicates(table: pd.DataFrame, pairs: pd.DataFrame, session: int = 1) -> pd.DataFrame:
    """A copy whose test (and val) part lacks the images that the training part also has.

    They belong to no part of that session then; the training part stays as it is, so that results on both
    test parts can be compared.

    Args:
        pairs: from `near_duplicates`.
    """
    table = table.copy()
    table.loc[table["image"].isin(pairs["image"]), f"session_{session}"] = None
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
        for start in range(0, len(rows), 1024):  # a block at a time, so that memory stays small
            block = rows[start : start + 1024]
            product = vectors[block] @ vectors[columns].T
            for row, column in np.argwhere(product >= SAME_PHOTOGRAPH):
                i, j, correlation = block[row], columns[column], float(min(product[row, column], 1.0))
                pairs.append((images[i], first, images[j], second, correlation, mos[i], mos[j]))
    names = ["image", "part", "other", "other_part", "correlation", "mos", "other_mos"]
    found = pd.DataFrame(pairs, columns=names)
    return found.sort_values("correlation", ascending=False, kind="stable", ignore_index=True)
