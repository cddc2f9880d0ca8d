"""Reading random crops from a packed store, from files and from memory, in turns, on the same draws."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from liqe_core.crops import CropGeometry, resize
from liqe_core.data.store import PackedStore
from liqe_core.images import read_picture


def store_throughput(
    store: PackedStore,
    crops: int = 3,
    window: int = 224,
    seconds: float = 1.0,
    rounds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Random training crops from a packed store, against reading the same pictures' files with Pillow.

    Each way takes `crops` random windows of a random picture, over and over, in one thread; the ways take
    turns, `rounds` times `seconds` each, and all draw the same numbers. ``memory`` copies the windows out of
    arrays: what the bytes alone cost. Files and store have been read once before, so the disk plays no part.

    Returns:
        A row a way (``store``, ``pillow``, ``memory``): ``images_per_second`` (median over rounds),
        ``lowest``, ``highest``, and ``times_pillow``.
    """
    usable = [i for i in range(len(store)) if min(store[i].shape[:2]) >= window]
    if not usable:
        raise ValueError(f"{store}: no picture is as large as a window of {window}")
    files = [store.source.folder / name for name in store.index["file"]]
    sizes = [store[i].shape[:2] for i in range(len(store))]
    geometry = CropGeometry(window=window, resize_to=store.source.geometry.resize_to)
    # Enough arrays that they do not all stay in the processor's cache.
    kept = {i: store[i].copy() for i in usable[:: max(1, len(usable) // 100)]}

    def from_array(pixels: np.ndarray, corners: list[tuple[int, int]]) -> list[np.ndarray]:
        return [pixels[y : y + window, x : x + window].copy() for y, x in corners]

    def from_file(i: int, corners: list[tuple[int, int]]) -> list[np.ndarray]:
        return from_array(np.asarray(resize(read_picture(files[i]), geometry)), corners)

    ways = {
        "store": (lambda i, corners: from_array(store[i], corners), usable),
        "pillow": (from_file, usable),
        "memory": (lambda i, corners: from_array(kept[i], corners), list(kept)),
    }
    rng = np.random.default_rng(seed)
    draws = []
    for number in rng.integers(1 << 30, size=2000):
        draws.append((int(number), [tuple(pair) for pair in rng.random((crops, 2))]))

    def rate(read: Callable, among: list[int]) -> float:
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            number, places = draws[done % len(draws)]
            i = among[number % len(among)]
            height, width = sizes[i]
            corners = [(int(v * (height - window + 1)), int(u * (width - window + 1))) for v, u in places]
            read(i, corners)
            done += 1
        return done / (time.perf_counter() - start)

    for i in usable:  # into the page cache, both
        store[i].sum()
        files[i].read_bytes()
    rates = pd.DataFrame([{name: rate(*way) for name, way in ways.items()} for _ in range(rounds)])
    table = pd.DataFrame({"images_per_second": rates.median(), "lowest": rates.min(), "highest": rates.max()})
    table["times_pillow"] = table["images_per_second"] / table.loc["pillow", "images_per_second"]
    return table.rename_axis("way").reset_index()
