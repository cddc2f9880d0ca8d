"""The ``open-distorted`` dataset: photographs from public repositories with KADID-10k's distortions.

    >>> make_missing(manifest, table)     # 23,868 images, eight minutes on two cores

Each photograph gets KADID-10k's 25 distortions and seven alternative curves for three of them
(`distortions`), each at a random one of the five levels. The distortion label is exact. The quality label
is a substitute, KADID-10k's mean opinion score for that distortion and level, as in `mini`. The version that
turns a photograph grey is left out, because grey is not a degradation.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from liqe_core.data import distortions
from liqe_core.data.manifests import Manifest, load_manifest
from liqe_core.data.mini import read_manifest
from liqe_core.data.presence import find_images, refuse_missing
from liqe_core.data.splits import SESSION_COLUMNS, random_sessions, with_validation
from liqe_core.files import only_one
from liqe_core.images import ImageError, list_images, read_ahead, read_image
from liqe_core.intake.progress import tqdm

SEED = 2023

#: KADID-10k's distortion and level that makes a photograph grey.
GREY = (7, 4)


def make_missing(
    manifest: Manifest, table: pd.DataFrame, root: str | os.PathLike | None = None, progress: bool = True
) -> None:
    """Make the missing images of the dataset; each file is written atomically.

    Args:
        table: labels of the dataset, from `label_table`.

    Raises:
        MissingImagesError: a photograph is missing.
        ImageError: a photograph cannot be read, or is too small for the distortions.
    """
    folder = manifest.folder(root)
    photographs = {name: folder / manifest.labels.photographs / name for name in set(table["reference"])}
    best_of, best_folder = other_set(manifest, folder)
    best_folder = best_folder or best_of.folder(root)
    absent = sorted(name for name, path in photographs.items() if not path.is_file())
    found = find_images(absent, best_folder, best_of.image_folders)
    refuse_missing(found, best_folder)
    files = zip(found["image"], found["file"], strict=True)
    photographs |= {image: best_folder / file for image, file in files}

    def distort_photograph(group: tuple[str, pd.DataFrame]) -> int:
        name, rows = group
        clean = np.asarray(read_image(photographs[name]))
        if min(clean.shape[:2]) < distortions.MIN_SIDE:
            raise ImageError(
                f"{photographs[name]}: a side is under {distortions.MIN_SIDE} pixels; remove the photograph"
            )
        for image in rows["image"]:
            kind, level = map(int, Path(image).stem.rsplit("_", 2)[1:])
            distortions.write_distorted(folder / image, clean, kind, level, zlib.crc32(image.encode()))
        return len(rows)

    with only_one(folder, wait=-1):
        to_do = table[~table["image"].isin(list_images(folder))]
        for below in {os.path.dirname(image) for image in to_do["image"]}:
            (folder / below).mkdir(parents=True, exist_ok=True)
        hidden, done = not (progress and len(to_do)), len(table) - len(to_do)
        with tqdm(total=len(table), initial=done, desc=folder.name, disable=hidden) as bar:
            for count in read_ahead(distort_photograph, list(to_do.groupby("reference", sort=False))):
                bar.update(count)


def other_set(manifest: Manifest, folder: Path) -> tuple[Manifest, Path | None]:
    """Return the manifest and folder of the dataset that contributes its best-scored images.

    The folder is searched beside `folder`, then in the default place for datasets; None: not found.
    """
    best_of = load_manifest(manifest.labels.best_of)
    return best_of, best_of.locate(folder.parent) or best_of.locate()


def sets_to_fetch(manifest: Manifest, folder: Path) -> list[str]:
    """Return the names of the datasets that must be fetched before the images can be made."""
    best_of, best_folder = other_set(manifest, folder)
    own = list_images(folder / manifest.labels.photographs)
    return [name for name, found in ((manifest.name, own), (best_of.name, best_folder)) if not found]


def label_table(photograph_names: Sequence[str], best: pd.DataFrame, image_folder: str) -> pd.DataFrame:
    """Make the label table of the distorted photographs.

    Args:
        photograph_names: names of photographs for all parts; all images of a photograph are in the same part.
        best: label table of photographs that are only used for training, in the sessions of their own dataset
            that train on them.
        image_folder: folder of the images, as a prefix of their names.

    Returns:
        One row per image: ``image`` (its name ends in the number of the distortion and the level), ``mos``
        (1..5, the substitute score), ``distortion``, ``reference`` (the photograph), and the sessions.

    Raises:
        ValueError: the images of two photographs would have the same names.
    """
    names = pd.Series([*photograph_names, *best["image"]], dtype=object)
    stems = names.map(lambda name: "-".join(Path(name).with_suffix("").parts))
    for _, twice in names[stems.duplicated(keep=False)].groupby(stems):
        first, second, *_ = map(repr, twice)
        raise ValueError(f"the images of {first} and {second} would have the same names; rename a photograph")
    opinions = read_manifest()["opinions"]["mean"]
    rows = []
    for name, stem in zip(names, stems, strict=True):
        # KADID-10k's distortions get each level five times, in a random order per photograph; the
        # alternative curves get independent random levels.
        rng = np.random.default_rng((SEED, zlib.crc32(name.encode())))
        levels = [
            *rng.permutation(distortions.LEVELS * 5),
            *rng.integers(1, 6, len(distortions.OTHER_CURVES)),
        ]
        for kind, level in enumerate(levels, 1):
            if (kind, level) == GREY:
                continue
            distortion = distortions.find(kind)
            image = f"{image_folder}/{stem}_{kind:02d}_{level:02d}.png"
            opinion = float(opinions[distortion.stands_for][level - 1])
            rows.append((image, opinion, distortion.label, name))
    table = pd.DataFrame(rows, columns=["image", "mos", "distortion", "reference"])
    own = table["reference"].isin(photograph_names)
    trained = table[~own].copy()
    for session in SESSION_COLUMNS:
        parts = best.set_index("image")[session]
        trained[session] = trained["reference"].map(parts.where(parts == "train"))
    return pd.concat([random_sessions(table[own], SEED), trained], ignore_index=True)


def best_scored(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the `count` best-scored images outside the public test part, with ten sessions."""
    table = table if (table["session_1"] == "val").any() else with_validation(table)
    public = table[table["session_1"] != "test"]
    return public.sort_values("mos", ascending=False, kind="stable").head(count)
