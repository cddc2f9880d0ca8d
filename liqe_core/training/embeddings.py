"""A frozen image tower looks at an image once: its embeddings are kept, and training costs milliseconds.

What is kept is what the frozen part of the tower gives for the windows that an image is tested on, and for
their mirror images; a projection on top of it (timm's towers have one in open_clip) trains all the same. The
folder is named after everything that decides the numbers: the tower and its frozen weights, how crops are
scaled, the geometry, the precision and the images' checksums. Embeddings of other weights are never read.
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

#: Images in a file: what a process that is killed may lose.
PER_FILE = 256
#: Images that are looked at together.
AT_ONCE = 8


def kept_windows(
    dataset: LabelledImages,
    model: LIQE,
    folder: str | Path | None = None,
    progress: bool = True,
    precision: str = "float32",
) -> LabelledImages:
    """The same dataset with embeddings in place of its images; computed where they are not there yet.

    Args:
        dataset: with images.
        model: its frozen part looks at the windows of its geometry.
        folder: where all of them are kept; default: ``embeddings`` in the cache folder.
        precision: of the products, see `scoring.products_in`.

    Raises:
        ValueError: another precision.
        ImageError: an image is smaller than a crop; names it.
    """
    # Equal weights are not yet an equal function: an activation has none, and a pooling has none.
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
    """Of the frozen part of the image tower: every name, shape and bit."""
    trunk, _ = towers.trunk_and_head(model.clip.visual)
    sha = hashlib.sha256()
    for name, value in trunk.state_dict().items():
        sha.update(f"{name} {tuple(value.shape)}\n".encode())
        sha.update(value.detach().cpu().numpy().tobytes())
    return sha.hexdigest()


def _digests(dataset: LabelledImages) -> list[str]:
    if isinstance(dataset.images, KeptWindows):
        raise TypeError(f"{dataset.name}: embeddings already, not images")
    if isinstance(dataset.images, PackedStore):
        return dataset.images.index["digest"].tolist()
    return [digest(np.ascontiguousarray(pixels)) for pixels in dataset.images]


@torch.no_grad()
def _windows(dataset: LabelledImages, model: LIQE, rows: Sequence[int], precision: str) -> np.ndarray:
    """(images, 2, W, F) float16; NaN where an image has fewer windows."""
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
