"""Find or build the datasets of a profile."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from liqe_core.data import mini
from liqe_core.data.fetch import disk_of, readable_size
from liqe_core.data.labelled import LabelledImages, packed_set
from liqe_core.data.labels import correct_fastfading, read_labels
from liqe_core.data.manifests import load_manifest
from liqe_core.data.store import ImageSource, PackedStore
from liqe_core.data.verification import status, unfit, verify
from liqe_core.files import cache_dir
from liqe_core.training.batches import geometry_of
from liqe_core.training.profiles import Profile

#: Suffix of the name of a dataset whose images are resized to the size at which people saw them.
AS_SHOWN = " as shown"

#: Profiles with another selection for the mini dataset than the default of `mini.build`. ``smoke`` takes
#: seconds instead of a minute. A model trained from scratch needs more views to avoid overfitting.
MINI = {
    "smoke": mini.Selection(
        photographs=("astronaut", "chelsea", "coffee", "china", "camera"),
        kinds=(1, 8, 10, 11),
        levels=(1, 3, 5),
        size=(96, 72),
        views=("whole",),
        varied=1,
    ),
    "mini-scratch": mini.Selection(varied=2),
}


def on_data(settings: Profile, names: Sequence[str], kept: Collection[str] = ()) -> Profile:
    """Return the profile for other datasets, with the words of their manifests and equal batch sizes.

    Args:
        names: names of datasets, or paths of manifests.
        kept: settings that are not changed.

    Raises:
        ManifestError: if a manifest does not exist.
        ValueError: if two manifests have different words.
    """
    manifests = {name: load_manifest(name) for name in names}
    images = sum(settings.data.batch_sizes.values())
    changes: dict[str, Any] = {"batch_sizes": dict.fromkeys(names, max(2, images // len(manifests)))}
    for axis in ("scene", "distortion"):
        words = {";".join(manifest.words.get(axis, ())) for manifest in manifests.values()}
        if len(words) > 1:
            raise ValueError(f"{', '.join(names)}: the {axis} words differ; give all the same words")
        changes |= {f"{axis}_words": text for text in words if text}
    return settings.override(**{name: value for name, value in changes.items() if name not in kept})


def sets_for(settings: Profile, progress: bool = True) -> list[LabelledImages]:
    """Find or build each dataset of the profile.

    Raises:
        ValueError: if a dataset must be downloaded first. The message says how.
    """
    sets = []
    for name in settings.data.batch_sizes:
        # Under its name in the settings, which may be the path of a manifest.
        dataset = dataclasses.replace(labelled(name, settings, progress), name=name)
        most = settings.testing.measured
        sets.append(dataset.thinned(most) if most else dataset)
    return sets


def labelled(
    name: str,
    settings: Profile,
    progress: bool = True,
    missing: str = "error",
    as_shown: bool = False,
    session: int = 0,
) -> LabelledImages:
    """Find or build a dataset and pack it for the crops of the profile, which does not have to name it.

    Args:
        missing: ``error`` if images are missing, or ``skip`` them.
        as_shown: enlarge each image to the size at which people saw it (`Manifest.shown`), within the size
            limit of the profile's crops. `AS_SHOWN` is appended to the name of the dataset.
        session: load only the test part of this session; 0: all images.

    Raises:
        ValueError: if the dataset is missing, or `shown` is missing in its manifest. The message says what to
            do.
    """
    if name == "mini":
        root, labels = _mini(settings, progress)
        store = PackedStore.build(ImageSource(name, root, geometry_of(settings)), labels, progress=progress)
        return LabelledImages(name, labels, store)
    if next_steps := missing_datasets([name]):
        raise ValueError(f"the dataset {name} is not ready: {next_steps[name]}")
    manifest = load_manifest(name)
    geometry, made = geometry_of(settings), manifest.form == "distorted"
    bad: dict[str, str | None] = {}
    if as_shown:
        if not manifest.shown:
            raise ValueError(f"{manifest.path}: shown is missing; give the side that people saw in pixels")
        side = max(geometry.window, min(manifest.shown, geometry.resize_to or manifest.shown))
        geometry = dataclasses.replace(geometry, enlarge_to=side)
    if settings.data.unfit == "leave out" and not made:
        window = 1 if settings.data.enlarge else geometry.window
        report = verify(manifest, progress=progress, window=window)
        readable = (report["problem"] == "cut short") & (settings.data.truncated == "accept")
        bad |= unfit(report[~readable])
    if session:
        labels = read_labels(manifest)
        bad |= dict.fromkeys(labels["image"][labels[f"session_{session}"] != "test"])
    dataset = packed_set(manifest, geometry, None, missing, bad, progress, **settings.data.reading)
    if name == "live" and settings.data.fastfading == "corrected":
        dataset = dataclasses.replace(dataset, table=correct_fastfading(dataset.table))
    if made and not settings.data.stand_in:
        dataset = dataclasses.replace(dataset, table=dataset.table.assign(mos=float("nan")))
    if settings.data.vary and (made or manifest.score is None):
        grey = np.where(dataset.table["distortion_group"] == "color", 0, 1 / 8)
        dataset = dataclasses.replace(dataset, grey=grey, any_size=not made)
    if as_shown:
        name = dataset.name + AS_SHOWN
        dataset = dataclasses.replace(dataset, name=name, table=dataset.table.assign(dataset=name))
    return dataset


def missing_datasets(names: Iterable[str], parts: bool = False) -> dict[str, str]:
    """Return the missing datasets and how to get each of them, without opening images.

    Args:
        parts: include datasets with some missing or damaged images.
    """
    next_steps = {}
    for name in names:
        manifest = load_manifest(name)
        found = status(manifest)
        made = manifest.form in ("", "distorted")  # built or drawn locally: no download
        lack = found.corrupt or found.found < (found.expected or 1) if parts else not found.found
        if lack and not (made and (found.expected or found.state == "complete")):
            next_steps[name] = found.next
    return next_steps


def decoded(images: Mapping[str, int | None], settings: Profile, refuse: bool = False) -> str:
    """Describe the disk space and the folder of the decoded images, as far as the manifests allow.

    Args:
        images: the number of images of each dataset; None: all.
        refuse: raise if the images that are not decoded yet do not fit on the disk.

    Raises:
        OSError: the disk is too small.
    """
    geometry, store, shown, unknown, needed = geometry_of(settings), cache_dir("store"), [], [], 0
    for manifest, count in zip(map(load_manifest, images), images.values(), strict=True):
        if size := manifest.decoded_bytes(geometry):
            size = size * (count or manifest.images or 0) // (manifest.images or 1)
            shown.append(f"{manifest.name} {readable_size(size)}")
            packs = ImageSource(manifest.name, manifest.folder(), geometry).store_folder().glob("*.bin")
            needed += max(0, size - sum(pack.stat().st_size for pack in packs))
        elif manifest.labels:
            unknown.append(manifest.name)
    shown += [f"unknown size: {', '.join(unknown)}"] if unknown else []
    free = shutil.disk_usage(disk_of(store)).free
    room = f"{readable_size(needed)} are needed, {readable_size(free)} are free"
    line = f"decoded images, kept in {store}: {'; '.join(shown) or 'small'}; {room}"
    if refuse and needed > free:
        raise OSError(f"{line}; free some space, or set LIQE_CACHE to another disk")
    return line


def image_folder(name: str, settings: Profile) -> Path:
    """Return the folder to which the image names in the label table of a dataset are relative."""
    if name == "mini":
        return _mini(settings, progress=False)[0]
    return load_manifest(name).folder()


def scored_by_people(name: str) -> bool:
    """Return whether the scores of a dataset are human scores, not substitute scores (`data.mini`)."""
    return name != "mini" and load_manifest(name).form != "distorted"


def kind_of_score(name: str) -> str:
    """Return what the scores of a dataset are, as a label for an axis."""
    return "human score" if scored_by_people(name) else "substitute score (mean opinion of its distortion)"


def _mini(settings: Profile, progress: bool) -> tuple[Path, pd.DataFrame]:
    return mini.build(selection=MINI.get(settings.name), progress=progress)
