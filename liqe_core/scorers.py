"""Scorers by name: what can compete. Each takes a path and gives a number, higher for better quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from liqe_core.prompts import VARIANTS

Scorer = Callable[[Path], float]

#: The four task sets, by their initials.
SHORT = {variant: "+".join(word[0].upper() for word in variant.split("+")) for variant in VARIANTS}


def scorer(name: str, checkpoints: Mapping[str, Path] | None = None) -> Scorer:
    """A scorer by name.

    Args:
        name: a key of `checkpoints`; a checkpoint file, of any kind that `LIQE.from_checkpoint` reads;
            ``pyiqa:<metric>`` where pyiqa is installed; or ``sharpness``, a measure of no great merit that
            needs nothing.
        checkpoints: files of LIQE models, by a name for each.

    Raises:
        ValueError: no such scorer; says which there are. CheckpointError: the file cannot be used.
    """
    checkpoints = checkpoints or {}
    if name in checkpoints:
        return liqe(checkpoints[name])
    if name == "sharpness":
        return sharpness
    if name.startswith("pyiqa:"):
        return _pyiqa(name.removeprefix("pyiqa:"))
    if Path(name).is_file():
        return liqe(name)
    known = ", ".join([*checkpoints, "sharpness"])
    raise ValueError(f"no scorer {name!r}: give one of {known}, a checkpoint file, or pyiqa:METRIC")


def liqe(checkpoint: str | Path) -> Scorer:
    """The quality that a LIQE checkpoint predicts, 1..5."""
    from liqe_core.model import LIQE

    model = LIQE.from_checkpoint(checkpoint)
    return lambda path: float(model.score(path).quality[0])


def sharpness(path: Path) -> float:
    """The logarithm of the mean squared Laplacian of the luma: a picture with more fine detail, or with more
    noise, gets more."""
    with Image.open(path) as image:
        luma = np.asarray(image.convert("L"), dtype=float)
    if min(luma.shape) < 3:
        raise ValueError(f"{luma.shape[1]} x {luma.shape[0]} pixels: too small to tell")
    centre = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * centre
    return float(np.log1p(np.mean(laplacian**2)))


def _pyiqa(metric: str) -> Scorer:
    try:
        import pyiqa
    except ImportError:
        raise ValueError(
            f"pyiqa:{metric} needs the package pyiqa: pip install pyiqa, or take it off the scorers"
        ) from None
    model = pyiqa.create_metric(metric)
    sign = -1 if model.lower_better else 1
    return lambda path: sign * float(model(str(path)))
