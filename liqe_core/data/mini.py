"""The embedded ``mini`` data set: photographs that are on every machine, distorted.

    >>> root, labels = build()      # a minute on two cores the first time, a second after that

It stands in for the real data sets, so that everything runs on a fresh machine without a download. The
photographs come inside scikit-image, scikit-learn and matplotlib; each gets KADID-10k's 25 distortions at
5 levels; the score is the mean opinion that KADID-10k's 81 references got for that distortion and level.
Nobody has looked at these pictures and scored them: results on ``mini`` say that the code works and what
it can learn, and are never to be compared with published numbers. See ``data_manifests/mini.yaml``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import itertools
import os
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from liqe_core.data import distortions, photographs
from liqe_core.data.photographs import (
    VIEWS,
    opened_photograph,
    photograph_bytes,
    prepare,
    read_manifest,
    vary,
)
from liqe_core.data.splits import SESSION_COLUMNS
from liqe_core.files import atomic_path, cache_dir, json_sha256, write_csv
from liqe_core.images import read_ahead
from liqe_core.intake.progress import tqdm

SEED = 2023


def build(
    root: str | os.PathLike | None = None,
    photographs: Iterable[str] | None = None,
    levels: Iterable[int] = distortions.LEVELS,
    kinds: Iterable[int | str] = range(1, 26),
    size: tuple[int, int] | None = None,
    views: Iterable[str] = VIEWS,
    varied: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[Path, pd.DataFrame]:
    """Make the data set, or what of it is missing, and return where it is and its labels.

    The pictures go to a folder named after everything that decides their content (photographs' bytes,
    selection, size, seed, the code of the distortions, versions of the libraries), so a folder is never
    stale. Every file appears whole or not at all and ``labels.csv`` comes last: a build that was killed
    goes on where it stopped, and two builds at once do no harm.

    Args:
        root: the folder that holds the builds; by default ``mini`` in the cache folder.
        photographs: names from the manifest, at least three; by default all.
        levels, kinds: a selection of 1..5 and of 1..25 (or KADID-10k's names).
        size: width and height of every picture; by default the manifest's.
        views: which of `VIEWS` to make of each photograph; see `prepare`.
        varied: how many pictures more for each photograph, distortion and level, each from a view that is
            drawn for it alone; see `vary`. They are trained on only: in a session that validates or tests on
            their photograph they are on no side.
        workers: threads, by default one a core. The work is in libraries that let go of the interpreter:
            measured, two threads are as fast as two processes, without the traps of forking a notebook.

    Returns:
        The folder and a table with a row an image: ``dataset`` ("mini"), ``image`` (relative to the folder),
        ``mos`` (1..5), ``distortion`` (the label files' word), ``distortion_group`` (one of the eleven),
        ``scenes`` (a tuple), ``reference`` (the photograph), ``session_1`` .. ``session_10`` ("train",
        "val", "test", or nothing; no photograph is on two sides).

    A grey photograph does not get the four distortions that only show in color.

    Raises:
        ValueError: an unknown name, kind, level, or too few photographs.
        FileNotFoundError: a package no longer carries a photograph.
    """
    manifest = read_manifest()
    chosen = _choice(manifest, photographs, levels, kinds, size, views, varied)
    files = {name: photograph_bytes(name, **manifest["photographs"][name]) for name in chosen.photographs}
    bytes_of = {name: hashlib.sha256(file).hexdigest() for name, file in files.items()}
    decides = [manifest, dataclasses.asdict(chosen), bytes_of, SEED, _code_version()]
    folder = (Path(root) if root else cache_dir("mini")) / json_sha256(decides)[:16]
    (folder / "images").mkdir(parents=True, exist_ok=True)

    opened = {name: opened_photograph(file) for name, file in files.items()}
    grey = {name for name, image in opened.items() if not np.ptp(np.asarray(image), axis=2).any()}
    planned = _plan(chosen, grey)
    labels = _labels(manifest, planned)
    todo = [one for one in planned if not (folder / one.image).exists()]

    both = itertools.product(chosen.photographs, chosen.views) if todo else ()
    prepared = {(name, view): prepare(opened[name], chosen.size, view) for name, view in both}

    def make(one: _Picture) -> None:
        if one.varied:
            clean = vary(opened[one.photograph], chosen.size, np.random.default_rng(one.seed))
        else:
            clean = prepared[one.photograph, one.view]
        pixels = distortions.distort(clean, one.kind, one.level, one.seed)
        with atomic_path(folder / one.image) as part:
            Image.fromarray(pixels).save(part, "PNG", compress_level=1)

    made, hidden = read_ahead(make, todo, workers), not (progress and todo)
    for _ in tqdm(made, "mini data set", len(todo), unit="image", disable=hidden):
        pass
    if todo or not (folder / "labels.csv").exists():
        write_csv(folder / "labels.csv", labels.assign(scenes=labels.scenes.str.join(";")))
    return folder, labels


@dataclasses.dataclass(frozen=True)
class _Choice:
    """What `build` was asked for, checked."""

    photographs: tuple[str, ...]
    kinds: tuple[int, ...]
    levels: tuple[int, ...]
    size: tuple[int, int]
    views: tuple[str, ...]
    varied: int


@dataclasses.dataclass(frozen=True)
class _Picture:
    """One picture of the data set."""

    image: str  # its file, relative to the folder
    photograph: str
    view: str  # one of `VIEWS`, or "varied-1", "varied-2" and so on
    kind: int
    level: int

    @property
    def varied(self) -> bool:
        return self.view not in VIEWS

    @property
    def seed(self) -> int:
        """Of what is drawn: for `VIEWS` the same at all distortions and levels, else the picture's own."""
        return zlib.crc32(
            f"{SEED} {self.image if self.varied else f'{self.photograph} {self.view}'}".encode()
        )


def _choice(manifest, photographs, levels, kinds, size, views, varied) -> _Choice:
    known = manifest["photographs"]
    names = tuple(known if photographs is None else dict.fromkeys(photographs))
    if unknown := [n for n in names if n not in known]:
        raise ValueError(f"no photograph {unknown}; the manifest has {', '.join(known)}")
    if len(names) < 3:
        raise ValueError(f"train, val and test need a photograph each: at least three, got {names}")
    for what, given, choices in (("level", levels, distortions.LEVELS), ("view", views, VIEWS)):
        if wrong := [one for one in given if one not in choices]:
            raise ValueError(f"no {what} {wrong}; choose from {choices}")
    numbers = tuple(distortions.find(kind).number for kind in kinds)
    return _Choice(names, numbers, tuple(levels), tuple(size or manifest["size"]), tuple(views), varied)


def _plan(chosen: _Choice, grey: Collection[str]) -> list[_Picture]:
    """Every picture that is to be there. grey: the photographs to which color distortions do nothing."""
    planned = []
    views = chosen.views + tuple(f"varied-{i}" for i in range(1, chosen.varied + 1))
    for name, view in itertools.product(chosen.photographs, views):
        stem = name if view == "whole" else f"{name}-{view}"
        for kind, level in itertools.product(chosen.kinds, chosen.levels):
            if not (name in grey and distortions.find(kind).needs_color):
                image = f"images/{stem}_{kind:02d}_{level:02d}.png"
                planned.append(_Picture(image, name, view, kind, level))
    return planned


def _labels(manifest: Mapping, planned: list[_Picture]) -> pd.DataFrame:
    photographs, opinions = manifest["photographs"], manifest["opinions"]["mean"]
    names = list(dict.fromkeys(one.photograph for one in planned))
    sides = split(names, [name for name in names if photographs[name].get("only_train")])
    all_sides = {name: side.to_dict() for name, side in sides.iterrows()}
    training = {
        name: {session: side if side == "train" else None for session, side in of.items()}
        for name, of in all_sides.items()
    }
    rows = []
    for one in planned:
        kind = distortions.find(one.kind)
        rows.append(
            {
                "dataset": "mini",
                "image": one.image,
                "mos": float(opinions[one.kind][one.level - 1]),
                "distortion": kind.label,
                "distortion_group": kind.group,
                "scenes": tuple(photographs[one.photograph]["scenes"]),
                "reference": one.photograph,
                **(training if one.varied else all_sides)[one.photograph],
            }
        )
    return pd.DataFrame(rows)


def read_labels(folder: str | os.PathLike) -> pd.DataFrame:
    """The table that ``build`` left in a folder, as ``build`` returns it."""
    labels = pd.read_csv(Path(folder) / "labels.csv")
    return labels.assign(scenes=[tuple(s.split(";")) for s in labels.scenes])


def split(names: Iterable[str], only_train: Iterable[str] = ()) -> pd.DataFrame:
    """Ten ways to part photographs 70/10/20: a row a name, a column a session; at least one a side.

    only_train: names that are on the training side in every session: close-ups of textures, which add
        variety to learn from but are not what a photograph's quality is asked of.
    """
    names, only_train = sorted(names), set(only_train)
    n_val, n_test = (max(1, round(part * len(names))) for part in (0.1, 0.2))
    drawn = [name for name in names if name not in only_train]
    sides = np.array(["val"] * n_val + ["test"] * n_test + ["train"] * (len(drawn) - n_val - n_test))
    columns = {
        s: np.random.default_rng((SEED, i)).permutation(sides) for i, s in enumerate(SESSION_COLUMNS, 1)
    }
    return pd.DataFrame(columns, index=drawn).reindex(names, fill_value="train")


def mean_opinions(label_file: str | os.PathLike) -> pd.DataFrame:
    """KADID-10k's mean score of each distortion (rows 1..25) at each level (columns 1..5).

    label_file: ``kadid10k_all.txt`` of the public LIQE code, or any file whose first two tab-separated
    columns are a path ``.../I<reference>_<number>_<level>.png`` and a score.
    """
    table = pd.read_csv(label_file, sep="\t", header=None, usecols=[0, 1], names=["image", "mos"])
    key = table.image.str.extract(r"I\d+_(?P<kind>\d+)_(?P<level>\d+)\.png$")
    if key.isna().any(axis=None):
        raise ValueError(f"{label_file}: not a KADID-10k image: {table.image[key.kind.isna()].iloc[0]}")
    return table.mos.groupby([key.kind.astype(int), key.level.astype(int)]).mean().unstack()


def _code_version() -> list[str]:
    """What decides the pixels besides the input: our code and the libraries' versions."""
    code = b"".join(Path(f).read_bytes() for f in (distortions.__file__, photographs.__file__, __file__))
    libraries = ("numpy", "scipy", "scikit-image", "pillow")
    return [hashlib.sha256(code).hexdigest(), *(f"{x} {importlib.metadata.version(x)}" for x in libraries)]
