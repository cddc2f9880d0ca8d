"""What scores depend on beside the pictures: the weights, the device, and how pictures are read."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from liqe_core import LIQE


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options of ``liqe score`` of these names, small enough to be sent to a worker with every task."""

    checkpoint: str
    geometry: str
    enlarge_to: int
    grid: str
    device: str
    batch_size: int
    precision: str
    orientation: str
    icc: str
    max_pixels: str
    truncated: str

    @classmethod
    def of(cls, options: argparse.Namespace) -> Settings:
        """Those of a command line."""
        return cls(**{field.name: getattr(options, field.name) for field in dataclasses.fields(cls)})

    def elsewhere(self) -> Settings:
        """The same for a process that was started in another folder."""
        path = Path(self.checkpoint)
        return dataclasses.replace(self, checkpoint=str(path.absolute())) if path.is_file() else self

    def reader(self) -> Callable[[str], Image.Image]:
        """From a path to 8-bit RGB.

        Raises:
            ValueError: a limit that is no number.
        """
        from liqe_core.images import MAX_PIXELS, read_picture

        words = {"": MAX_PIXELS, "none": None}
        try:
            limit = words[self.max_pixels] if self.max_pixels in words else int(self.max_pixels)
        except ValueError:
            limit = 0
        if limit is not None and limit < 1:
            raise ValueError(f"--max-pixels {self.max_pixels}: give a number from 1, or none")
        return functools.partial(
            read_picture,
            max_pixels=limit,
            truncated={"refuse": "refuse", "allow": "accept"}[self.truncated],
            orientation=self.orientation,
            icc=self.icc,
        )

    def model(self) -> LIQE:
        """The model, on its device.

        Raises:
            ValueError: a setting is none, or there is no such device. CheckpointError: no such weights.
        """
        from liqe_core import LIQE, PromptGrid
        from liqe_core.crops import CropGeometry

        if self.batch_size < 1:
            raise ValueError(f"--batch-size {self.batch_size}: give a number from 1")
        if self.enlarge_to < 0:
            raise ValueError(f"--enlarge-to {self.enlarge_to}: give a number of pixels")
        if self.geometry:
            CropGeometry.named(self.geometry)  # refused before the weights are read
        grid = PromptGrid.variant(self.grid) if self.grid else None
        model = LIQE.from_checkpoint(
            self.checkpoint, geometry=self.geometry or None, grid=grid, device=device(self.device)
        )
        if self.enlarge_to:
            low, high = model.geometry.window, model.geometry.resize_to or math.inf
            if not low <= self.enlarge_to <= high:
                upto = f", to {high}, from which on it shrinks pictures" if high < math.inf else ""
                raise ValueError(
                    f"--enlarge-to {self.enlarge_to}: give a side from {low}, this model's window{upto}"
                )
            model.geometry = dataclasses.replace(model.geometry, enlarge_to=self.enlarge_to)
        return model

    def about(self, model: LIQE) -> dict[str, Any]:
        """All of it, by the words that a refusal tells it with.

        Args:
            model: of these settings.
        """
        import PIL
        import torch

        from liqe_core import __version__
        from liqe_core.checkpoints import located
        from liqe_core.files import file_sha256

        return {
            "checkpoint": file_sha256(located(self.checkpoint)),
            "geometry": dataclasses.asdict(model.geometry),
            "grid": model.grid.to_dict(),
            "--device": model.device.type,
            "--batch-size": self.batch_size,
            "--precision": self.precision,
            "--orientation": self.orientation,
            "--icc": self.icc,
            "--max-pixels": self.max_pixels,
            "--truncated": self.truncated,
            "version of liqe_core, torch or Pillow": [__version__, torch.__version__, PIL.__version__],
        }


def device(name: str) -> str:
    """The device that a word stands for: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto``: the fastest here.

    Raises:
        ValueError: another word, or no such device here.
    """
    import torch

    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in name and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"--device {name}: no such device; give cpu, cuda, cuda:1 or auto")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(has_mps)}[kind]
    if int(number or 0) >= count:
        there = f"there are {count} of its kind here" if count else "there is none of its kind here"
        raise ValueError(f"--device {name}: {there}; give cpu, or auto for the fastest there is")
    return name
