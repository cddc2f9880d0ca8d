"""The state of a dataset: `status` finds missing images without opening any; `verify` opens every image."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from liqe_core.crops import CropGeometry
from liqe_core.data.distorted import sets_to_fetch
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import AnyPath, Manifest
from liqe_core.data.presence import Journal, find_images
from liqe_core.data.released_labels import labels_at_hand
from liqe_core.data.tables import LabelError
from liqe_core.files import cache_dir, first_few, only_one, write_csv
from liqe_core.images import ImageError, list_images, read_ahead, read_image
from liqe_core.intake.progress import tqdm

#: The problems of unusable images in a report of `verify`.
CORRUPT = ("cut short", "unreadable")

#: All problems that `verify` reports, worst first. The last two are harmless: names that differ in case are
#: found, and images that no label names (for example reference images) are not used.
PROBLEMS = ("missing", *CORRUPT, "too small", "wrong size", "name differs in case", "not in the labels")

#: The crop size of the smallest model of this project.
LEAST_WINDOW = 32


@dataclasses.dataclass(frozen=True)
class Status:
    """The state of a dataset.

    Attributes:
        state: ``absent``, ``partly there``, ``complete`` or ``corrupt``.
        next: the next step for the user.
        expected: number of labelled images (or the count in the manifest if the labels are unavailable).
        found: number of labelled images that are present, including names that differ in case.
        case: number of images found under a name that differs in case.
        checked: number of images that `verify` has opened and that have not changed since.
        corrupt: number of checked images that cannot be read.
    """

    name: str
    state: str
    folder: Path
    next: str = ""
    expected: int | None = None
    found: int = 0
    case: int = 0
    checked: int = 0
    corrupt: int = 0


def status(manifest: Manifest, root: AnyPath = None, mirror: AnyPath = None) -> Status:
    """Find the images of a dataset without opening them and without network access.

    Args:
        root: the folder of all datasets; default: see `Manifest.root`.
        mirror: see `read_labels`.
    """
    folder = manifest.folder(root)
    absent = Status(manifest.name, "absent", folder, expected=manifest.images)
    if not manifest.labels:
        if manifest.page:
            by_hand = f"get it from {manifest.page}; its labels are not supported yet"
            return dataclasses.replace(absent, next=by_hand)
        return Status(manifest.name, "complete", folder, "nothing to get: it is made when it is used")
    to_fetch = sets_to_fetch(manifest, folder) if manifest.form == "distorted" else []
    images = None  # unknown without a download
    try:
        if not to_fetch and (manifest.form != "liqe" or labels_at_hand(mirror)):
            images = read_labels(manifest, root, mirror)["image"]
    except LabelError as error:
        if manifest.locate(root):
            return dataclasses.replace(absent, state="partly there", next=f"correct the labels: {error}")
    names = all_images(manifest, folder) if images is None else images
    files = find_images(names, folder, manifest.image_folders)
    missing = files.loc[files["match"] == "missing", "image"].tolist()
    found, case = len(files) - len(missing), int((files["match"] == "case").sum())
    entries = journal_of(manifest, root).current() if found else {}
    corrupt = sum(entry["problem"] in CORRUPT for entry in entries.values())
    all_there = images is not None and found == len(images) >= (manifest.images or 0)
    state = "absent" if not found else "corrupt" if corrupt else "complete" if all_there else "partly there"
    expected = manifest.images if images is None else len(images)
    now = Status(manifest.name, state, folder, "", expected, found, case, len(entries), corrupt)
    if to_fetch:
        advice = f"liqe data fetch {' '.join(to_fetch)}"
    elif images is None and found:
        advice = f"liqe data labels {manifest.argument}"
    elif missing and not found and (present := all_images(manifest, folder)):
        close = (get_close_matches(missing[0], present, 1, 0.3) or present)[0]
        advice = f"correct the table: it names {missing[0]!r}, the folder has {close!r}"
    else:
        advice = _advice(manifest, now, missing)
    return dataclasses.replace(now, next=advice)


def journal_of(manifest: Manifest, root: AnyPath = None) -> Journal:
    """Return the journal of `verify` for a dataset; each folder has its own journal in the cache."""
    folder = manifest.folder(root)
    tag = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return Journal(cache_dir("verify") / f"{manifest.name}-{tag}.jsonl", folder)


def report_path(manifest: Manifest, root: AnyPath = None) -> Path:
    """Return the file of the report of `verify`."""
    return journal_of(manifest, root).path.with_suffix(".csv")


def all_images(manifest: Manifest, folder: Path) -> list[str]:
    """List all images in the image folders of the manifest, relative to the dataset's folder."""
    names = [Path(below, name) for below in manifest.image_folders for name in list_images(folder / below)]
    return [name.as_posix() for name in names]


def _advice(manifest: Manifest, now: Status, missing: Sequence[str]) -> str:
    command, name = "liqe data", manifest.argument
    if manifest.form == "distorted" and missing:
        return "nothing to get: the images are made when they are first used"
    if now.state == "absent":
        if manifest.can_be_fetched:
            return f"{command} fetch {name}"
        if not manifest.page:
            return "put the images in place"
        form = " (fill in the form there)" if manifest.terms.access == "form" else ""
        return f"get it from {manifest.page}{form}, then {command} unpack {name} ARCHIVE"
    if now.state == "corrupt":
        if manifest.hosted:
            return f"{command} fetch {name} (it replaces corrupt images)"
        return f"get the images named in {report_path(manifest)} again, then {command} verify {name}"
    if now.state == "partly there" and not missing:
        return f"the label files name {now.expected} of the {manifest.images} images, and all are present"
    if now.state == "partly there":
        count = f"{len(missing)} images: {first_few(missing, 3)}"
        return f"unpack the others ({count}), or use the images that exist (pack, with --missing skip)"
    return f"{command} {'verify' if now.checked < now.found else 'pack'} {name}"


def verify(
    manifest: Manifest,
    root: AnyPath = None,
    mirror: AnyPath = None,
    workers: int | None = None,
    progress: bool = True,
    window: int | None = None,
) -> pd.DataFrame:
    """Open every image of a dataset and write a report to `report_path`.

    The result for each image is saved at once, with the file's size and modification time. An interrupted
    run can be resumed, and a later run opens only files that have changed.

    Args:
        workers: number of threads; default: one per core.
        window: the crop size in pixels; an image with a smaller side is too small. Default: the paper's; if
            all images are smaller than that, the dataset is for a smaller model and `LEAST_WINDOW` is used.

    Returns:
        One row per problem (see `PROBLEMS`), worst first: ``dataset, image, file, problem, detail``; empty
        if there is no problem.

    Raises:
        LabelError: the labels cannot be read.
        BusyError: another process is verifying the same dataset.
    """
    folder = manifest.folder(root)
    images = read_labels(manifest, root, mirror)["image"]
    matches = find_images(images, folder, manifest.image_folders)
    files = matches.loc[matches["match"] != "missing", "file"]
    journal = journal_of(manifest, root)
    with only_one(journal.path, doing="verifying"):
        known = journal.current()
        to_do = [file for file in dict.fromkeys(files) if file not in known]
        entries = read_ahead(lambda file: _inspect(journal, file), to_do, workers)
        shown = {"initial": len(files) - len(to_do), "disable": not progress}
        for entry in tqdm(entries, manifest.name, len(files), **shown):
            journal.note(entry)
            known[entry["file"]] = entry
        table = _report(manifest, folder, matches, known, window)
        write_csv(report_path(manifest, root), table)
    return table


def _inspect(journal: Journal, file: str) -> dict:
    """Open one image and return its entry for the journal."""
    entry = {"file": file, "problem": "", "detail": "", "width": 0, "height": 0}
    try:
        entry |= journal.stamp(file)
        entry["width"], entry["height"] = read_image(journal.folder / file).size
    except (ImageError, OSError) as error:
        # Only the text of Pillow's error distinguishes a truncated file from one that is not an image.
        words = f"{error} {error.__cause__}".lower()
        short = any(word in words for word in ("truncated", ": empty", "premature", "broken data stream"))
        entry |= {"problem": "cut short" if short else "unreadable", "detail": str(error)}
    return entry


def unfit(report: pd.DataFrame) -> dict[str, str]:
    """Return the unusable images of a report (missing, corrupt or smaller than a crop) and the reasons."""
    rows = report[report["problem"].isin(["missing", *CORRUPT, "too small"])]
    return {row.image: f"{row.problem}, {row.detail}" for row in rows.itertuples()}


def _report(
    manifest: Manifest, folder: Path, matches: pd.DataFrame, known: dict[str, dict], window: int | None
) -> pd.DataFrame:
    shorter = {file: min(entry["width"], entry["height"]) for file, entry in known.items()}
    if window is None:
        sides = [shorter[file] for file in matches["file"].dropna()]
        window = CropGeometry().window if max(sides, default=0) >= CropGeometry().window else LEAST_WINDOW
    rows = []
    for image, file, match in matches.itertuples(index=False):
        if match == "missing":
            rows.append((image, "", "missing", f"not below {folder}"))
            continue
        entry = known[file]
        size, wanted = f"{entry['width']} x {entry['height']}", manifest.image_size
        if entry["problem"]:
            rows.append((image, file, entry["problem"], entry["detail"]))
        elif shorter[file] < window:
            rows.append((image, file, "too small", f"{size} pixels, one crop is {window} x {window}"))
        elif wanted and wanted != (entry["width"], entry["height"]):
            rows.append((image, file, "wrong size", f"{size}, not {wanted[0]} x {wanted[1]}"))
        if match == "case":
            rows.append((image, file, "name differs in case", f"on disk: {file}"))
    extra = sorted(set(all_images(manifest, folder)) - set(matches["file"].dropna()))
    rows += [("", file, "not in the labels", "") for file in extra]
    table = pd.DataFrame(rows, columns=["image", "file", "problem", "detail"])
    table.insert(0, "dataset", manifest.name)
    return table.sort_values("problem", key=lambda p: p.map(PROBLEMS.index), kind="stable", ignore_index=True)
