"""From a profile to what it needs: its datasets, built or found."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from liqe_core.data import mini
from liqe_core.data.fetch import readable_size
from liqe_core.data.labelled import LabelledImages, packed_set
from liqe_core.data.labels import correct_fastfading, read_labels
from liqe_core.data.manifests import load_manifest
from liqe_core.data.store import ImageSource, PackedStore
from liqe_core.data.verification import status, unfit, verify
from liqe_core.files import cache_dir
from liqe_core.training.batches import geometry_of
from liqe_core.training.profiles import Profile

#: What the name of a dataset ends in whose images were brought to the size at which people saw them.
AS_SHOWN = " as shown"

#: What a profile makes of the mini dataset where that is not `mini.build`'s own choice: ``smoke`` takes
#: seconds, not a minute; a model that starts from nothing needs more views, or it learns the photographs.
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
    """The profile on other datasets, which share its batch evenly, with the words that their manifests name.

    Args:
        names: of datasets, or paths of manifests.
        kept: settings that stay as they are.

    Raises:
        ManifestError: no such manifest. ValueError: two manifests have different words.
    """
    manifests = {name: load_manifest(name) for name in names}
    images = sum(settings.data.batch_sizes.values())
    changes: dict[str, Any] = {"batch_sizes": dict.fromkeys(names, max(2, images // len(manifests)))}
    for axis in ("scene", "distortion"):
        words = {";".join(manifest.words.get(axis, ())) for manifest in manifests.values()}
        if len(words) > 1:
            raise ValueError(f"{', '.join(names)}: not all have the same words of {axis}; give all the same")
        changes |= {f"{axis}_words": text for text in words if text}
    return settings.override(**{name: value for name, value in changes.items() if name not in kept})


def sets_for(settings: Profile, progress: bool = True) -> list[LabelledImages]:
    """Build or find every dataset that the profile names.

    Raises:
        ValueError: a dataset that has to be downloaded or registered for is not there; says what to do.
    """
    sets = []
    for name in settings.data.batch_sizes:
        # By the name that the settings know it by, which may be a manifest's path.
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
    """One dataset, built or found, packed for the profile's crops; whether the profile names it or not.

    Args:
        missing: ``skip`` goes on with the images there are.
        as_shown: enlarge each image to the size at which people saw it (`Manifest.shown`), as far as the
            profile's crops keep that size; the set is then called so (`AS_SHOWN`).
        session: the test part of that session alone; 0: all of it.

    Raises:
        ValueError: it is not there, or its manifest does not say how it was shown; says what to do.
    """
    if name == "mini":
        root, labels = _mini(settings, progress)
        store = PackedStore.build(ImageSource(name, root, geometry_of(settings)), labels, progress=progress)
        return LabelledImages(name, labels, store)
    if lacks := lacking([name]):
        raise ValueError(f"the dataset {name} is not ready: {lacks[name]}")
    manifest = load_manifest(name)
    geometry, made = geometry_of(settings), manifest.form == "distorted"
    bad: dict[str, str | None] = {}
    if as_shown:
        if not manifest.shown:
            raise ValueError(f"{manifest.path}: shown is not given, the side at which people saw the images")
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


def lacking(names: Iterable[str], parts: bool = False) -> dict[str, str]:
    """Of some datasets, those of which nothing is there, each with what to do about it. Opens no image.

    Args:
        parts: those too of which some images lack or are broken.
    """
    lacks = {}
    for name in names:
        manifest = load_manifest(name)
        found = status(manifest)
        made = manifest.form in ("", "distorted")  # or drawn: nothing to get
        lack = found.corrupt or found.found < (found.expected or 1) if parts else not found.found
        if lack and not (made and (found.expected or found.state == "complete")):
            lacks[name] = found.next
    return lacks


def decoded(names: Iterable[str], settings: Profile) -> str:
    """What the decoded images of datasets take, as far as manifests tell, and where they are kept."""
    sizes, unknown, least = [], [], geometry_of(settings).resize_to
    for manifest in map(load_manifest, names):
        if manifest.image_size and manifest.images and least:
            width, height = manifest.image_size
            shrunk = min(1.0, least / min(width, height)) ** 2
            size = int(3 * width * height * shrunk * manifest.images)
            sizes.append(f"{manifest.name} {readable_size(size)}")
        elif manifest.labels:
            unknown.append(manifest.name)
    if unknown:
        sizes.append(f"not known before: {', '.join(unknown)}")
    return f"decoded images, kept in {cache_dir('store')}: {'; '.join(sizes) or 'small'}"


def image_folder(name: str, settings: Profile) -> Path:
    """The folder that the names in a dataset's label table are relative to."""
    if name == "mini":
        return _mini(settings, progress=False)[0]
    return load_manifest(name).folder()


def scored_by_people(name: str) -> bool:
    """Whether the scores of a dataset are of its own images, or a stand-in (see `data.mini`)."""
    return name != "mini" and load_manifest(name).form != "distorted"


def _mini(settings: Profile, progress: bool) -> tuple[Path, pd.DataFrame]:
    return mini.build(selection=MINI.get(settings.name), progress=progress)
