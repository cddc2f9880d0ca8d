"""From a profile to what it needs and makes: its data sets, and a model trained by it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd

from liqe_core.data import mini
from liqe_core.data.labelled import LabelledPictures, packed_set
from liqe_core.data.manifests import load_manifest
from liqe_core.data.presence import status
from liqe_core.data.store import PackedStore
from liqe_core.files import runs_dir
from liqe_core.model import LIQE
from liqe_core.training.loop import fit
from liqe_core.training.profiles import Profile, profile
from liqe_core.training.runs import is_finished, run_folder
from liqe_core.training.step import geometry_of

#: What ``smoke`` makes of the mini data set: seconds instead of a minute.
SMOKE_SELECTION: dict[str, Any] = {
    "photographs": ("astronaut", "chelsea", "coffee", "china", "camera"),
    "kinds": (1, 8, 10, 11),
    "levels": (1, 3, 5),
    "size": (96, 72),
    "views": ("whole",),
    "varied": 1,
}


def sets_for(settings: Profile, progress: bool = True) -> list[LabelledPictures]:
    """Build or find every data set that the profile names.

    Raises:
        ValueError: a data set that has to be downloaded or registered for is not there; says what to do.
    """
    return [labelled(name, settings, progress) for name in settings.batch_sizes]


def labelled(name: str, settings: Profile, progress: bool = True, missing: str = "error") -> LabelledPictures:
    """One data set, built or found, packed for the profile's crops; whether the profile names it or not.

    Args:
        missing: ``skip`` goes on with the pictures there are.

    Raises:
        ValueError: it is not there; says what to do.
    """
    if name == "mini":
        root, labels = _mini(settings, progress)
        store = PackedStore.build(name, labels, root, geometry_of(settings), progress=progress)
        return LabelledPictures(name, labels, store)
    manifest = load_manifest(name)
    found, made = status(manifest), manifest.labels["form"] == "distorted"
    if found.found == 0 and not (made and found.expected):
        raise ValueError(f"the data set {name} is not there: {found.next}")
    of = packed_set(manifest, geometry_of(settings), progress=progress, missing=missing)
    if made and not settings.stand_in:
        of = dataclasses.replace(of, table=of.table.assign(mos=float("nan")))
    return of


def picture_folder(name: str, settings: Profile) -> Path:
    """The folder that the names in a data set's label table are relative to."""
    if name == "mini":
        return _mini(settings, progress=False)[0]
    return load_manifest(name).folder()


def scored_by_people(name: str) -> bool:
    """Whether the scores of a data set are of its own pictures, or a stand-in (see `data.mini`)."""
    return name != "mini" and load_manifest(name).labels["form"] != "distorted"


def _mini(settings: Profile, progress: bool) -> tuple[Path, pd.DataFrame]:
    return mini.build(**(SMOKE_SELECTION if settings.name == "smoke" else {}), progress=progress)


def trained_model(
    profile_name: str,
    session: int = 1,
    seed: int = 1,
    folder: str | Path | None = None,
    progress: bool = True,
    **changes: Any,
) -> LIQE:
    """The model that `02_multitask_training` makes of a session; trained now where it is not there yet.

    Args:
        folder: where the profile's runs are; default: ``runs/<profile>``.
        seed: as in that notebook: session k is trained from seed + k - 1.
        changes: other settings of the profile, such as ``variant="quality"``.
    """
    settings = profile(profile_name, session=session, seed=seed + session - 1, **changes)
    run = run_folder(settings, folder or runs_dir(profile_name))
    if not is_finished(run):
        fit(settings, sets_for(settings, progress), run, progress)
    return LIQE.from_checkpoint(run / "best_average.safetensors")
