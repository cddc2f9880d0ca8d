"""What there is of a data set, without opening a picture, and what to do next."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import pandas as pd

from liqe_core.data.distorted import sets_to_fetch
from liqe_core.data.finding import find_pictures, some
from liqe_core.data.journal import Journal
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import Manifest
from liqe_core.data.released_labels import labels_at_hand
from liqe_core.data.tables import LabelError
from liqe_core.files import cache_dir
from liqe_core.images import list_pictures

#: What `verify` calls a picture that cannot be used.
CORRUPT = ("cut short", "unreadable")


@dataclasses.dataclass(frozen=True)
class Status:
    """What there is of a data set.

    Attributes:
        state: ``absent``, ``partly there``, ``complete`` or ``corrupt``.
        next: what to do now.
        expected: pictures that the labels name (or the manifest counts, where labels are not at hand).
        found: how many of them are there, names in another case included.
        case: how many of those under a name that differs in upper and lower case.
        checked: how many were opened by `verify` and have not changed since.
        corrupt: how many of those cannot be read.
    """

    name: str
    state: str
    folder: Path
    next: str
    expected: int | None = None
    found: int = 0
    case: int = 0
    checked: int = 0
    corrupt: int = 0


def status(
    manifest: Manifest, root: str | os.PathLike | None = None, mirror: str | os.PathLike | None = None
) -> Status:
    """Look whether a data set's pictures are there; opens none and fetches nothing.

    Args:
        root: the folder that data sets are in; default: see `Manifest.root`.
        mirror: see `read_labels`.
    """
    folder, there = manifest.folder(root), manifest.locate(root) is not None
    if not manifest.labels and manifest.where:
        by_hand = f"get it from {manifest.where}; this project does not read its labels yet"
        return Status(manifest.name, "absent", folder, by_hand, manifest.images)
    if not manifest.labels:
        made = "nothing to get: it is made from installed packages when it is used"
        return Status(manifest.name, "complete", folder, made)
    made_here = manifest.labels["form"] == "distorted"
    lacks = sets_to_fetch(manifest, folder) if made_here else []
    try:
        images = None if lacks else _labelled(manifest, root, mirror)
    except LabelError as error:
        if there:
            return Status(manifest.name, "partly there", folder, f"labels: {error}", manifest.images)
        images = None
    missing: list[str] = []
    if images is None:
        expected, found, case = manifest.images, len(all_pictures(manifest, folder)) if there else 0, 0
    else:
        files = find_pictures(images, folder, manifest.pictures)
        missing = files.loc[files["match"] == "missing", "image"].tolist()
        matches = files["match"].value_counts()
        expected, case = len(images), int(matches.get("case", 0))
        found = int(matches.get("exact", 0)) + case
    known = journal_of(manifest, root).current() if found else {}
    corrupt = sum(entry["problem"] in CORRUPT for entry in known.values())
    state = "absent" if found == 0 else "corrupt" if corrupt else "partly there"
    if state == "partly there" and images is not None and found == len(images) >= (manifest.images or 0):
        state = "complete"
    if lacks:
        advice = f"liqe data fetch {' '.join(lacks)}"
    elif made_here and found < (expected or 0):
        advice = "nothing to get: the pictures are made when they are first used"
    else:
        advice = _advice(manifest, state, expected, found, len(known), images is None, missing)
    return Status(manifest.name, state, folder, advice, expected, found, case, len(known), corrupt)


def journal_of(manifest: Manifest, root: str | os.PathLike | None = None) -> Journal:
    """What `verify` found of a data set's pictures; each folder has a journal of its own, in the cache."""
    folder = manifest.folder(root)
    tag = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return Journal(cache_dir("verify") / f"{manifest.name}-{tag}.jsonl", folder)


def report_path(manifest: Manifest, root: str | os.PathLike | None = None) -> Path:
    """Where `verify` writes its report unless told otherwise."""
    return journal_of(manifest, root).path.with_suffix(".csv")


def _labelled(manifest: Manifest, root, mirror) -> pd.Series | None:
    """The images that the labels name; None when that cannot be known without fetching."""
    if manifest.labels["form"] == "liqe" and not labels_at_hand(mirror):
        return None
    return read_labels(manifest, root, mirror)["image"]


def all_pictures(manifest: Manifest, folder: Path) -> list[str]:
    """Every picture in the folders that the manifest names, relative to the data set's folder."""
    return [
        name if below == "." else f"{below}/{name}"
        for below in manifest.pictures
        for name in list_pictures(folder / below)
    ]


def _advice(
    manifest: Manifest, state: str, expected, found: int, checked: int, no_labels: bool, missing: list[str]
) -> str:
    data, which = "liqe data", manifest.argument
    if state == "absent":
        if manifest.can_be_fetched:
            return f"{data} fetch {which}"
        if not manifest.where:
            return "put the pictures in place"
        form = " (fill in the form there)" if manifest.access == "form" else ""
        return f"get it from {manifest.where}{form}, then {data} unpack {which} ARCHIVE"
    if no_labels:
        return f"{data} labels {which}"
    if state == "corrupt":
        if manifest.hosted:
            return f"{data} fetch {which} (it puts whole pictures in place of broken ones)"
        return f"get the pictures named in {report_path(manifest)} again, then {data} verify {which}"
    if state == "partly there" and found == expected:
        return f"the label files here name {expected} of the {manifest.images} pictures, and all are there"
    if state == "partly there":
        rest = f"{expected - found} pictures" + (f": {some(missing, 3)}" if missing else "")
        return f"unpack the rest ({rest}), or use those there are (pack, with --missing skip)"
    return f"{data} verify {which}" if checked < found else f"{data} pack {which}"
