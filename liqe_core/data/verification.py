"""Are the pictures whole: every one is opened once, and what was found is noted."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from liqe_core.crops import CropGeometry
from liqe_core.data.finding import find_pictures
from liqe_core.data.journal import Journal
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import Manifest
from liqe_core.data.presence import CORRUPT, all_pictures, journal_of, report_path
from liqe_core.files import only_one, write_csv
from liqe_core.images import PictureError, read_ahead, read_picture
from liqe_core.intake.progress import tqdm

#: What `verify` can find, worst first. The last two do no harm: names that differ in case are found, and
#: pictures that no label names (reference pictures, say) are not used.
PROBLEMS = ("missing", *CORRUPT, "too small", "wrong size", "name differs in case", "not in the labels")

#: The side of a crop of the smallest of our models.
LEAST_WINDOW = 32


def verify(
    manifest: Manifest,
    root: str | os.PathLike | None = None,
    mirror: str | os.PathLike | None = None,
    report: str | os.PathLike | None = None,
    workers: int | None = None,
    progress: bool = True,
    window: int | None = None,
) -> pd.DataFrame:
    """Open every picture of a data set, and write a report.

    What was found of a picture is noted at once, with the file's size and time, so a run that is killed goes
    on, and a later run opens only what changed.

    Args:
        report: where the report goes, as CSV; default: `report_path`.
        workers: threads; default: one a core.
        window: pixels, the side of a crop, under which a picture is too small. Default: the paper's; where
            none of the set's pictures has room for that one, it is for a smaller model: `LEAST_WINDOW`.

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
    journal = journal_of(manifest, root)
    with only_one(journal.path, doing="verifying"):
        known = journal.current()
        to_do = [file for file in dict.fromkeys(there["file"]) if file not in known]
        looking = read_ahead(lambda file: _look(journal, file), to_do, workers)
        done = len(there) - len(to_do)
        with (
            journal.writing() as note,
            tqdm(total=len(there), initial=done, desc=manifest.name, disable=not progress) as bar,
        ):
            for entry in looking:
                note(entry)
                known[entry["file"]] = entry
                bar.update()
        table = _report(manifest, folder, found, known, window)
        path = Path(report) if report else report_path(manifest, root)
        write_csv(path, table)
    return table


def _look(journal: Journal, file: str) -> dict:
    """Open one picture: what the journal keeps of it."""
    entry = {"file": file, "problem": "", "detail": "", "width": 0, "height": 0}
    try:
        entry |= journal.stamp(file)
        entry["width"], entry["height"] = read_picture(journal.folder / file).size
    except (PictureError, OSError) as error:
        # Pillow tells a file that ends early from one that is no picture only in words.
        words = f"{error} {error.__cause__}".lower()
        short = any(word in words for word in ("truncated", "is empty", "premature", "broken data stream"))
        entry |= {"problem": "cut short" if short else "unreadable", "detail": str(error)}
    return entry


def unfit(report: pd.DataFrame) -> dict[str, str]:
    """The pictures of a report that a model cannot be shown, missing, damaged or smaller than a crop, and
    why."""
    rows = report[report["problem"].isin(["missing", *CORRUPT, "too small"])]
    return {row.image: f"{row.problem}, {row.detail}" for row in rows.itertuples()}


def _report(
    manifest: Manifest, folder: Path, found: pd.DataFrame, known: dict[str, dict], window: int | None
) -> pd.DataFrame:
    shorter = {file: min(entry["width"], entry["height"]) for file, entry in known.items()}
    if window is None:
        there = [shorter[file] for file in found["file"].dropna()]
        window = CropGeometry().window if max(there, default=0) >= CropGeometry().window else LEAST_WINDOW
    rows = []
    for image, file, match in found.itertuples(index=False):
        if match == "missing":
            rows.append((image, "", "missing", f"not below {folder}"))
            continue
        entry = known[file]
        if entry["problem"]:
            rows.append((image, file, entry["problem"], entry["detail"]))
        elif shorter[file] < window:
            size = f"{entry['width']} x {entry['height']}"
            rows.append((image, file, "too small", f"{size} pixels, one crop is {window} x {window}"))
        elif manifest.picture_size and (entry["width"], entry["height"]) != manifest.picture_size:
            wanted = "{} x {}".format(*manifest.picture_size)
            rows.append((image, file, "wrong size", f"{entry['width']} x {entry['height']}, not {wanted}"))
        if match == "case":
            rows.append((image, file, "name differs in case", f"on the disk {file}"))
    extra = sorted(set(all_pictures(manifest, folder)) - set(found["file"].dropna()))
    rows += [("", file, "not in the labels", "") for file in extra]
    table = pd.DataFrame(rows, columns=["image", "file", "problem", "detail"])
    table.insert(0, "dataset", manifest.name)
    return table.sort_values("problem", key=lambda p: p.map(PROBLEMS.index), kind="stable", ignore_index=True)
