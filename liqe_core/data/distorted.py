"""The ``open-distorted`` data set: photographs from public repositories, distorted as KADID-10k.

    >>> make_missing(manifest, table)     # 18,750 pictures, some minutes on two cores

Each photograph gets KADID-10k's 25 distortions, each at one of the five levels, drawn. The distortion is
known; the quality is a stand-in, the mean opinion of KADID-10k for that distortion and level, as in `mini`.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from liqe_core.data import distortions
from liqe_core.data.finding import find_pictures, refuse_missing
from liqe_core.data.manifests import Manifest, load_manifest
from liqe_core.data.photographs import read_manifest
from liqe_core.data.splits import SESSION_COLUMNS, random_sessions, with_validation
from liqe_core.files import atomic_path
from liqe_core.images import PictureError, list_pictures, read_ahead, read_picture
from liqe_core.intake.progress import tqdm

SEED = 2023


def make_missing(
    manifest: Manifest, table: pd.DataFrame, root: str | os.PathLike | None = None, progress: bool = True
) -> None:
    """Make the pictures of the data set that are not there yet.

    Args:
        table: its labels, from `table_of`.

    Raises:
        PicturesMissingError, PictureError: a photograph is not there, or cannot be read.
    """
    folder = manifest.folder(root)
    places = {name: folder / manifest.labels["photographs"] / name for name in set(table["reference"])}
    best_of, there = other_set(manifest, folder)
    best = there or best_of.folder(root)
    found = find_pictures(sorted(n for n, p in places.items() if not p.is_file()), best, best_of.pictures)
    refuse_missing(found, best)
    places |= {image: best / file for image, file in zip(found["image"], found["file"], strict=True)}
    make(table, folder, places.__getitem__, progress=progress)


def other_set(manifest: Manifest, folder: Path) -> tuple[Manifest, Path | None]:
    """The set whose best pictures are taken too, and its folder: beside `folder`, the data set's own, else
    where data sets usually are; None where it is in neither."""
    best_of = load_manifest(manifest.labels["best_of"])
    return best_of, best_of.locate(folder.parent) or best_of.locate()


def lacking(manifest: Manifest, folder: Path) -> list[str]:
    """Names of the data sets that must be fetched before the pictures can be made; `folder` as above."""
    best_of, there = other_set(manifest, folder)
    own = list_pictures(folder / manifest.labels["photographs"])
    return [name for name, has in ((manifest.name, own), (best_of.name, there)) if not has]


def table_of(photographs: Sequence[str], best: pd.DataFrame, pictures: str) -> pd.DataFrame:
    """The label table of chosen photographs.

    Args:
        photographs: names of those that may be in any part; all pictures of one are in the same.
        best: label table of photographs that are trained on only, where their own session trains on them.
        pictures: the folder that the pictures are named below.

    Returns:
        A row a picture: ``image`` (its name ends in the distortion's number and the level), ``mos`` (1..5,
        the opinion), ``distortion``, ``reference`` (the photograph), and the sessions.

    Raises:
        ValueError: two photographs whose pictures would have the same names.
    """
    stems: dict[str, str] = {}
    for name in (*photographs, *best["image"]):
        if stems.setdefault(_stem(name), name) != name:
            twice = f"{stems[_stem(name)]!r} and {name!r}"
            raise ValueError(f"the pictures of {twice} would have the same names; rename a photograph")
    opinions = read_manifest()["opinions"]["mean"]
    tables = []
    for names in (list(photographs), best["image"].tolist()):
        rows = [
            (
                f"{pictures}/{_stem(name)}_{kind:02d}_{level:02d}.png",
                float(opinions[kind][level - 1]),
                distortions.find(kind).label,
                name,
            )
            for name in names
            for kind, level in enumerate(_levels(name), 1)
        ]
        tables.append(pd.DataFrame(rows, columns=["image", "mos", "distortion", "reference"]))
    anywhere, trained = random_sessions(tables[0], SEED), tables[1]
    for session in SESSION_COLUMNS:
        parts = best.set_index("image")[session]
        trained[session] = trained["reference"].map(parts.where(parts == "train"))
    return pd.concat([anywhere, trained], ignore_index=True)


def best_scored(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` best-scored pictures of a label table's public training part, with ten sessions."""
    table = table if (table["session_1"] == "val").any() else with_validation(table)
    public = table[table["session_1"] != "test"]
    return public.sort_values("mos", ascending=False, kind="stable").head(count)


def make(
    table: pd.DataFrame,
    folder: str | os.PathLike,
    photograph: Callable[[str], Path],
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Make the pictures of a table from `table_of` that are not there yet; each appears whole or not at all.

    Args:
        folder: the data set's.
        photograph: from a photograph's name to its file.
        workers: threads, by default one a core.

    Raises:
        PictureError: a photograph cannot be read, or is too small for the distortions.
    """
    folder = Path(folder)
    there = set(list_pictures(folder))
    to_do = table[~table["image"].isin(there)]
    for below in {os.path.dirname(image) for image in to_do["image"]}:
        (folder / below).mkdir(parents=True, exist_ok=True)

    def of_photograph(group: tuple[str, pd.DataFrame]) -> int:
        name, rows = group
        path = photograph(name)
        clean = np.asarray(read_picture(path))
        if min(clean.shape[:2]) < distortions.MIN_SIDE:
            raise PictureError(f"{path}: under {distortions.MIN_SIDE} pixels on a side; leave it out")
        for image in rows["image"]:
            kind, level = map(int, Path(image).stem.rsplit("_", 2)[1:])
            pixels = distortions.distort(clean, kind, level, zlib.crc32(image.encode()))
            with atomic_path(folder / image) as part:
                Image.fromarray(pixels).save(part, "PNG", compress_level=1)
        return len(rows)

    with tqdm(
        total=len(table), initial=len(table) - len(to_do), disable=not (progress and len(to_do))
    ) as bar:
        bar.set_description(folder.name)
        for count in read_ahead(of_photograph, list(to_do.groupby("reference", sort=False)), workers):
            bar.update(count)


def _stem(name: str) -> str:
    return "-".join(Path(name).with_suffix("").parts)


def _levels(name: str) -> list[int]:
    """A level for each of the 25 distortions: five of each, in an order drawn for the photograph."""
    rng = np.random.default_rng((SEED, zlib.crc32(name.encode())))
    fives = itertools.chain.from_iterable(itertools.repeat(distortions.LEVELS, 5))
    return rng.permutation(list(fives)).tolist()
