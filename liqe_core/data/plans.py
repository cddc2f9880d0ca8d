"""What getting data sets takes, said beforehand: from where, on what terms, how many bytes, how much room."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from liqe_core.data.manifests import Manifest
from liqe_core.data.presence import status
from liqe_core.files import cache_dir
from liqe_core.intake.hub import FetchError


@dataclasses.dataclass(frozen=True)
class Step:
    """One data set to get.

    Attributes:
        source: where from, in a few words; empty for one that no program can get.
        transfer, unpacked: bytes; None where the manifest does not say.
        done: whether all of it is there already.
    """

    manifest: Manifest
    source: str
    transfer: int | None
    unpacked: int | None
    done: bool = False

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def terms(self) -> str:
        """The licence, and the page with the owners' terms."""
        licence = self.manifest.fields.get("terms", {}).get("licence") or "no licence stated"
        return ", see ".join(filter(None, [licence, self.manifest.where]))


def hosts_terms(steps: Iterable[Step]) -> list[str]:
    """What the hosts say of the terms, a line a host."""
    said = {of["repository"]: of["terms"] for s in steps for of in s.manifest.hosted if "terms" in of}
    return [f"{host}: {terms}" for host, terms in said.items()]


def plan(
    manifests: Iterable[Manifest],
    root: str | os.PathLike | None = None,
    labels: str | os.PathLike | None = None,
    how: str = "archive",
) -> list[Step]:
    """What there is to do for each data set; asks no server.

    Args:
        labels: a clone of zwx8981/LIQE.
        how: see `fetch_dataset`.
    """
    return [_step(manifest, root, labels, how) for manifest in manifests]


def _step(manifest: Manifest, root, labels, how: str) -> Step:
    done = bool(manifest.can_be_fetched and status(manifest, root, labels).state == "complete")
    if manifest.hosted and how != "direct":
        loose = sum(of.get("bytes", 0) for of in manifest.fields.get("files", ()))
        transfer = loose + sum(of["bytes"] for of in manifest.hosted)
        unpacked = loose + sum(of.get("unpacked", of["bytes"]) for of in manifest.hosted)
        sources = dict.fromkeys(of["repository"] for of in manifest.hosted)
        return Step(manifest, ", ".join(sources), transfer, unpacked, done)
    if manifest.repositories:
        return Step(manifest, ", ".join(of["url"] for of in manifest.repositories), None, None, done)
    urls = [of["url"] for of in manifest.fields.get("archives", ()) if of.get("url")]
    return Step(manifest, ", ".join(urls), None, None, done)


def refuse_too_little_room(steps: Iterable[Step], root: str | os.PathLike | None = None) -> str:
    """Compare what the steps need with what is free.

    An archive lies in the cache folder until its content is in place, so one is there at a time.

    Returns:
        A line a disk on the room there is.

    Raises:
        FetchError: it is too little; says where, and how much is needed.
    """
    archives = existing(cache_dir("archives"))
    now: dict[int, int] = {}
    most: dict[int, tuple[Path, int]] = {}
    for step in steps:
        place = existing(step.manifest.root(root))
        needed = {place: step.unpacked or 0}
        needed[archives] = needed.get(archives, 0)
        for folder, amount in needed.items():
            device = folder.stat().st_dev
            now[device] = now.get(device, 0) + amount
        for folder in needed:
            device = folder.stat().st_dev
            lying = (step.transfer or 0) if device == archives.stat().st_dev else 0
            first, before = most.get(device, (folder, 0))
            most[device] = first, max(before, now[device] + lying)
    said = []
    for place, amount in most.values():
        free = shutil.disk_usage(place).free
        if amount > free:
            raise FetchError(
                f"{place}: {in_words(amount)} are needed there, {in_words(free)} are free; make room, name "
                "another disk (--root or LIQE_DATA for the pictures, LIQE_CACHE for the archives), or fetch "
                "fewer sets"
            )
        said.append(f"{place}: at most {in_words(amount)} are needed at a time, {in_words(free)} are free")
    return "\n".join(said)


def in_words(count: int | None) -> str:
    """A number of bytes for people."""
    if count is None:
        return "not known"
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: its disk is the one that will be written to."""
    folder = folder.expanduser().absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())
