"""Scoring picture files with a model: read ahead, batch, and keep one bad file from losing the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike, fspath

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from liqe_core.crops import CropGeometry, scoring_crops
from liqe_core.images import PictureError, read_picture
from liqe_core.prediction import Prediction

Picture = str | PathLike | Image.Image


@torch.no_grad()
def score_pictures(
    model,
    images: Picture | Iterable[Picture],
    *,
    on_error: str = "raise",
    batch_size: int = 8,
    progress: bool = False,
) -> Prediction:
    """What `LIQE.score` does; see there."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error is {on_error!r}: choose raise or skip")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: give a number from 1")
    several = isinstance(images, Iterable) and not isinstance(images, Picture)
    images = list(images) if several else [images]
    names = tuple(_name(image, i) for i, image in enumerate(images))
    joint = torch.full((len(images), *model.grid.shape), torch.nan)
    errors: dict[int, str] = {}

    modes = {module: module.training for module in model.modules()}  # a frozen batch norm stays so
    model.eval()
    text = None
    try:
        with tqdm(total=len(images), disable=not progress, unit="picture") as bar:
            for here, crops in _read_ahead(images, names, model.geometry, batch_size):
                for i, result in zip(here, crops, strict=True):
                    if isinstance(result, PictureError):
                        if on_error == "raise":
                            raise result
                        errors[i] = str(result)
                good = {i: c for i, c in zip(here, crops, strict=True) if i not in errors}
                if good:
                    text = model.text() if text is None else text  # once: it is looked up by a hash
                    joint[list(good)] = model.joint_of(list(good.values()), text).cpu()
                bar.update(len(here))
    finally:
        for module, training in modes.items():
            module.training = training
    return Prediction(joint, model.grid, names, errors)


def _read_ahead(images: Sequence[Picture], names: Sequence[str], geometry: CropGeometry, batch_size: int):
    """Yield (positions, crops or errors) a batch; the next batch is read while the model has this one."""

    def crops_of(i: int) -> Tensor | PictureError:
        try:
            return scoring_crops(read_picture(images[i]), geometry, names[i])
        except PictureError as error:
            return error

    batches = [range(s, min(s + batch_size, len(images))) for s in range(0, len(images), batch_size)]
    with ThreadPoolExecutor(2) as readers:
        ahead = [readers.submit(crops_of, i) for i in batches[0]] if batches else []
        try:
            for here, following in zip(batches, [*batches[1:], range(0)], strict=False):
                reading, ahead = ahead, [readers.submit(crops_of, i) for i in following]
                yield here, [future.result() for future in reading]
        finally:  # when the caller stops at an error, what has not begun is not read
            readers.shutdown(cancel_futures=True)


def _name(image: Picture, position: int) -> str:
    if isinstance(image, Image.Image):
        return str(getattr(image, "filename", "") or f"picture {position}")
    if isinstance(image, (str, PathLike)):
        return fspath(image)
    raise TypeError(f"picture {position} is {type(image).__name__}: give a path or a Pillow image")
