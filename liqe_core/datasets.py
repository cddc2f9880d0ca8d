"""From a label table and pictures to the tensors of a training step or an evaluation.

A label table has a row a picture, with the columns ``dataset, image, mos, distortion, distortion_group,
scenes, reference, session_1 .. session_10``, whatever data set it comes from. Which pictures make up step t
of epoch e, which crops are cut from them and which are mirrored is a function of the seed, e and t alone:
nothing has to be saved to go on where a run was stopped, and several processes agree without talking.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from liqe_core.crops import CropGeometry, cut
from liqe_core.prompts import PromptGrid

PARTS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class LabelledPictures:
    """Pictures of one data set with their labels, aligned.

    Attributes:
        name: of the data set.
        table: the label table, index 0..n-1.
        pictures: n arrays (H, W, 3) uint8, already shrunk as the crop geometry says; a list, or a
            `PackedStore`, which maps them from disk.
    """

    name: str
    table: pd.DataFrame
    pictures: Sequence[np.ndarray]

    def __post_init__(self):
        if len(self.table) != len(self.pictures):
            raise ValueError(f"{self.name}: {len(self.table)} labels for {len(self.pictures)} pictures")

    def __len__(self) -> int:
        return len(self.table)

    def part(self, session: int, part: str) -> np.ndarray:
        """Row numbers of the pictures in ``train``, ``val`` or ``test`` of session 1..10.

        Raises:
            ValueError: no such part or session, or nothing in it.
        """
        column = f"session_{session}"
        if part not in PARTS or column not in self.table:
            raise ValueError(f"{self.name}: no part {part!r} of session {session}")
        rows = np.flatnonzero(self.table[column] == part)
        if len(rows) == 0:
            raise ValueError(f"{self.name}: session {session} has no picture in its {part} part")
        return rows


def targets(table: pd.DataFrame, grid: PromptGrid) -> dict[str, Tensor]:
    """What the losses compare with.

    Returns:
        ``mos`` (n,) float64; ``scene`` (n, S) and ``distortion`` (n, D) float32 of 0 and 1, a row of zeros
        for a picture without that label.

    Raises:
        ValueError: a label that is not among the grid's words; names the image.
    """
    scenes = [tuple(s) if isinstance(s, (tuple, list)) else () for s in table["scenes"]]
    distortions = [() if pd.isna(d) else (d,) for d in table["distortion_group"]]
    return {
        "mos": torch.tensor(table["mos"].to_numpy(float)),
        "scene": _hot(scenes, grid, "scene", table["image"]),
        "distortion": _hot(distortions, grid, "distortion", table["image"]),
    }


def _hot(labels: Sequence[tuple[str, ...]], grid: PromptGrid, axis: str, images: pd.Series) -> Tensor:
    names = grid.names(axis)
    hot = torch.zeros(len(labels), len(names))
    if axis not in grid.axes:
        return hot
    for row, words in enumerate(labels):
        for word in words:
            if word not in names:
                raise ValueError(
                    f"{images.iloc[row]}: {axis} {word!r} is not among the grid's: {', '.join(names)}"
                )
            hot[row, names.index(word)] = 1
    return hot


@dataclasses.dataclass(frozen=True)
class Batch:
    """One step's pictures. B is the sum over data sets.

    Attributes:
        crops: (B, U, 3, window, window) uint8; where several processes share the batch, those of this one's
            share only, or of one picture beside it where the share is empty.
        mos: (B,) float64. dataset: (B,) int64. scene: (B, S). distortion: (B, D).
        images: what each picture is called, ``data set/file``.
    """

    crops: Tensor
    mos: Tensor
    dataset: Tensor
    scene: Tensor
    distortion: Tensor
    images: tuple[str, ...]

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """The same batch with its tensors on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pinned(self) -> Batch:
        """The same batch in memory that a GPU can copy from by itself."""
        return self._each(Tensor.pin_memory)

    def used_on(self, stream: torch.cuda.Stream) -> None:
        """Tell the allocator that work on `stream` reads these tensors, so it does not give them away."""
        self._each(lambda tensor: tensor.record_stream(stream))

    def _each(self, change: Callable) -> Batch:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Batch(**{k: change(v) if isinstance(v, Tensor) else v for k, v in fields.items()})


class TrainingBatches:
    """The batches of a session, drawn as the public code draws them.

    Each data set is shuffled at the start of an epoch, dealt out in batches of its size, the last of which
    may be short, and shuffled again when it runs out before the epoch does.

    Args:
        sets: the data sets, in a fixed order.
        batch_sizes: pictures a step, for each set by name.
        session: 1..10.
        grid: for the targets.
        geometry: for the windows.
        crops: how many a picture, drawn with replacement from its grid of windows after a random mirroring.
        seed: everything drawn depends on it.
    """

    def __init__(
        self,
        sets: Sequence[LabelledPictures],
        batch_sizes: Mapping[str, int],
        session: int,
        grid: PromptGrid,
        geometry: CropGeometry,
        crops: int = 3,
        seed: int = 0,
    ):
        if missing := [s.name for s in sets if not batch_sizes.get(s.name, 0) >= 1]:
            raise ValueError(f"no batch size for {', '.join(missing)}")
        self.sets, self.seed, self.geometry, self.crops = list(sets), seed, geometry, crops
        self._sizes = [batch_sizes[s.name] for s in sets]
        self._rows = [s.part(session, "train") for s in sets]
        self._targets = [targets(s.table, grid) for s in sets]
        self._names = [[f"{s.name}/{image}" for image in s.table["image"]] for s in sets]

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
            share: given how many pictures the batch has, which of them to cut crops for; by default all.

        Raises:
            ValueError: a picture is smaller than a crop; names it.
        """
        drawn = self.rows(epoch, step)
        places = [(number, row) for number, rows in enumerate(drawn) for row in rows]
        mine = range(len(places))[share(len(places))] if share else range(len(places))
        crops = [self._crops(epoch, step, place, *places[place]) for place in mine or (0,)]
        parts = {
            name: torch.cat([of[name][rows] for of, rows in zip(self._targets, drawn, strict=True)])
            for name in ("mos", "scene", "distortion")
        }
        return Batch(
            torch.stack(crops),
            dataset=torch.tensor([number for number, _ in places]),
            images=tuple(self._names[number][row] for number, row in places),
            **parts,
        )

    def _crops(self, epoch: int, step: int, place: int, number: int, row: int) -> Tensor:
        """(U, 3, window, window): the crops of the picture at a place in a batch."""
        rng = np.random.default_rng((self.seed, 1, epoch, step, place))
        pixels = self.sets[number].pictures[row]
        windows = self.geometry.windows(pixels.shape[1], pixels.shape[0])
        if len(windows) == 0:
            raise ValueError(
                f"{self._names[number][row]}: {pixels.shape[1]} x {pixels.shape[0]}, "
                f"smaller than a crop of {self.geometry.window}; leave it out of the table"
            )
        chosen = windows[rng.integers(len(windows), size=self.crops)]
        return cut(pixels, chosen, self.geometry.window, flip=bool(rng.integers(2)))
