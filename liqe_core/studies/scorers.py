"""What can compete, by name, and a folder of images scored by it: the table that `gmad` works on.

A scorer is anything that takes a path and gives a number, higher for better quality:
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

#: The four task sets, by their initials.
SHORT = {variant: "+".join(word[0].upper() for word in variant.split("+")) for variant in VARIANTS}


def scorer(name: str, checkpoints: Mapping[str, Path] | None = None) -> Scorer:
    """A scorer by name.

    Args:
        name: a key of `checkpoints`; weights by file or name, as `LIQE.from_checkpoint` takes them;
            ``pyiqa:<metric>`` where pyiqa is installed; or ``sharpness``, a measure of no great merit that
            needs nothing.
        checkpoints: files of LIQE models, by a name for each.

    Raises:
        ValueError: no such scorer; says which there are. Or pyiqa, or what a metric of it needs, is not here.
        CheckpointError: the file cannot be used.
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
    raise ValueError(f"no scorer {name!r}: give one of {known}, weights by file or name, or pyiqa:METRIC")


def at_hand(names: Iterable[str]) -> tuple[dict[str, Scorer], dict[str, str]]:
    """Of some scorers those that can be had here, by name; and of the others why not."""
    found, missing = {}, {}
    for name in names:
        try:
            found[name] = scorer(name)
        except ValueError as error:
            missing[name] = str(error)
    return found, missing


def liqe(checkpoint: str | Path) -> Scorer:
    """The quality that a LIQE checkpoint predicts, 1..5."""
    from liqe_core.checkpoints import located
    from liqe_core.model import LIQE

    model = LIQE.from_checkpoint(checkpoint)

    def quality(path: Path) -> float:
        return float(model.score(path).quality[0])

    quality.identity = file_sha256(located(checkpoint))  # type: ignore[attr-defined]
    return quality


def sharpness(path: Path) -> float:
    """The logarithm of the mean squared Laplacian of the luma: an image with more fine detail, or with more
    noise, gets more."""
    luma = np.asarray(read_image(path).convert("L"), dtype=float)
    if min(luma.shape) < 3:
        raise ValueError(f"{luma.shape[1]} x {luma.shape[0]} pixels: too small to tell")
    centre = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * centre
    return float(np.log1p(np.mean(laplacian**2)))


def _pyiqa(metric: str) -> Scorer:
    try:
        import pyiqa
    except ImportError:
        advice = "pip install pyiqa, or take it off the scorers"
        raise ValueError(f"pyiqa:{metric} needs the package pyiqa: {advice}") from None
    try:
        model = pyiqa.create_metric(metric)
    except Exception as error:  # what it raises of an unknown name, or of weights that it cannot fetch
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"pyiqa:{metric}: pyiqa cannot make it here ({reason})") from None
    sign = -1 if model.lower_better else 1
    return lambda path: sign * float(model(str(path)))


def score_folder(
    folder: str | os.PathLike,
    scorers: Mapping[str, Scorer],
    cache: AnyPath = None,
    only: Collection[str] | None = None,
) -> pd.DataFrame:
    """Scores every image in a folder, and below it, with every scorer.

    An image that a scorer cannot read does not stop the others: its score is missing and `error` says why.
    With a cache, a run that was cut short goes on where it was: a score is taken from the journal while the
    image's size and time of change are the same. Missing scores are tried again. A score belongs to the
    scorer's name and, where it has one, as those of checkpoints do, to its attribute `identity`, a checksum;
    give a changed scorer without one another name.

    Args:
        folder: where the images are; see `images_in`.
        scorers: name to callable; a callable gets the path and returns a number.
        cache: the file of a `Journal`, read when it is there and added to as the work goes on.
        only: names of images, their path below `folder` with "/"; the others are left out.

    Returns:
        A row an image, sorted, its path below `folder` with "/" as the index `image`; a float column a
        scorer, in the order of `scorers`; `error`, "" where every scorer gave a finite number, else
        "NAME: what went wrong", one after another with "; ".

    Raises:
        NotADirectoryError: no such folder. ValueError: no scorer, no image in the folder, or a cache file
        that is something else.
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
    """An image's score; and what went wrong, or ""."""
    try:
        value = float(scorer(path))
    except Exception as error:  # whatever a scorer raises, the other images still count
        return math.nan, " ".join(f"{type(error).__name__}: {error}".split())
    return value, "" if math.isfinite(value) else f"the score is {value}"
