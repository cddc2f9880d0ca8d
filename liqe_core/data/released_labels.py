"""The labels of the six training sets as released by the authors of the paper: download, checks and reader.

The labels consist of scores and, added by the authors, a distortion, up to three scenes, and ten splits. The
project does not redistribute them: they come from a local clone or are downloaded once and cached. Every file
is pinned by its SHA-256 at commit a64655f of zwx8981/LIQE. The labels of a dataset are spread over thirty
files, one per part and session, which must agree on every image.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd

from liqe_core.data.manifests import SESSIONS, AnyPath, Manifest, manifest_dir
from liqe_core.data.splits import PARTS, SESSION_COLUMNS
from liqe_core.data.tables import LabelError, read_table
from liqe_core.files import cache_dir
from liqe_core.images import read_ahead
from liqe_core.intake.progress import tqdm
from liqe_core.intake.transfers import FetchError, RemoteFile, fetch_file
from liqe_core.prompts import SCENES

COMMIT = "a64655f7b84b9543b513394472851884cde5b257"
BASE_URL = f"https://raw.githubusercontent.com/zwx8981/LIQE/{COMMIT}/"

_WHITE_NOISE = ("white noise", "white with color", "white noise with denoise")
_GROUPED = {
    "jpeg2000 compression": ["jpeg2000 compression", "fastfading"],
    "jpeg compression": ["jpeg compression"],
    "noise": [*_WHITE_NOISE, "fnoise", "impulse", "multiplicative", "realistic noise"],
    "blur": ["gaussian blur", "lens", "motion", "shifting", "realistic blur"],
    "color": ["diffusion", "oversaturation", "desaturation"],
    "contrast": ["contrast", "sharpness", "realistic contrast change"],
    "overexposure": ["brighten", "overexposure"],
    "underexposure": ["darken", "underexposure"],
    "spatial": ["jitter", "noneccentricity patch", "pixelate", "color blocking"],
    "quantization": ["color quantization", "quantization"],
    "other": ["shifting the mean", "other realistic"],
}
#: The 33 distortions of the label files, each mapped to one of the 11 distortions of the prompts (`dist_map`
#: in the public code).
DISTORTION_GROUPS = {name: group for group, names in _GROUPED.items() for name in names}

_FILE_COLUMNS = ["image", "mos", "distortion", "scene_1", "scene_2", "scene_3"]


def pins() -> dict[str, str]:
    """Return the SHA-256 of each of the 180 label files by its path in the repository."""
    lines = (manifest_dir() / "labels.sha256").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines if line)}


def label_folder(mirror: AnyPath = None) -> Path:
    """Return the folder that holds ``IQA_Database/*/splits2``, with every file as in the pinned commit.

    Args:
        mirror: a clone; default ``$LIQE_LABELS``; without either, the cache, filled by `fetch_labels`.

    Raises:
        LabelError: not a clone, or a file differs from the pinned one.
        FetchError: files cannot be downloaded.
    """
    mirror = mirror or os.environ.get("LIQE_LABELS")
    if not mirror:
        return fetch_labels()
    folder = Path(mirror).expanduser()
    folder = folder.parent if folder.name == "IQA_Database" else folder
    if not (folder / "IQA_Database").is_dir():
        raise LabelError(f"{mirror}: not a clone of zwx8981/LIQE (it has no folder IQA_Database)")
    for name, digest in pins().items():
        if (folder / name).is_file() and not _matches(folder / name, digest):
            raise LabelError(f"{folder / name}: differs from commit {COMMIT[:7]}; check out that commit")
    return folder


def labels_at_hand(mirror: AnyPath = None) -> bool:
    """Whether the label files can be read without a download."""
    if mirror or os.environ.get("LIQE_LABELS"):
        return True
    folder = cache_dir("labels", COMMIT[:7])
    return all((folder / name).is_file() for name in pins())


def fetch_labels(folder: AnyPath = None, base_url: str = BASE_URL, progress: bool = True) -> Path:
    """Download and check the missing label files; an interrupted download can be resumed.

    Args:
        folder: target folder; default: in the cache.
        base_url: base URL of the repository's raw files, or of a mirror.

    Returns:
        The folder with all label files.

    Raises:
        FetchError: the network or the server failed; downloaded files are kept.
    """
    folder = Path(folder) if folder else cache_dir("labels", COMMIT[:7])
    missing = {name: digest for name, digest in pins().items() if not _matches(folder / name, digest)}
    if not missing:
        return folder

    def fetch(name: str) -> None:
        fetch_file(RemoteFile(base_url + name, missing[name]), folder / name, progress=False)

    fetched = read_ahead(fetch, missing, 8)
    try:
        for _ in tqdm(fetched, "label files", len(missing), unit="file", disable=not progress):
            pass
    except FetchError as error:
        raise FetchError(f"label files of the six training sets: {error}; or set LIQE_LABELS") from None
    return folder


def _matches(path: Path, digest: str) -> bool:
    raw = path.read_bytes() if path.is_file() else b""
    # A clone made on Windows may have different line endings.
    return digest in (hashlib.sha256(text).hexdigest() for text in (raw, raw.replace(b"\r\n", b"\n")))


def read_released(manifest: Manifest, folder: Path) -> pd.DataFrame:
    """Read the thirty label files of one dataset and check that they agree.

    Args:
        folder: a clone that holds ``IQA_Database``.

    Returns:
        One row per image, sorted: ``image, mos, distortion, scenes`` and the ten sessions.

    Raises:
        LabelError: a file is missing, or a line is invalid; the message names it.
    """
    pieces = []
    for session in range(1, SESSIONS + 1):
        for part in PARTS:
            name = f"{manifest.labels.prefix}_{part}_clip.txt"
            path = folder / "IQA_Database" / manifest.folders[0] / "splits2" / str(session) / name
            piece = read_table(path, columns=_FILE_COLUMNS, sep="\t")
            pieces.append(piece.assign(line=piece.index, path=str(path), session=session, part=part))
    rows = pd.concat(pieces, ignore_index=True)
    _refuse(rows, rows["image"] == "", "no image name")
    rows["mos"] = pd.to_numeric(rows["mos"], errors="coerce").astype(np.float64)
    _refuse(rows, ~np.isfinite(rows["mos"]), "the score is not a number")
    _refuse(rows, rows.duplicated(["session", "image"]), "{image!r} is in this session a second time")
    _refuse(rows, ~rows["distortion"].isin(DISTORTION_GROUPS), "unknown distortion {distortion!r}")
    for scene in _FILE_COLUMNS[3:]:
        _refuse(rows, ~rows[scene].isin([*SCENES, "invalid"]), f"unknown scene {{{scene}!r}}")
    _refuse(rows, rows["scene_1"] == "invalid", "no scene")
    images = rows.drop_duplicates("image")
    differing = ~rows.duplicated(_FILE_COLUMNS) & rows.duplicated("image")
    _refuse(rows, differing, "{image!r} has different labels in an earlier file")
    parts = rows.pivot(index="image", columns="session", values="part")
    if parts.isna().to_numpy().any():
        image = parts.index[parts.isna().any(axis=1)][0]
        session = parts.columns[parts.loc[image].isna()][0]
        raise LabelError(f"{folder}: {manifest.name}: {image!r} is in no part of session {session}")
    parts.columns = SESSION_COLUMNS
    images = images.set_index("image").loc[parts.index]
    scenes = images[_FILE_COLUMNS[3:]].to_numpy()
    images["scenes"] = [tuple(name for name in row if name != "invalid") for row in scenes]
    return pd.concat([images[["mos", "distortion", "scenes"]], parts], axis=1).reset_index(names="image")


def _refuse(rows: pd.DataFrame, bad: pd.Series, problem: str) -> None:
    if bad.any():
        row = rows[bad].iloc[0]
        problem = f"{problem.format(**row)} (such lines: {bad.sum()})"
        raise LabelError(f"{row.path}, line {row.line}: {problem}; correct or remove it")


def references_of(manifest: Manifest, images: pd.Series, root) -> list[str | None]:
    """Return the reference names, from file names or, for LIVE, from the list shipped with the images."""
    if manifest.reference_map and (path := manifest.folder(root) / manifest.reference_map).is_file():
        return _live_references(path, images)
    return [manifest.reference_of(image) for image in images]


def _live_references(path: Path, images: pd.Series) -> list[str | None]:
    """Read refnames_all.mat: 982 names in the order jp2k 1..227, jpeg 1..233, wn, gblur, fastfading."""
    from scipy.io import loadmat

    counts = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    keys = [f"{folder}/img{i}.bmp" for folder, count in counts.items() for i in range(1, count + 1)]
    try:
        names = [str(np.ravel(cell)[0]) for cell in np.ravel(loadmat(path)["refnames_all"])]
    except (KeyError, ValueError, IndexError, NotImplementedError, OSError) as error:
        raise LabelError(f"{path}: not LIVE's table of reference names ({error!r})") from error
    if len(names) != len(keys):
        raise LabelError(f"{path}: {len(names)} names, expected {len(keys)}; download the file again")
    references = dict(zip(keys, (Path(name).stem.lower() for name in names), strict=True))
    return [references.get(image) for image in images]
