"""Scorers by name, and the table of their scores for a folder of images, which `gmad` takes.

A scorer is a callable that takes a path and returns a number, higher for better quality:
``{"liqe": lambda path: model.score(path).quality.item(), "size": lambda path: path.stat().st_size}``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from liqe_core.data.manifests import AnyPath
from liqe_core.data.presence import Journal
from liqe_core.files import file_sha256
from liqe_core.images import images_in, read_image
from liqe_core.prompts import VARIANTS

Scorer = Callable[[Path], float]

#: Short names of the four task sets.
SHORT = {variant: "+".join(word[0].upper() for word in variant.split("+")) for variant in VARIANTS}


def scorer(name: str, checkpoints: Mapping[str, Path] | None = None) -> Scorer:
    """Return a scorer by name.

    Args:
        name: a key of `checkpoints`; weights by file or name, as in `LIQE.from_checkpoint`;
            ``pyiqa:<metric>`` if pyiqa is installed; or ``sharpness``, a simple measure without dependencies.
        checkpoints: files of LIQE models by name.

    Raises:
        ValueError: the scorer is unknown, or pyiqa or the files of its metric are missing.
        CheckpointError: the file is not a valid checkpoint.
    """
    from liqe_core.checkpoints import is_weights

    checkpoints = checkpoints or {}
    if name in checkpoints:
        return liqe(checkpoints[name])
    if name == "sharpness":
        return sharpness
    if name.startswith("pyiqa:"):
        return _pyiqa(name.removeprefix("pyiqa:"))
    if is_weights(name):
        return liqe(name)
    known = ", ".join([*checkpoints, "sharpness"])
    raise ValueError(f"unknown scorer {name!r}: give {known}, weights by file or name, or pyiqa:METRIC")


def available_scorers(names: Iterable[str]) -> tuple[dict[str, Scorer], dict[str, str]]:
    """Return the available scorers by name, and the reasons why the others are unavailable."""
    found, missing = {}, {}
    for name in names:
        try:
            found[name] = scorer(name)
        except ValueError as error:
            missing[name] = str(error)
    return found, missing


def liqe(checkpoint: str | Path) -> Scorer:
    """Return a scorer that predicts quality, 1..5, with a LIQE checkpoint."""
    from liqe_core.checkpoints import located
    from liqe_core.model import LIQE

    model = LIQE.from_checkpoint(checkpoint)

    def quality(path: Path) -> float:
        return float(model.score(path).quality[0])

    quality.identity = file_sha256(located(checkpoint))  # type: ignore[attr-defined]
    return quality


def sharpness(path: Path) -> float:
    """Compute the logarithm of the mean squared Laplacian of the luma, which grows with detail and noise."""
    luma = np.asarray(read_image(path).convert("L"), dtype=float)
    if min(luma.shape) < 3:
        raise ValueError(f"{luma.shape[1]} x {luma.shape[0]} pixels: sharpness needs at least 3 x 3")
    centre = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * centre
    return float(np.log1p(np.mean(laplacian**2)))


def _pyiqa(metric: str) -> Scorer:
    try:
        import pyiqa
    except ImportError:
        advice = "pip install pyiqa, or remove the scorer"
        raise ValueError(f"pyiqa:{metric} needs the package pyiqa: {advice}") from None
    try:
        model = pyiqa.create_metric(metric)
    except Exception as error:  # unknown names and failed downloads raise various types
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"pyiqa:{metric}: pyiqa cannot create the metric ({reason})") from None
    sign = -1 if model.lower_better else 1
    return lambda path: sign * float(model(str(path)))


def score_folder(
    folder: str | os.PathLike,
    scorers: Mapping[str, Scorer],
    cache: AnyPath = None,
    only: Collection[str] | None = None,
) -> pd.DataFrame:
    """Score every image in a folder and its subfolders with every scorer.

    An image that a scorer cannot read has a missing score, and `error` says why. With a cache, an interrupted
    run can be resumed: a score is reused if the size and modification time of the image are unchanged;
    missing scores are tried again. A score is stored under the scorer's name and its attribute `identity` (a
    checksum, which checkpoints have). Rename a scorer without this attribute when you change it.

    Args:
        folder: the folder of the images; see `images_in`.
        scorers: name to callable; a callable takes a path and returns a number.
        cache: the file of a `Journal`; it is created if missing, and extended after each image.
        only: names of images (their path below `folder` with "/"); the others are skipped.

    Returns:
        A row for each image, sorted, with its path below `folder` (with "/") as the index `image`; a float
        column for each scorer, in the order of `scorers`; `error`, "" if every score is finite, otherwise
        "NAME: message", joined by "; ".

    Raises:
        NotADirectoryError: the folder does not exist. ValueError: there is no scorer or no image, or the
        cache is not a journal.
    """
    folder = Path(folder)
    if not scorers:
        raise ValueError("no scorers: name at least one, {'name': callable(path) -> number}")
    keys = {name: f"{name} {getattr(score, 'identity', '')}".rstrip() for name, score in scorers.items()}
    names = images_in(folder)
    if only is not None:
        if missing := sorted(set(only) - set(names)):
            raise ValueError(f"{folder} has no image {missing[0]!r}: give paths below the folder")
        names = sorted(set(only))
    journal = Journal(cache or os.devnull, folder)
    known = journal.current()
    rows = {}
    for name in names:
        scores, errors = dict(known.get(name, {}).get("scores", {})), []
        todo = [scorer for scorer in scorers if keys[scorer] not in scores]
        for scorer in todo:
            value, error = _score(folder / name, scorers[scorer])
            if error:
                errors.append(f"{scorer}: {error}")
            else:
                scores[keys[scorer]] = value
        if todo:
            journal.note(journal.stamp(name) | {"scores": scores})
        rows[name] = {scorer: scores.get(key) for scorer, key in keys.items()}
        rows[name]["error"] = "; ".join(errors)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("image")
    return table.astype(dict.fromkeys(scorers, float))


def _score(path: Path, scorer: Scorer) -> tuple[float, str]:
    """Return an image's score, and an error message or ""."""
    try:
        value = float(scorer(path))
    except Exception as error:  # a failing scorer must not stop the other images
        return math.nan, " ".join(f"{type(error).__name__}: {error}".split())
    return value, "" if math.isfinite(value) else f"the score is {value}"
