"""What training reads in place of image files: a packed store of pixels, or embeddings of windows.

A store is a folder. ``pack-NNNNN-KEY.bin`` holds the decoded and shrunk pixels of up to 128 images, one after
another; ``pack-NNNNN-KEY.json``, written after it, holds the place, shape and checksum of each; KEY is a hash
of everything that the pixels depend on. ``index.json``, written last, names the packs and carries the label
table. Threads make the packs side by side (Pillow releases the interpreter's lock). Each file appears whole
or not at all, so a build that is killed goes on where it was.
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
    """A store that cannot be built or read; the message names it and says what to do."""


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """What the pixels of a store come from.

    Attributes:
        name: of the dataset.
        folder: the one that the images' files lie below.
        geometry: only ``resize_to`` and ``enlarge_to`` count; default: the paper's.
        reading: options of `read_image` that are not its defaults.
    """

    name: str
    folder: Path
    geometry: CropGeometry = dataclasses.field(default_factory=CropGeometry)
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def store_folder(self) -> Path:
        """Where the store lies by default: in the cache, a folder for each source and geometry."""
        digest = json_sha256([str(self.folder.resolve()), *self._made_by])
        return cache_dir("store") / f"{self.name}-{digest[:8]}"

    def packs(self, files: Sequence[str]) -> dict[str, Sequence[str]]:
        """Which files go in which pack, by the pack's name.

        Raises:
            OSError: a file is not there.
        """
        packs = {}
        for number, start in enumerate(range(0, len(files), PER_PACK)):
            names = files[start : start + PER_PACK]
            stats = [(self.folder / name).stat() for name in names]
            stamps = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in zip(names, stats, strict=True)]
            packs[f"pack-{number:05}-{json_sha256([FORMAT, *self._made_by, *stamps])[:16]}"] = names
        return packs

    def write_pack(self, names: Sequence[str], stem: Path, bar: tqdm) -> list[str]:
        """Write a pack, or nothing where images cannot be read; returns what is wrong with those."""
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
        folder: where it is.
        source: what the pixels were made from.
        index: a row an image, in the order of the label table it was built from: that table's columns,
            ``file``, ``height`` and ``width`` as stored, and where it lies.
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
        """Make a store, or what is missing of it, and open it; one that is up to date is opened at once.

        Args:
            table: labels of images that are there (see `labelled.present_rows`): their path below the
                source's folder is in the column ``file``, or else in ``image``.
            folder: where the store goes; default: `ImageSource.store_folder`.
            workers: threads; default: one a core.

        Raises:
            StoreError: images that cannot be read (count and first five).
            DiskFullError: no room, said before the first is made; finished packs are kept.
        """
        folder = Path(folder or source.store_folder())
        table = table.reset_index(drop=True)
        table = table if "file" in table else table.assign(file=table["image"])
        with only_one(folder, wait=-1, doing="building"):
            folder.mkdir(parents=True, exist_ok=True)
            for torn in folder.glob(".*.part*"):
                torn.unlink()  # a killed builder's; the lock says that nobody writes it now
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
        """Open a store that was built; the images themselves are not needed.

        Raises:
            StoreError: no store there, not finished, of another format, or a pack is gone or cut short.
        """
        folder = Path(folder)
        try:
            content = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = {}
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            problem = f"no finished store of format {FORMAT} here"
            raise StoreError(f"{folder}: {problem}; build it (liqe data pack)")
        index = as_text(pd.DataFrame(content["columns"]))
        if "scenes" in index:
            index["scenes"] = pd.Series([tuple(names) for names in index["scenes"]], dtype=object)
        places = []
        for number, name in enumerate(content["packs"]):
            pack = _read_places(folder / name)
            if pack is None:
                raise StoreError(f"{folder / name}.bin: missing or cut short; build the store again")
            places += [(number, *place) for place in pack]
        index[_PLACES] = pd.DataFrame(places, columns=_PLACES, index=index.index)
        geometry = CropGeometry(1, resize_to=content["resize_to"], enlarge_to=content["enlarge_to"])
        reading = content.get("reading", {})
        source = ImageSource(content["name"], Path(content["source"]), geometry, reading)
        return cls(folder, source, content["packs"], index)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> np.ndarray:
        """Image `i` as a read-only (H, W, 3) uint8 RGB view of the file; nothing is copied."""
        number, offset, height, width = self._places[i]
        file = self.folder / f"{self._packs[number]}.bin"
        return np.memmap(file, np.uint8, "r", offset, (height, width, 3)).view(np.ndarray)


def _read_places(stem: Path) -> list | None:
    """Where the images of a pack lie in it; None: it is missing or cut short."""
    try:
        pack = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        return pack["places"] if stem.with_suffix(".bin").stat().st_size == pack["bytes"] else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _make_packs(
    packs: dict[str, Sequence[str]], source: ImageSource, folder: Path, workers: int | None, progress: bool
) -> None:
    """Write the packs that are missing; those that can be read are all finished before it raises."""
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
        advice = "`liqe data verify` lists them all; train without them by unfit='leave out'"
        raise StoreError(f"{min(unreadable)} ({len(unreadable)} such images cannot be packed); {advice}")


def _refuse_small_disk(files: Sequence[str], source: ImageSource, folder: Path) -> None:
    """Raise where the images do not fit, as the headers of 200 of them tell."""
    sizes = []
    for name in files[:: len(files) // 200 + 1]:
        with (
            contextlib.suppress(OSError, Image.DecompressionBombError),
            Image.open(source.folder / name) as image,
        ):
            sizes.append(3 * math.prod(source.geometry.resized(*image.size)))
    needed, free = len(files) * sum(sizes) / max(1, len(sizes)), shutil.disk_usage(folder).free
    if needed > free:
        problem = f"the decoded images take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        raise DiskFullError(f"{folder}: {problem}; free some space, or set LIQE_CACHE to another disk")


def digest(pixels: np.ndarray) -> str:
    """The checksum of an image's bytes: BLAKE2b, 16 bytes, in hexadecimal digits."""
    return hashlib.blake2b(pixels.data, digest_size=16).hexdigest()


class KeptWindows:
    """Embeddings of the windows of images by a frozen tower, in place of their pixels.

    `training.embeddings` computes and keeps them; they are mapped into memory.

    Args:
        files: in order, each a ``.npy`` file of (images, 2, W, F) float16; the second dimension is: as it
            is, and mirrored.
        counts: (n,) how many of the W windows each image has.
    """

    def __init__(self, files: Sequence[Path], counts: np.ndarray):
        self._chunks = [np.load(file, mmap_mode="r") for file in files]
        self._starts = np.cumsum([0, *map(len, self._chunks)])
        self.counts = counts

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, i: int) -> np.ndarray:
        """(2, U, F) float16: as it is and mirrored."""
        chunk = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._chunks[chunk][i - self._starts[chunk]][:, : self.counts[i]]

    def for_training(self, i: int, count: int, rng: np.random.Generator) -> Tensor:
        """(count, F) float32: windows drawn with replacement, after a random mirroring."""
        both = self[i]
        chosen = rng.integers(both.shape[1], size=count)
        return torch.from_numpy(both[int(rng.integers(2)), chosen].astype(np.float32))

    def for_testing(self, i: int) -> Tensor:
        """(U, F) float32: every window as it is."""
        return torch.from_numpy(self[i][0].astype(np.float32))
