"""The packed store: pictures decoded and shrunk once, then read as fast as memory can be copied.

A store is a folder of packs (`data.packs`) and ``index.json``, written last, which names the packs and
carries the label table. A pack whose source files or geometry changed is never read again. Packs are made
side by side by threads (Pillow works outside the interpreter's lock) and appear only when whole, so a build
that is killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from liqe_core.crops import CropGeometry
from liqe_core.data.distorted import make_missing
from liqe_core.data.finding import find_pictures, refuse_missing
from liqe_core.data.labels import as_text
from liqe_core.data.manifests import Manifest, available, load_manifest
from liqe_core.data.packs import FORMAT, StoreError, digest, make_packs, plan, sizes_of, write_index
from liqe_core.files import cache_dir, only_one
from liqe_core.images import read_ahead
from liqe_core.intake.progress import tqdm

_PLACES = ["pack", "offset", "height", "width", "digest"]


class PackedStore:
    """Pictures of one data set as uint8 arrays in memory-mapped files; see `build` and `open`.

    Attributes:
        folder: where it is.
        name: the data set.
        source: the folder that the pictures came from.
        geometry: its ``resize_to`` and ``enlarge_to`` are those that the pixels were made with.
        index: a row a picture, in the order of the label table it was built from: that table's columns,
            ``row`` (the position there), ``file``, ``height`` and ``width`` as stored, and where it lies.
    """

    def __init__(self, folder: Path, header: dict, index: pd.DataFrame):
        self.folder, self.name = folder, header["name"]
        self.geometry = CropGeometry(
            window=1, resize_to=header["resize_to"], enlarge_to=header.get("enlarge_to", 0)
        )
        self.source = Path(header["source"])
        self.index = index
        self._packs = header["packs"]
        self._places = list(zip(*(index[c].tolist() for c in _PLACES[:4]), strict=True))
        self._maps: dict[int, np.ndarray] = {}
        self._views: dict[int, np.ndarray] = {}

    @classmethod
    def build(
        cls,
        name: str | Manifest,
        table: pd.DataFrame,
        root: str | os.PathLike,
        geometry: CropGeometry | None = None,
        folder: str | os.PathLike | None = None,
        workers: int | None = None,
        progress: bool = True,
        missing: str = "error",
    ) -> PackedStore:
        """Make a store, or what is lacking of it, and open it; one that is up to date is opened at once.

        Pictures of a set that is made here (`data.distorted`) are made first, where they are not there yet.

        Args:
            name: the data set.
            table: its label table; column ``image`` is the path below the data set's folder.
            root: the folder that data sets are in, or the data set's own.
            geometry: only ``resize_to`` and ``enlarge_to`` count; default: the paper's.
            folder: where the store goes; default: in the cache, a folder for each source and geometry.
            workers: threads; default: one a core.
            missing: ``error`` when a picture named in the table is not there, or ``skip`` it.

        Raises:
            PicturesMissingError: the count and the first five names.
            StoreError: pictures that cannot be read (count and first five), a full disk, an empty table.
        """
        if missing not in ("error", "skip"):
            raise ValueError(f"missing is {missing!r}: choose error or skip")
        manifest = (
            name if isinstance(name, Manifest) else load_manifest(name) if name in available() else None
        )
        name = manifest.name if manifest else name
        source = (manifest and manifest.locate(root)) or Path(root)
        geometry = geometry or CropGeometry()
        if folder is None:
            decides = "\n".join(map(str, [source.resolve(), *sizes_of(geometry)]))
            tag = hashlib.sha256(decides.encode()).hexdigest()[:8]
            folder = cache_dir("store") / f"{name}-{tag}"
        folder = Path(folder)
        with only_one(folder, wait=-1, doing="building"):
            if manifest and manifest.labels.get("form") == "distorted":
                make_missing(manifest, table, root, progress)
            found = find_pictures(table["image"], source, manifest.pictures if manifest else (".",))
            if missing == "error":
                refuse_missing(found, source)
            table = table.reset_index(drop=True).assign(row=range(len(table)), file=found["file"].to_numpy())
            table = table[(found["match"] != "missing").to_numpy()].reset_index(drop=True)
            if table.empty:
                raise StoreError(
                    f"{source}: none of the {len(found)} pictures of {name} is there; nothing to pack"
                )
            folder.mkdir(parents=True, exist_ok=True)
            for torn in folder.glob(".*.part*"):
                torn.unlink()  # a killed builder's; the lock says that nobody writes it now
            packs = plan(table["file"], source, geometry)
            make_packs(packs, source, folder, workers, progress, geometry)
            header: dict[str, Any] = {"format": FORMAT, "name": name, "resize_to": geometry.resize_to}
            header |= {"enlarge_to": geometry.enlarge_to} if geometry.enlarge_to else {}
            header |= {"source": str(source.resolve()), "packs": [pack["key"] for pack in packs]}
            write_index(folder, header, table)
            keep = {f"pack-{i:05}-{pack['key']}" for i, pack in enumerate(packs)}
            for old in folder.glob("pack-*"):
                if old.stem not in keep:
                    old.unlink()
            return cls.open(folder)

    @classmethod
    def open(cls, folder: str | os.PathLike) -> PackedStore:
        """Open a store that was built; the pictures themselves are not needed.

        Raises:
            StoreError: no store there, not finished, of another format, or a pack is gone or cut short.
        """
        folder = Path(folder)
        try:
            content = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(f"{folder}: no finished store here; build it (liqe data pack)") from None
        except json.JSONDecodeError as error:
            raise StoreError(f"{folder / 'index.json'}: damaged ({error}); build the store again") from None
        if content.get("format") != FORMAT:
            raise StoreError(
                f"{folder}: format {content.get('format')}, this program reads {FORMAT}; build it again"
            )
        index = as_text(pd.DataFrame(content["columns"]))
        if "scenes" in index:
            index["scenes"] = pd.Series([tuple(names) for names in index["scenes"]], dtype=object)
        places = []
        for number, key in enumerate(content["packs"]):
            stem = folder / f"pack-{number:05}-{key}"
            try:
                pack = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
                size = stem.with_suffix(".bin").stat().st_size
            except (FileNotFoundError, json.JSONDecodeError) as error:
                raise StoreError(f"{stem.name}: gone or damaged ({error}); build the store again") from None
            if size != pack["bytes"]:
                raise StoreError(
                    f"{stem}.bin: {size} bytes, {pack['bytes']} expected; run verify, then build"
                )
            places += [(number, *place) for place in pack["places"]]
        if len(places) != len(index):
            raise StoreError(f"{folder}: {len(places)} pictures for {len(index)} rows; build the store again")
        index[_PLACES] = pd.DataFrame(places, columns=_PLACES, index=index.index)
        return cls(folder, content, index)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> np.ndarray:
        """Picture `i` as a read-only (H, W, 3) uint8 RGB view of the file; nothing is copied."""
        if i not in self._views:
            number, offset, height, width = self._places[i]
            end = offset + height * width * 3
            self._views[i] = self._map(number)[offset:end].reshape(height, width, 3)
        return self._views[i]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def crop(self, i: int, y: int, x: int, window: int) -> np.ndarray:
        """A copy of the square with its top-left corner at (y, x): (window, window, 3) uint8.

        Raises:
            IndexError: it does not lie within the picture.
        """
        picture = self[i]
        height, width, _ = picture.shape
        if not (0 <= y <= height - window and 0 <= x <= width - window):
            raise IndexError(
                f"{self.name}, picture {i}: window {window} at ({y}, {x}) is not within {height} x {width}"
            )
        return picture[y : y + window, x : x + window].copy()

    def is_fresh(self) -> bool:
        """Whether every source file is still there with the size and time it was packed with."""
        try:
            packs = plan(self.index["file"], self.source, self.geometry)
        except OSError:
            return False
        return [pack["key"] for pack in packs] == self._packs

    def verify(self, progress: bool = True, discard: bool = True) -> list[str]:
        """Compare every picture's bytes with its checksum.

        Args:
            discard: drop a damaged pack, so that the next `build` makes it again.

        Returns:
            The images that are damaged; empty when all is well.
        """

        def damaged(i: int) -> bool:
            return digest(self[i]) != self.index["digest"].iat[i]

        checks = read_ahead(damaged, range(len(self)))
        bar = tqdm(checks, f"{self.name} store", len(self), disable=not progress)
        bad = [i for i, is_bad in enumerate(bar) if is_bad]
        for number in set(self.index["pack"].iloc[bad]) if discard else ():
            (self.folder / f"pack-{number:05}-{self._packs[number]}.json").unlink(missing_ok=True)
        return self.index["image"].iloc[bad].tolist()

    def _map(self, number: int) -> np.ndarray:
        if number not in self._maps:
            path = self.folder / f"pack-{number:05}-{self._packs[number]}.bin"
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[number] = np.frombuffer(mapped, dtype=np.uint8)
        return self._maps[number]

    def __getstate__(self):
        # A data loader's worker process maps the files itself.
        return self.__dict__ | {"_maps": {}, "_views": {}}

    def __repr__(self) -> str:
        return f"PackedStore({self.name}, {len(self)} pictures, {str(self.folder)!r})"
