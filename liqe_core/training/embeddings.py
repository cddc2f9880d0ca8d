"""Cached features of a frozen image tower, which reduce a training step to milliseconds.

The frozen part of the tower is evaluated once on the testing windows of each image and on their horizontal
flips. A projection on top of it (open_clip adds one to timm towers) still trains. The name of the cache
folder depends on everything that determines the features: the tower and its frozen weights, the statistics,
the geometry, the precision and the checksums of the images. Features of other weights are never read.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from liqe_core import towers
from liqe_core.data.labelled import LabelledImages
from liqe_core.data.store import KeptWindows, PackedStore, digest
from liqe_core.files import atomic_path, cache_dir, json_sha256, only_one
from liqe_core.images import read_ahead
from liqe_core.intake.progress import tqdm
from liqe_core.model import LIQE
from liqe_core.scoring import evaluating, products_in

#: Images per file. A killed process loses at most the work for one file.
PER_FILE = 256
#: Images in one forward pass of the tower.
AT_ONCE = 8


def kept_windows(
    dataset: LabelledImages,
    model: LIQE,
    folder: str | Path | None = None,
    progress: bool = True,
    precision: str = "float32",
) -> LabelledImages:
    """Replace the images of a dataset by cached features, and compute the missing ones.

    Args:
        dataset: a dataset with images.
        model: the model whose frozen part computes the features, on the windows of its geometry.
        folder: the cache folder; default: ``embeddings`` in the general cache folder.
        precision: see `scoring.products_in`.

    Raises:
        ValueError: if the precision is unknown.
        ImageError: if an image is smaller than a crop. The message names it.
    """
    # The configuration is included, because activations and pooling have no weights but change the features.
    frozen = [weights_sha256(model), model.architecture["vision_cfg"], model.architecture.get("quick_gelu")]
    cut = [*model.statistics, dataclasses.asdict(model.geometry), precision]
    images = [_digests(dataset), dataset.any_size, np.asarray(dataset.grey).tolist()]
    key = json_sha256([frozen, cut, images])[:16]
    place = Path(folder or cache_dir("embeddings")) / f"{dataset.name}-{key}"
    starts = range(0, len(dataset), PER_FILE)
    files = {place / f"{start:07}.npy": range(len(dataset))[start : start + PER_FILE] for start in starts}
    place.mkdir(parents=True, exist_ok=True)
    with only_one(place, wait=-1, doing="computing"):
        to_do = {file: rows for file, rows in files.items() if not file.is_file()}
        done = len(dataset) - sum(map(len, to_do.values()))
        with tqdm(total=len(dataset), initial=done, disable=not (progress and to_do)) as bar:
            bar.set_description(f"{dataset.name} windows")
            for file, rows in to_do.items():
                values = _windows(dataset, model, rows, precision)
                with atomic_path(file) as part, part.open("wb") as opened:
                    np.save(opened, values)
                bar.update(len(rows))
    first_values = [np.load(file, mmap_mode="r")[:, 0, :, 0] for file in files]
    counts = (~np.isnan(np.concatenate(first_values))).sum(axis=1)
    return dataclasses.replace(dataset, images=KeptWindows(list(files), counts), any_size=False, grey=None)


def weights_sha256(model: LIQE) -> str:
    """Return the SHA-256 of the names, shapes and values in the frozen part of the image tower."""
    trunk, _ = towers.trunk_and_head(model.clip.visual)
    sha = hashlib.sha256()
    for name, value in trunk.state_dict().items():
        sha.update(f"{name} {tuple(value.shape)}\n".encode())
        sha.update(value.detach().cpu().numpy().tobytes())
    return sha.hexdigest()


def _digests(dataset: LabelledImages) -> list[str]:
    if isinstance(dataset.images, KeptWindows):
        raise TypeError(f"{dataset.name}: the dataset has embeddings already; give one with images")
    if isinstance(dataset.images, PackedStore):
        return dataset.images.index["digest"].tolist()
    return [digest(np.ascontiguousarray(pixels)) for pixels in dataset.images]


@torch.no_grad()
def _windows(dataset: LabelledImages, model: LIQE, rows: Sequence[int], precision: str) -> np.ndarray:
    """Compute features (images, 2, W, F) in float16; NaN for an image with fewer than W windows."""
    found: list[torch.Tensor] = []
    ahead = read_ahead(lambda row: dataset.testing_crops(row, model.geometry), rows, 2, 2 * AT_ONCE)
    tower = towers.to_evaluate(model.clip.visual)
    with evaluating(model), products_in(precision, model.device):
        while crops := list(islice(ahead, AT_ONCE)):
            both = torch.cat([torch.stack([c, c.flip(-1)]) for c in crops], dim=1)
            values = model.embed(both.flatten(0, 1).to(model.device), tower).half().cpu()
            found += values.unflatten(0, both.shape[:2]).split([len(c) for c in crops], dim=1)
    widest = model.geometry.count
    padded = [F.pad(value, (0, 0, 0, widest - value.shape[1]), value=torch.nan) for value in found]
    return torch.stack(padded).numpy()
