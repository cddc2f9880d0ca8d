"""Packs: the files that a store is made of, written side by side, each whole or not there.

``pack-NNNNN-KEY.bin`` holds the pixels of up to 128 pictures one after another; ``pack-NNNNN-KEY.json``,
written after it, says that it is whole: place, shape and checksum of each picture. KEY stands for everything
that the pixels depend on: the format, the geometry, and name, size and time of every source file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from liqe_core.crops import CropGeometry, resize
from liqe_core.files import atomic_path, is_disk_full, json_sha256, write_text
from liqe_core.images import PictureError, read_ahead, read_picture
from liqe_core.intake.progress import tqdm

FORMAT = 1
PER_PACK = 128


class StoreError(ValueError):
    """A store that cannot be built or read; the message names it and says what to do."""


def plan(files: pd.Series, source: Path, geometry: CropGeometry) -> list[dict]:
    """Which pictures go in which pack.

    Args:
        files: paths below `source`.

    Returns:
        For each pack its ``key`` and its ``files``.
    """
    packs = []
    for start in range(0, len(files), PER_PACK):
        names = files.iloc[start : start + PER_PACK].tolist()
        facts: list[object] = [FORMAT, *sizes_of(geometry)]
        for name in names:
            stat = (source / name).stat()
            facts.append([name, stat.st_size, stat.st_mtime_ns])
        key = json_sha256(facts)[:16]
        packs.append({"key": key, "files": names})
    return packs


def sizes_of(geometry: CropGeometry) -> list[int | None]:
    """What of a geometry decides the pixels that are packed."""
    return [geometry.resize_to, *([geometry.enlarge_to] if geometry.enlarge_to else ())]


def make_packs(
    packs: list[dict],
    source: Path,
    folder: Path,
    workers: int | None,
    progress: bool,
    geometry: CropGeometry,
) -> None:
    """Write the packs that are not there yet.

    Args:
        packs: from `plan`.
        folder: the store's.
        workers: threads; None: one a core.

    Raises:
        StoreError: pictures that cannot be read (the other packs are finished first), or a full disk.
    """
    stems = [folder / f"pack-{i:05}-{pack['key']}" for i, pack in enumerate(packs)]
    to_do = [i for i, stem in enumerate(stems) if not stem.with_suffix(".json").is_file()]
    done = sum(len(p["files"]) for p in packs) - sum(len(packs[i]["files"]) for i in to_do)
    unreadable: list[str] = []

    def make(i: int) -> list[str]:
        return _make_pack(packs[i]["files"], source, geometry, stems[i], bar)

    with tqdm(
        total=sum(len(p["files"]) for p in packs),
        initial=done,
        desc=f"packing {folder.name}",
        unit="picture",
        disable=not progress or not to_do,
    ) as bar:
        try:
            for of_pack in read_ahead(make, to_do, workers):
                unreadable += of_pack
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise StoreError(
                f"{folder}: the disk is full; make room and build it again, finished packs are kept"
            ) from error
    if unreadable:
        more = f"\n  and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
        raise StoreError(
            f"{source}: {len(unreadable)} pictures cannot be packed (run verify for the whole list, or train "
            "without them by unfit='leave out'):\n  " + "\n  ".join(sorted(unreadable)[:5]) + more
        )


def _make_pack(names: list[str], source: Path, geometry: CropGeometry, stem: Path, bar: tqdm) -> list[str]:
    """Write one pack; what could not be read comes back, and then nothing is written."""
    places, offset, unreadable = [], 0, []
    with atomic_path(stem.with_suffix(".bin")) as part:
        with part.open("wb") as file:
            for name in names:
                try:
                    pixels = np.asarray(resize(read_picture(source / name), geometry, str(source / name)))
                except PictureError as error:
                    unreadable.append(str(error))
                    continue
                file.write(pixels.data)
                places.append((offset, *pixels.shape[:2], digest(pixels)))
                offset += pixels.nbytes
                bar.update()
        if unreadable:
            part.write_bytes(b"")
    if unreadable:
        stem.with_suffix(".bin").unlink()
        return unreadable
    write_text(stem.with_suffix(".json"), json.dumps({"bytes": offset, "places": places}))
    return []


def digest(pixels: np.ndarray) -> str:
    """The checksum of a picture's bytes: BLAKE2b, 16 bytes, in hexadecimal digits."""
    return hashlib.blake2b(pixels.data, digest_size=16).hexdigest()


def write_index(folder: Path, header: dict, table: pd.DataFrame) -> None:
    """Write ``index.json``: the header, and the table by columns; left alone where it says so already."""
    columns = {
        name: [None if isinstance(v, float) and np.isnan(v) else v for v in table[name].tolist()]
        for name in table.columns
    }
    content = json.dumps(header | {"columns": columns}, ensure_ascii=False)
    path = folder / "index.json"
    if not (path.is_file() and path.read_text(encoding="utf-8") == content):
        write_text(path, content)
