"""A data set from the Hugging Face hub: fetched, unpacked aside, compared with the labels, put in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from liqe_core.data.archives import unpack
from liqe_core.data.finding import find_pictures, some
from liqe_core.data.label_forms import FORMS
from liqe_core.data.manifests import Manifest
from liqe_core.data.places import Parts, PicturesLackingError, places, refuse_lacking
from liqe_core.data.presence import CORRUPT, journal_of, status
from liqe_core.data.released_labels import label_folder, read_released
from liqe_core.data.tables import LabelError
from liqe_core.files import cache_dir, file_sha256, is_disk_full, only_one
from liqe_core.intake.downloads import download
from liqe_core.intake.hub import FetchError, disk_full_said_plainly, fetch_from_hub, note, source_of


def fetch_hosted(
    manifest: Manifest,
    root: str | os.PathLike | None = None,
    own: str | os.PathLike | None = None,
    labels: str | os.PathLike | None = None,
    missing: str = "error",
    progress: bool = True,
) -> Path:
    """Get a data set whose manifest has the field `hub`.

    Only what the labels name is unpacked, where they are at hand before the archive is. All goes to a hidden
    folder beside the set's place first; there every name in the labels is looked for, and every picture's
    size is compared, before one is put in place. Files that are there already stay, except those that
    `verify` found to be broken. An archive is removed when its content is in place.

    Args:
        own: the archive, on this machine; it is checked, and stays.
        labels: a clone of zwx8981/LIQE, see `read_labels`.
        missing: what of an archive that lacks pictures: ``error``, or ``skip``: take those there are.

    Returns:
        The data set's folder.

    Raises:
        FetchError: see `fetch_from_hub`, `unpack`, `places`; pictures lack, or have another size. Nothing is
            left of it but an archive that is whole, where another try needs no other.
        LabelError: the label files of one of the six training sets cannot be read.
    """
    if missing not in ("error", "skip"):
        raise ValueError(f"missing is {missing!r}: choose error or skip")
    if status(manifest, root, labels).state == "complete":
        return manifest.folder(root)
    named: Iterable[str] | None = None
    if manifest.labels["form"] == "liqe":  # fetched first: they are small, and say what is to be unpacked
        named = read_released(manifest, label_folder(labels))["image"]
    target = manifest.folder(root).resolve()
    staging = target.with_name(f".{target.name}.fetching")
    store = cache_dir("archives") / manifest.name
    with only_one(target, doing="fetching"):
        try:
            staging.mkdir(parents=True, exist_ok=True)
            with disk_full_said_plainly(staging, kept=False):
                _loose_files(manifest, store, staging, progress)
            named = _named(manifest, staging) if named is None else named
            archive = ""
            for of in manifest.hosted:
                if "take" not in of:
                    continue
                archive, path = of["file"], store / Path(of["file"]).name
                if own:
                    path = Path(own)
                    _check_own(path, of)
                else:
                    _from_hub(path, of, progress)
                into = partial(
                    _placed, archive=archive, of=of, named=named, missing=missing, where=manifest.where
                )
                unpack(path, staging, progress=progress, placed=into, kept=False)
            named = _named(manifest, staging) if named is None else named
            if named is not None:  # else `status` says what is wrong with the labels
                _compare(manifest, archive, staging, list(named), missing)
            _note_checksums(manifest, store)
            with disk_full_said_plainly(target, kept=False):
                _put_in_place(manifest, root, staging, target, named)
        except (FetchError, LabelError) as error:
            shutil.rmtree(staging, ignore_errors=True)
            again = isinstance(error, PicturesLackingError) or is_disk_full(error.__cause__ or error)
            _tidy(store, again)
            raise
        shutil.rmtree(store, ignore_errors=True)
    return target


def _check_own(path: Path, of) -> None:
    """Whether an archive of the user's own is the one that the manifest knows; it is not thrown away.

    Raises:
        FetchError: it is not there, or another one.
    """
    if not path.is_file():
        raise FetchError(f"{path}: no such archive")
    if of.get("sha256") and (found := file_sha256(path)) != of["sha256"]:
        raise FetchError(
            f"{path}: not {of['file']} of {of['repository']} (SHA-256 {found}, expected {of['sha256']}); "
            "get that one, or give this one another name and unpack it with: liqe data unpack"
        )


def _loose_files(manifest: Manifest, store: Path, staging: Path, progress: bool) -> None:
    """What is no archive: label files, mostly."""
    for of in manifest.fields.get("files", ()):
        path = download(of["url"], store / of["name"], sha256=of.get("sha256"), progress=False)
        shutil.copyfile(path, staging / of["name"])
    for of in manifest.hosted:
        if "name" in of:
            path = store / Path(of["file"]).name
            _from_hub(path, of, progress)
            shutil.copyfile(path, staging / of["name"])


def _from_hub(path: Path, of: Mapping[str, Any], progress: bool) -> None:
    pins = of.get("revision"), of.get("sha256")
    fetch_from_hub(path, of["repository"], of["file"], *pins, progress=progress)


def _note_checksums(manifest: Manifest, store: Path) -> None:
    """Those that are not known, now that what came has turned out to be good."""
    sources = [(of["name"], of["url"], of) for of in manifest.fields.get("files", ())]
    sources += [
        (Path(of["file"]).name, source_of(of["repository"], of["file"]), of) for of in manifest.hosted
    ]
    for name, source, of in sources:
        if (store / name).is_file():
            note(store / name, source, of.get("sha256"))


def _named(manifest: Manifest, folder: Path) -> Iterable[str] | None:
    """The pictures that the set's own label files name, None where those are not there (yet)."""
    try:
        return FORMS[manifest.labels["form"]](manifest, folder)["image"]
    except LabelError:
        return None


def _placed(
    names: list[Parts], archive: str, of, named: Iterable[str] | None, missing: str, where: str
) -> dict[Parts, Parts]:
    found = places(archive, names, of["take"], named)
    if named is not None and missing == "error":
        refuse_lacking(archive, named, ("/".join(to) for to in found.values()), where)
    return found


def _compare(manifest: Manifest, archive: str, staging: Path, named: list[str], missing: str) -> None:
    found = find_pictures(named, staging, manifest.pictures)
    there = found[found["match"] != "missing"]
    if missing == "error":
        refuse_lacking(archive, named, there["image"], manifest.where)
    if manifest.picture_size is None:
        return
    wrong = []
    for file in there["file"]:
        try:
            with Image.open(staging / file) as picture:
                size = picture.size
        except OSError:
            continue  # `verify` opens each, and says what is wrong with it
        if size != manifest.picture_size:
            wrong.append(f"{file} is {size[0]} x {size[1]}")
    if wrong:
        width, height = manifest.picture_size
        raise FetchError(
            f"{archive}: {len(wrong)} of {len(there)} pictures are not {width} x {height} ({some(wrong)}): "
            "another size of the set; nothing was put in place; get the right one from "
            f"{manifest.where or 'its authors'}, then: liqe data unpack {manifest.argument} ARCHIVE"
        )


def _put_in_place(manifest: Manifest, root, staging: Path, target: Path, named: Iterable[str] | None) -> None:
    if not target.exists() or not any(target.iterdir()):
        if target.exists():
            target.rmdir()
        os.replace(staging, target)
        return
    stay: set[str] = set()
    if named is not None:
        # A picture may be there under a name in another case, or in another of the manifest's folders.
        both = pd.DataFrame(
            {
                "new": find_pictures(named, staging, manifest.pictures)["file"],
                "old": find_pictures(named, target, manifest.pictures)["file"],
            }
        ).dropna()
        broken = {f for f, e in journal_of(manifest, root).current().items() if e["problem"] in CORRUPT}
        for new, old in both.itertuples(index=False):
            if old in broken:
                os.replace(staging / new, target / old)
            stay.add(new)
    for path in sorted(staging.rglob("*")):
        name = path.relative_to(staging)
        if path.is_file() and name.as_posix() not in stay and not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target / name)
    shutil.rmtree(staging)


def _tidy(store: Path, again: bool) -> None:
    """Remove whole files, unless they serve `again`; the part of a broken transfer stays, to go on from."""
    if store.is_dir():
        for path in store.iterdir():
            if not again and not path.name.startswith("."):
                path.unlink()
        if not any(store.iterdir()):
            store.rmdir()
