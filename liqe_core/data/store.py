"""Preprocessed images for training: a packed store of pixels, or embeddings of windows.

A store is a folder. ``pack-NNNNN-KEY.bin`` holds the decoded and resized pixels of up to 128 images, one
after another. ``pack-NNNNN-KEY.json``, written after it, holds the offset, shape and checksum of each image;
KEY is a hash of everything that the pixels depend on. ``index.json``, written last, lists the packs and
contains the label table. Threads write packs in parallel (Pillow releases the interpreter lock). All files
are written atomically, so an interrupted build can be resumed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from liqe_core.crops import CropGeometry, resize
from liqe_core.data.labels import as_text
from liqe_core.data.manifests import AnyPath
from liqe_core.files import atomic_path, cache_dir, json_sha256, only_one, write_text
from liqe_core.images import ImageError, read_ahead, read_image
from liqe_core.intake.progress import tqdm
from liqe_core.intake.transfers import DiskFullError, disk_full_as_error

FORMAT = 2
PER_PACK = 128
_PLACES = ["pack", "offset", "height", "width", "digest"]


class StoreError(ValueError):
    """A store cannot be built or read; the message names it and says what to do."""


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """The source of the pixels of a store.

    Attributes:
        name: name of the dataset.
        folder: folder that the image paths are relative to.
        geometry: only ``resize_to`` and ``enlarge_to`` are used; default: the geometry of the paper.
        reading: options of `read_image` that differ from its defaults.
    """

    name: str
    folder: Path
    geometry: CropGeometry = dataclasses.field(default_factory=CropGeometry)
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def store_folder(self) -> Path:
        """Return the default folder of the store: one per source and geometry, in the cache."""
        digest = json_sha256([str(self.folder.resolve()), *self._made_by])
        return cache_dir("store") / f"{self.name}-{digest[:8]}"

    def packs(self, files: Sequence[str]) -> dict[str, Sequence[str]]:
        """Return the image files of each pack by the name of the pack.

        Raises:
            OSError: a file is missing.
        """
        packs = {}
        for number, start in enumerate(range(0, len(files), PER_PACK)):
            names = files[start : start + PER_PACK]
            stats = [(self.folder / name).stat() for name in names]
            stamps = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in zip(names, stats, strict=True)]
            packs[f"pack-{number:05}-{json_sha256([FORMAT, *self._made_by, *stamps])[:16]}"] = names
        return packs

    def write_pack(self, names: Sequence[str], stem: Path, bar: tqdm) -> list[str]:
        """Write a pack and return an empty list; if images cannot be read, return their errors instead."""
        places, offset, unreadable = [], 0, []
        with atomic_path(stem.with_suffix(".bin")) as part, part.open("wb") as file:
            for name in names:
                path = self.folder / name
                try:
                    pixels = np.asarray(resize(read_image(path, **self.reading), self.geometry, str(path)))
                except ImageError as error:
                    unreadable.append(str(error))
                    continue
                file.write(pixels.data)
                places.append((offset, *pixels.shape[:2], digest(pixels)))
                offset += pixels.nbytes
                bar.update()
        if unreadable:
            stem.with_suffix(".bin").unlink()
        else:
            write_text(stem.with_suffix(".json"), json.dumps({"bytes": offset, "places": places}))
        return unreadable

    @property
    def _made_by(self) -> list:
        reading = [sorted(self.reading.items())] if self.reading else []
        return [self.geometry.resize_to, self.geometry.enlarge_to, *reading]


class PackedStore:
    """Images of one dataset as uint8 arrays in memory-mapped files; see `build` and `open`.

    Attributes:
        folder: folder of the store.
        source: source of the pixels.
        index: one row per image, in the order of the label table that the store was built from: the columns
            of that table, ``file``, the stored ``height`` and ``width``, and the position in the packs.
    """

    def __init__(self, folder: Path, source: ImageSource, packs: list[str], index: pd.DataFrame):
        self.folder, self.source, self.index = folder, source, index
        self._packs = packs
        self._places = index[_PLACES[:4]].to_numpy().tolist()

    @classmethod
    def build(
        cls,
        source: ImageSource,
        table: pd.DataFrame,
        folder: AnyPath = None,
        workers: int | None = None,
        progress: bool = True,
    ) -> PackedStore:
        """Build a store, or its missing packs, and open it; an up-to-date store is only opened.

        Args:
            table: labels of images that are present (see `labelled.present_rows`). Their paths relative to
                the source's folder are in the column ``file``, or in ``image`` if that column is missing.
            folder: folder of the store; default: `ImageSource.store_folder`.
            workers: number of threads; default: one per core.

        Raises:
            StoreError: images cannot be read; gives the first error and the count.
            DiskFullError: the disk is too small (checked before the first pack) or full; finished packs are
                kept.
        """
        folder = Path(folder or source.store_folder())
        table = table.reset_index(drop=True)
        table = table if "file" in table else table.assign(file=table["image"])
        with only_one(folder, wait=-1, doing="building"):
            folder.mkdir(parents=True, exist_ok=True)
            for torn in folder.glob(".*.part*"):
                torn.unlink()  # left by a killed build; the lock excludes concurrent writers
            packs = source.packs(table["file"].tolist())
            _make_packs(packs, source, folder, workers, progress)
            geometry = {"resize_to": source.geometry.resize_to, "enlarge_to": source.geometry.enlarge_to}
            header = {"format": FORMAT, "name": source.name, "source": str(source.folder.resolve())}
            columns = table.astype(object).where(table.notna(), None).to_dict("list")
            content = header | geometry | {"reading": dict(source.reading)}
            content |= {"packs": list(packs), "columns": columns}
            write_text(folder / "index.json", json.dumps(content, ensure_ascii=False))
            for old in folder.glob("pack-*"):
                if old.stem not in packs:
                    old.unlink()
            return cls.open(folder)

    @classmethod
    def open(cls, folder: str | os.PathLike) -> PackedStore:
        """Open a finished store; the image files are not needed.

        Raises:
            StoreError: the store is missing, unfinished or in another format, or a pack is missing or
                truncated.
        """
        folder = Path(folder)
        try:
            content = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = {}
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            problem = f"no finished store of format {FORMAT} in this folder"
            raise StoreError(f"{folder}: {problem}; build it with `liqe data pack`")
        index = as_text(pd.DataFrame(content["columns"]))
        if "scenes" in index:
            index["scenes"] = pd.Series([tuple(names) for names in index["scenes"]], dtype=object)
        places = []
        for number, name in enumerate(content["packs"]):
            pack = _read_places(folder / name)
            if pack is None:
                raise StoreError(f"{folder / name}.bin: missing or truncated; build the store again")
            places += [(number, *place) for place in pack]
        index[_PLACES] = pd.DataFrame(places, columns=_PLACES, index=index.index)
        geometry = CropGeometry(1, resize_to=content["resize_to"], enlarge_to=content["enlarge_to"])
        reading = content.get("reading", {})
        source = ImageSource(content["name"], Path(content["source"]), geometry, reading)
        return cls(folder, source, content["packs"], index)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> np.ndarray:
        """Return image `i` as a read-only (H, W, 3) uint8 RGB view of the file, without a copy."""
        number, offset, height, width = self._places[i]
        file = self.folder / f"{self._packs[number]}.bin"
        return np.memmap(file, np.uint8, "r", offset, (height, width, 3)).view(np.ndarray)


def _read_places(stem: Path) -> list | None:
    """Return the positions of the images in a pack; None if the pack is missing or truncated."""
    try:
        pack = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        return pack["places"] if stem.with_suffix(".bin").stat().st_size == pack["bytes"] else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _make_packs(
    packs: dict[str, Sequence[str]], source: ImageSource, folder: Path, workers: int | None, progress: bool
) -> None:
    """Write the missing packs; all readable packs are finished before an error is raised."""
    to_do = {name: files for name, files in packs.items() if _read_places(folder / name) is None}
    _refuse_small_disk([name for names in to_do.values() for name in names], source, folder)
    unreadable: list[str] = []
    hidden = not (progress and to_do)
    with tqdm(total=sum(map(len, to_do.values())), desc=f"packing {folder.name}", disable=hidden) as bar:
        made = read_ahead(lambda name: source.write_pack(to_do[name], folder / name, bar), to_do, workers)
        with disk_full_as_error(folder):
            for faults in made:
                unreadable += faults
    if unreadable:
        advice = "`liqe data verify` lists them; to train without them, set unfit='leave out'"
        raise StoreError(f"{min(unreadable)} ({len(unreadable)} such images cannot be packed); {advice}")


def _refuse_small_disk(files: Sequence[str], source: ImageSource, folder: Path) -> None:
    """Raise an error if the decoded images do not fit on the disk, estimated from at most 200 headers."""
    sizes = []
    for name in files[:: len(files) // 200 + 1]:
        with (
            contextlib.suppress(OSError, Image.DecompressionBombError),
            Image.open(source.folder / name) as image,
        ):
            sizes.append(3 * math.prod(source.geometry.resized(*image.size)))
    needed, free = len(files) * sum(sizes) / max(1, len(sizes)), shutil.disk_usage(folder).free
    if needed > free:
        problem = f"decoded images need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB free"
        raise DiskFullError(f"{folder}: {problem}; free some space, or set LIQE_CACHE to another disk")


def digest(pixels: np.ndarray) -> str:
    """Return the checksum of an image's bytes: BLAKE2b, 16 bytes, in hexadecimal."""
    return hashlib.blake2b(pixels.data, digest_size=16).hexdigest()


class KeptWindows:
    """Embeddings of image windows by a frozen tower, used instead of pixels.

    `training.embeddings` computes and stores them; the files are memory-mapped.

    Args:
        files: ``.npy`` files in order, each (images, 2, W, F) float16; the second dimension holds the
            original and the mirrored image.
        counts: (n,) number of valid windows of each image, at most W.
    """

    def __init__(self, files: Sequence[Path], counts: np.ndarray):
        self._chunks = [np.load(file, mmap_mode="r") for file in files]
        self._starts = np.cumsum([0, *map(len, self._chunks)])
        self.counts = counts

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, i: int) -> np.ndarray:
        """Return the embeddings of image `i`, original and mirrored: (2, U, F) float16."""
        chunk = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._chunks[chunk][i - self._starts[chunk]][:, : self.counts[i]]

    def for_training(self, i: int, count: int, rng: np.random.Generator) -> Tensor:
        """Draw windows with replacement after random mirroring: (count, F) float32."""
        both = self[i]
        chosen = rng.integers(both.shape[1], size=count)
        return torch.from_numpy(both[int(rng.integers(2)), chosen].astype(np.float32))

    def for_testing(self, i: int) -> Tensor:
        """Return all windows of the original image: (U, F) float32."""
        return torch.from_numpy(self[i][0].astype(np.float32))
