"""The batches of a run: drawn, cut, and read ahead of the step that uses them.

Which images make up step t of epoch e, which crops are cut from them and which are mirrored is a function
of the seed, e and t alone: nothing has to be saved to go on where a run was stopped, and several processes
agree without talking.
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

#: Threads that cut crops (copying them lets go of the interpreter), each up to a batch ahead.
READERS = min(4, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Batch:
    """One step's images. B is the sum over datasets.

    Attributes:
        crops: (B, U, 3, window, window) uint8, or (B, U, F) of a frozen tower; where several processes share
            the batch, those of this one's share only, or of one image beside it where the share is empty.
        mos: (B,) float64. dataset: (B,) int64. scene: (B, S). distortion: (B, D).
        images: what each image is called, ``dataset/file``.
    """

    crops: Tensor
    mos: Tensor
    dataset: Tensor
    scene: Tensor
    distortion: Tensor
    images: tuple[str, ...]

    @property
    def has_lone_image(self) -> bool:
        """Whether some dataset has one image in the batch, and so no pair."""
        return bool((self.dataset.unique(return_counts=True)[1] == 1).any())

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same batch with its tensors changed: moved to a device, for example."""
        fields = vars(self).items()
        tensors: dict[str, Any] = {name: change(value) for name, value in fields if isinstance(value, Tensor)}
        return dataclasses.replace(self, **tensors)


def geometry_of(settings: Profile) -> CropGeometry:
    """Where a profile's crops lie: as the paper's, with the window that its architecture takes."""
    window = towers.architecture(settings.model.architecture)["vision_cfg"]["image_size"]
    return CropGeometry(
        window=window,
        resize_to=settings.data.resize_to or None,
        count=settings.testing.windows,
        enlarge_to=window if settings.data.enlarge else 0,
        overview=settings.data.overview,
    )


class TrainingBatches:
    """The batches of a session, drawn as the public code draws them.

    Each dataset is shuffled at the start of an epoch, dealt out in batches of its size, the last of which
    may be short, and shuffled again when it runs out before the epoch does.

    Args:
        settings: of the run; everything drawn depends on its seed.
        sets: the datasets that `batch_sizes` names, in a fixed order.
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
        """The row numbers drawn from each set at a step."""
        drawn = []
        for number, (rows, size) in enumerate(zip(self._rows, self._sizes, strict=True)):
            lap, batch = divmod(step, -(-len(rows) // size))
            order = np.random.default_rng((self.seed, 0, number, epoch, lap)).permutation(rows)
            drawn.append(order[batch * size : (batch + 1) * size])
        return drawn

    def batch(self, epoch: int, step: int, share: Callable[[int], slice] | None = None) -> Batch:
        """Everything for one step.

        Args:
            share: given how many images the batch has, which of them to cut crops for; by default all.

        Raises:
            ValueError: an image is smaller than a crop; names it.
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
    """The batches of steps `first` to `stop` of an epoch, in order, on this process's device.

    On a GPU the crops go there from pinned memory, so the copy waits for no step. The crops are those of this
    process's share, the labels those of the whole batch.
    """
    device = ranks.device

    def read(step: int) -> Batch:
        batch = batches.batch(epoch, step, ranks.share)
        return batch.map(Tensor.pin_memory) if device.type == "cuda" else batch

    for batch in read_ahead(read, range(first, stop), readers, readers + 1):
        yield batch.map(lambda tensor: tensor.to(device, non_blocking=True))
