"""Near-duplicates: pictures that are the same photograph, found by correlating small grey thumbnails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from liqe_core.images import read_ahead, read_picture
from liqe_core.intake.progress import tqdm

#: On BIQ2021 the same file stored twice correlates above 0.999, the same photograph with other colours, blur
#: or noise above 0.99; from 0.98 down come further shots of one scene, from 0.96 mere likeness (sky, sea).
SAME_PHOTOGRAPH = 0.99
_FLAT = 2.0


def thumbnails(files: Sequence[str | os.PathLike], size: int = 32, progress: bool = True) -> np.ndarray:
    """Small grey copies.

    Returns:
        (n, size, size) float32 in 0..255.

    Raises:
        PictureError: a file that cannot be read.
    """

    def shrink(file: str | os.PathLike) -> np.ndarray:
        grey = read_picture(file).convert("L")
        return np.asarray(grey.resize((size, size), Image.Resampling.BOX), dtype=np.float32)

    shrunk = tqdm(read_ahead(shrink, files), total=len(files), desc="thumbnails", disable=not progress)
    return np.stack(list(shrunk))


def correlations(thumbs: np.ndarray) -> np.ndarray:
    """Thumbnails as vectors whose products are their correlations; zeros for a picture of one flat grey,
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
    table: pd.DataFrame,
    folder: str | os.PathLike,
    threshold: float = SAME_PHOTOGRAPH,
    session: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Pairs of pictures that are one photograph and lie in different parts of a split.

    Args:
        table: a label table; column ``file`` (see `find_pictures`) in place of ``image`` where it is there.
        folder: the data set's folder.
        threshold: pairs that correlate at least this much count.

    Returns:
        ``image, part, other, other_part, correlation, mos, other_mos``, best first; ``image`` lies in the
        test part, or in val where ``other`` is in train.
    """
    names = table["file"] if "file" in table else table["image"]
    vectors = correlations(thumbnails([Path(folder) / name for name in names], progress=progress))
    part = table[f"session_{session}"].to_numpy(dtype=object)
    pairs = []
    for first, second in (("test", "train"), ("test", "val"), ("val", "train")):
        rows, columns = np.flatnonzero(part == first), np.flatnonzero(part == second)
        for start in range(0, len(rows), 1024):  # a block at a time, so that memory stays small
            block = rows[start : start + 1024]
            product = vectors[block] @ vectors[columns].T
            for i, j in np.argwhere(product >= threshold):
                pairs.append((block[i], columns[j], float(min(product[i, j], 1.0))))
    found = pd.DataFrame(pairs, columns=["image", "other", "correlation"]).astype(
        {"image": int, "other": int}
    )
    images = table["image"].to_numpy(dtype=object)
    for side in ("", "other_"):
        rows = found["other" if side else "image"].to_numpy()
        found[f"{side}part"], found[f"{side}mos"] = part[rows], table["mos"].to_numpy()[rows]
        found["other" if side else "image"] = images[rows]
    found = found[["image", "part", "other", "other_part", "correlation", "mos", "other_mos"]]
    return found.sort_values("correlation", ascending=False, kind="stable", ignore_index=True)
