"""Are the pictures there, and are they whole: `status` looks quickly, `verify` opens every one."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from liqe_core.files import write_csv
from liqe_core.images import PictureError, read_picture
from liqe_core.journal import Journal
from liqe_core.label_source import labels_at_hand
from liqe_core.labels import read_labels
from liqe_core.locks import only_one
from liqe_core.manifests import Manifest
from liqe_core.picture_files import find_pictures, list_pictures
from liqe_core.tables import LabelError

#: What `verify` can find, worst first. The last two do no harm: names that differ in case are found, and
#: pictures that no label names (reference pictures, say) are not used.
PROBLEMS = ("missing", "cut short", "unreadable", "wrong size", "name differs in case", "not in the labels")
_CORRUPT = ("cut short", "unreadable")


@dataclasses.dataclass(frozen=True)
class Status:
    """What there is of a data set.

    Attributes:
        state: ``absent``, ``partly there``, ``complete`` or ``corrupt``.
        expected: pictures that the labels name (or the manifest counts, where labels are not at hand).
        found: how many of them are there, names in another case included.
        case: how many of those under a name that differs in upper and lower case.
        checked: how many were opened by `verify` and have not changed since.
        corrupt: how many of those cannot be read.
        next: what to do now.
    """

    name: str
    state: str
    folder: Path
    expected: int | None
    found: int
    case: int
    checked: int
    corrupt: int
    next: str


def status(
    manifest: Manifest, root: str | os.PathLike | None = None, mirror: str | os.PathLike | None = None
) -> Status:
    """Look whether a data set's pictures are there; opens none and fetches nothing.

    Args:
        root: the folder that data sets are in; default: see `Manifest.root`.
        mirror: see `read_labels`.
    """
    folder, there = manifest.folder(root), manifest.locate(root) is not None
    if not manifest.labels:
        made = "nothing to get: it is made from installed packages when it is used"
        return Status(manifest.name, "complete", folder, None, 0, 0, 0, 0, made)
    try:
        images = _labelled(manifest, root, mirror)
    except LabelError as error:
        if there:
            return Status(
                manifest.name, "partly there", folder, manifest.images, 0, 0, 0, 0, f"labels: {error}"
            )
        images = None
    if images is None:
        expected, found, case = manifest.images, len(_all_pictures(manifest, folder)) if there else 0, 0
    else:
        matches = find_pictures(images, folder, manifest.pictures)["match"].value_counts()
        expected, case = len(images), int(matches.get("case", 0))
        found = int(matches.get("exact", 0)) + case
    known = Journal(manifest, folder).current() if found else {}
    corrupt = sum(entry["problem"] in _CORRUPT for entry in known.values())
    state = "absent" if found == 0 else "corrupt" if corrupt else "partly there"
    if state == "partly there" and images is not None and found == expected >= (manifest.images or 0):
        state = "complete"
    return Status(
        manifest.name,
        state,
        folder,
        expected,
        found,
        case,
        len(known),
        corrupt,
        _advice(manifest, state, expected, found, len(known), images is None),
    )


def verify(
    manifest: Manifest,
    root: str | os.PathLike | None = None,
    mirror: str | os.PathLike | None = None,
    report: str | os.PathLike | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Open every picture of a data set, and write a report.

    What was found of a picture is noted at once, with the file's size and time, so a run that is killed goes
    on, and a later run opens only what changed.

    Args:
        report: where the report goes, as CSV; default: `report_path`.
        workers: threads; default: one a core.

    Returns:
        A row a problem (see `PROBLEMS`), worst first: ``dataset, image, file, problem, detail``. No rows: all
        is well.

    Raises:
        LabelError: the labels cannot be read.
        BusyError: another process is verifying the same set.
    """
    folder = manifest.folder(root)
    images = read_labels(manifest, root, mirror)["image"]
    found = find_pictures(images, folder, manifest.pictures)
    there = found[found["match"] != "missing"]
    journal = Journal(manifest, folder)
    with only_one(journal.path, doing="verifying"):
        known = journal.current()
        to_do = [file for file in dict.fromkeys(there["file"]) if file not in known]
        with (
            journal.writing() as note,
            ThreadPoolExecutor(workers or os.cpu_count()) as pool,
            tqdm(
                total=len(there), initial=len(there) - len(to_do), desc=manifest.name, disable=not progress
            ) as bar,
        ):
            try:
                for entry in pool.map(lambda file: _look(folder, file), to_do):
                    note(entry)
                    known[entry["file"]] = entry
                    bar.update()
            finally:
                pool.shutdown(cancel_futures=True)
        table = _report(manifest, folder, found, known)
        path = Path(report) if report else report_path(manifest, root)
        write_csv(path, table)
    return table


def report_path(manifest: Manifest, root: str | os.PathLike | None = None) -> Path:
    """Where `verify` writes its report unless told otherwise."""
    return Journal(manifest, manifest.folder(root)).path.with_suffix(".csv")


def _labelled(manifest: Manifest, root, mirror) -> pd.Series | None:
    """The images that the labels name; None when that cannot be known without fetching."""
    if manifest.labels["form"] == "liqe" and not labels_at_hand(mirror):
        return None
    return read_labels(manifest, root, mirror)["image"]


def _all_pictures(manifest: Manifest, folder: Path) -> list[str]:
    return [
        name if below == "." else f"{below}/{name}"
        for below in manifest.pictures
        if (folder / below).is_dir()
        for name in list_pictures(folder / below)
    ]


def _advice(manifest: Manifest, state: str, expected, found: int, checked: int, no_labels: bool) -> str:
    data = "python -m liqe_core data"
    if state == "absent":
        if manifest.fields.get("repository") or any(
            a.get("url") for a in manifest.fields.get("archives", ())
        ):
            return f"{data} fetch {manifest.name}"
        if not manifest.where:
            return "put the pictures in place"
        form = " (fill in the form there)" if manifest.access == "form" else ""
        return f"get it from {manifest.where}{form}, then {data} unpack {manifest.name} ARCHIVE"
    if no_labels:
        return f"{data} labels {manifest.name}"
    if state == "corrupt":
        return f"get the pictures named in {report_path(manifest)} again, then {data} verify {manifest.name}"
    if state == "partly there" and found == expected:
        return f"the label files here name {expected} of the {manifest.images} pictures, and all are there"
    if state == "partly there":
        return f"unpack the rest ({expected - found} pictures), or use those there are (--missing skip)"
    return f"{data} verify {manifest.name}" if checked < found else f"{data} pack {manifest.name}"


def _look(folder: Path, file: str) -> dict:
    """Open one picture: what the journal keeps of it."""
    path = folder / file
    entry = {"file": file, "problem": "", "detail": "", "width": 0, "height": 0}
    try:
        stat = path.stat()
        entry |= {"size": stat.st_size, "time": stat.st_mtime_ns}
        entry["width"], entry["height"] = read_picture(path).size
    except (PictureError, OSError) as error:
        # Pillow tells a file that ends early from one that is no picture only in words.
        words = f"{error} {error.__cause__}".lower()
        short = any(word in words for word in ("truncated", "is empty", "premature", "broken data stream"))
        entry |= {"problem": "cut short" if short else "unreadable", "detail": str(error)}
    return entry


def _report(manifest: Manifest, folder: Path, found: pd.DataFrame, known: dict[str, dict]) -> pd.DataFrame:
    rows = []
    for image, file, match in found.itertuples(index=False):
        if match == "missing":
            rows.append((image, "", "missing", f"not below {folder}"))
            continue
        entry = known[file]
        if entry["problem"]:
            rows.append((image, file, entry["problem"], entry["detail"]))
        elif manifest.picture_size and (entry["width"], entry["height"]) != manifest.picture_size:
            wanted = "{} x {}".format(*manifest.picture_size)
            rows.append((image, file, "wrong size", f"{entry['width']} x {entry['height']}, not {wanted}"))
        if match == "case":
            rows.append((image, file, "name differs in case", f"on the disk {file}"))
    extra = sorted(set(_all_pictures(manifest, folder)) - set(found["file"].dropna()))
    rows += [("", file, "not in the labels", "") for file in extra]
    table = pd.DataFrame(rows, columns=["image", "file", "problem", "detail"])
    table.insert(0, "dataset", manifest.name)
    return table.sort_values("problem", key=lambda p: p.map(PROBLEMS.index), kind="stable", ignore_index=True)
