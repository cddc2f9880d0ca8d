"""Whether the data keeps up: crops from a packed store and from files, and batches cut ahead of the step."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from torch.utils.benchmark import Timer

from liqe_core.crops import CropGeometry, resize, training_crops
from liqe_core.data.store import PackedStore
from liqe_core.evaluation.distributed import Ranks
from liqe_core.images import read_picture
from liqe_core.training.batches import READERS, TrainingBatches, batches_ahead

#: Images that `store_throughput` reads: enough that they do not all stay in the processor's cache.
MOST_IMAGES = 100


def store_throughput(
    store: PackedStore, crops: int = 3, window: int = 224, seconds: float = 5.0, seed: int = 0
) -> pd.DataFrame:
    """Random training crops from a packed store, against reading the same images' files with Pillow.

    Each way cuts `crops` windows of a random image, over and over, in one thread, and all draw the same
    numbers. ``memory`` copies the windows out of arrays: what the bytes alone cost. Files and store have been
    read once before, so the disk plays no part.

    Returns:
        A row a way (``store``, ``pillow``, ``memory``): ``images_per_second`` (median), ``lowest``,
        ``highest``, and ``times_pillow``.
    """
    usable = [i for i in range(len(store)) if min(store[i].shape[:2]) >= window][:MOST_IMAGES]
    if not usable:
        raise ValueError(f"{store}: no image is as large as a window of {window}")
    files = [store.source.folder / name for name in store.index["file"]]
    geometry = CropGeometry(window=window, resize_to=store.source.geometry.resize_to)
    ways: dict[str, Callable[[int], np.ndarray]] = {
        "store": lambda i: store[i],
        "pillow": lambda i: np.asarray(resize(read_picture(files[i]), geometry)),
        "memory": {i: store[i].copy() for i in usable}.__getitem__,
    }
    times = {}
    for way, pixels_of in ways.items():
        rng = np.random.default_rng(seed)

        def read(pixels_of=pixels_of, rng=rng) -> None:
            training_crops(pixels_of(usable[rng.integers(len(usable))]), geometry, crops, rng, "")

        times[way] = Timer("read()", globals={"read": read}).blocked_autorange(min_run_time=seconds).times
    rates = {way: 1 / np.array(measured) for way, measured in times.items()}
    table = pd.DataFrame(
        {
            "images_per_second": {way: np.median(rate) for way, rate in rates.items()},
            "lowest": {way: rate.min() for way, rate in rates.items()},
            "highest": {way: rate.max() for way, rate in rates.items()},
        }
    )
    table["times_pillow"] = table["images_per_second"] / table.loc["pillow", "images_per_second"]
    return table.rename_axis("way").reset_index()


def loader_throughput(batches: TrainingBatches, step_seconds: float, count: int = 20) -> pd.DataFrame:
    """Batches cut ahead of time, against what a step of that length consumes.

    Args:
        step_seconds: as `steps.measure_steps` says for as many images.
        count: batches that are cut.

    Returns:
        One row: ``readers, batches_per_second, consumed_per_second, times_enough``.
    """
    list(batches_ahead(batches, 0, 0, 2, Ranks()))  # pages in
    started = time.perf_counter()
    for _ in batches_ahead(batches, 0, 0, count, Ranks()):
        pass
    rate = count / (time.perf_counter() - started)
    row = {"readers": READERS, "batches_per_second": rate, "consumed_per_second": 1 / step_seconds}
    return pd.DataFrame([row | {"times_enough": rate * step_seconds}])
