"""A real data set, from its label files and pictures to what training and evaluation take."""

from __future__ import annotations

import os

from liqe_core.crops import CropGeometry
from liqe_core.datasets import LabelledPictures
from liqe_core.labels import SESSION_COLUMNS, read_labels
from liqe_core.manifests import Manifest, load_manifest
from liqe_core.splits import random_sessions, with_validation
from liqe_core.store import PackedStore


def packed_set(
    name: str | os.PathLike | Manifest,
    geometry: CropGeometry | None = None,
    root: str | os.PathLike | None = None,
    mirror: str | os.PathLike | None = None,
    fastfading: str = "released",
    missing: str = "error",
    seed: int = 0,
    progress: bool = True,
) -> LabelledPictures:
    """The labels and the packed pictures of a data set, made where they are not there yet.

    A set that comes without splits gets ten random ones, one whose public split has no val part gets ten
    that share its test part (see `splits`).

    Args:
        name: a data set, a manifest's path, or a manifest.
        root, mirror, fastfading: see `read_labels`.
        missing: ``skip`` goes on with the pictures there are.
        seed: of the splits made here.

    Returns:
        Its table has the rows whose pictures are there, in the store's order.

    Raises:
        LabelError, PicturesMissingError, StoreError: what is lacking or wrong, and what to do.
    """
    manifest = name if isinstance(name, Manifest) else load_manifest(name)
    table = read_labels(manifest, root, mirror, fastfading)
    if table[list(SESSION_COLUMNS)].isna().to_numpy().all():
        table = random_sessions(table, seed)
    elif not (table["session_1"] == "val").any() and (table["session_1"] == "train").any():
        table = with_validation(table, seed=seed)
    store = PackedStore.build(
        manifest, table, manifest.root(root), geometry, missing=missing, progress=progress
    )
    return LabelledPictures(manifest.name, store.index, store)
