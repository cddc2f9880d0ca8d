"""Training batches: drawing images, cutting crops, and reading ahead of the training step.

The images, crops and flips of step t in epoch e depend only on the seed, e and t. A resumed run therefore
needs no saved sampler state, and several processes draw the same batch without communication.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from liqe_core import towers
from liqe_core.crops import CropGeometry
from liqe_core.data.labelled import LabelledImages, targets
from liqe_core.evaluation.distributed import Ranks
from liqe_core.images import read_ahead
from liqe_core.training.profiles import Profile

#: Threads that cut crops, each up to one batch ahead. Copying crops releases the interpreter lock.
READERS = min(4, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Batch:
    """The images of one step, B in total over all datasets.

    Attributes:
        crops: (B, U, 3, window, window) uint8, or (B, U, F) features of a frozen tower. With several
            processes, only the crops of this process's share; if the share is empty, those of one image
            outside of it.
        mos: (B,) float64.
        dataset: (B,) int64.
        scene: (B, S).
        distortion: (B, D).
        images: the name of each image, ``dataset/file``.
    """

    crops: Tensor
    mos: Tensor
    dataset: Tensor
    scene: Tensor
    distortion: Tensor
    images: tuple[str, ...]

    @property
    def has_lone_image(self) -> bool:
        """Whether a dataset has a single image in the batch, and therefore no pair."""
        return bool((self.dataset.unique(return_counts=True)[1] == 1).any())

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with `change` applied to each tensor, for example to move it to a device."""
        fields = vars(self).items()
        tensors: dict[str, Any] = {name: change(value) for name, value in fields if isinstance(value, Tensor)}
        return dataclasses.replace(self, **tensors)


def geometry_of(settings: Profile) -> CropGeometry:
    """Return the crop geometry of a profile, with the input size of its architecture as window."""
    window = towers.architecture(settings.model.architecture)["vision_cfg"]["image_size"]
    return CropGeometry(
        window=window,
        resize_to=settings.data.resize_to or None,
        count=settings.testing.windows,
        enlarge_to=window if settings.data.enlarge else 0,
        overview=settings.data.overview,
    )


class TrainingBatches:
    """The batches of a session, drawn like in the public code.

    Each dataset is shuffled at the start of an epoch and divided into batches of its batch size; the last one
    may be smaller. It is shuffled again if it is used up before the epoch ends.

    Args:
        settings: the settings of the run. All random draws depend on their seed.
        sets: the datasets of `batch_sizes`, in a fixed order.
    """

    def __init__(self, settings: Profile, sets: Sequence[LabelledImages]):
        self.sets, self.seed, self.crops = list(sets), settings.seed, settings.steps.crops
        self.geometry, grid = geometry_of(settings), settings.grid()
        self._sizes = [settings.data.batch_sizes[dataset.name] for dataset in sets]
        self._rows = [dataset.part(settings.session, "train") for dataset in sets]
        self._targets = [targets(dataset.table, grid) for dataset in sets]
        if settings.losses.control == "shuffled labels":
            for number, (rows, labels) in enumerate(zip(self._rows, self._targets, strict=True)):
                shuffled_rows = np.random.default_rng((self.seed, 2, number)).permutation(rows)
                for axis in ("scene", "distortion"):
                    labels[axis][rows] = labels[axis][shuffled_rows]

    def rows(self, epoch: int, step: int) -> list[np.ndarray]:
        """Return the row numbers drawn from each dataset at a step."""
        drawn = []
        for number, (rows, size) in enumerate(zip(self._rows, self._sizes, strict=True)):
            lap, batch = divmod(step, -(-len(rows) // size))
            order = np.random.default_rng((self.seed, 0, number, epoch, lap)).permutation(rows)
            drawn.append(order[batch * size : (batch + 1) * size])
        return drawn

    def batch(self, epoch: int, step: int, share: Callable[[int], slice] | None = None) -> Batch:
        """Draw the batch of one step.

        Args:
            share: a function from the number of images in the batch to the slice of images to cut crops for.
                Default: all images.

        Raises:
            ValueError: if an image is smaller than a crop. The message names it.
        """
        drawn = self.rows(epoch, step)
        places = [(number, row) for number, rows in enumerate(drawn) for row in rows]
        mine = range(len(places))[share(len(places))] if share else range(len(places))
        crops = []
        for place in mine or (0,):
            number, row = places[place]
            rng = np.random.default_rng((self.seed, 1, epoch, step, place))
            crops.append(self.sets[number].training_crops(row, self.geometry, self.crops, rng))
        parts = {
            name: torch.cat([labels[name][rows] for labels, rows in zip(self._targets, drawn, strict=True)])
            for name in ("mos", "scene", "distortion")
        }
        return Batch(
            torch.stack(crops),
            dataset=torch.tensor([number for number, _ in places]),
            images=tuple(self.sets[number].names[row] for number, row in places),
            **parts,
        )


def batches_ahead(
    batches: TrainingBatches, epoch: int, first: int, stop: int, ranks: Ranks, readers: int = READERS
) -> Iterator[Batch]:
    """Yield the batches of steps `first` to `stop` - 1 of an epoch in order, on the device of this process.

    A batch has the crops of this process's share and the labels of all images. For a GPU, it is copied from
    pinned memory, so that the copy overlaps with the computation.
    """
    device = ranks.device

    def read(step: int) -> Batch:
        batch = batches.batch(epoch, step, ranks.share)
        return batch.map(Tensor.pin_memory) if device.type == "cuda" else batch

    for batch in read_ahead(read, range(first, stop), readers, readers + 1):
        yield batch.map(lambda tensor: tensor.to(device, non_blocking=True))
