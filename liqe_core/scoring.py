"""Scoring pictures with a model: read ahead, batch, and keep one bad picture from losing the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from liqe_core.crops import scoring_crops
from liqe_core.images import PictureError, read_ahead, read_picture
from liqe_core.prediction import Prediction

if TYPE_CHECKING:
    from liqe_core.model import LIQE

Picture = str | PathLike[str] | Image.Image


def score_pictures(
    model: LIQE,
    images: Picture | Iterable[Picture],
    *,
    on_error: str = "raise",
    batch_size: int = 8,
    progress: bool = False,
    read: Callable[[Picture], Image.Image] = read_picture,
) -> Prediction:
    """Score pictures as the public code does: files as they are, with the crops of `geometry`.

    Args:
        images: a path or a Pillow image, or any number of them.
        on_error: ``raise`` at the first picture that cannot be scored, or ``skip`` it: the others are
            scored, its place in the answer holds NaN, and `Prediction.errors` says why.
        batch_size: pictures that go through the image tower together.
        progress: show a bar.
        read: from a picture to 8-bit RGB: ``functools.partial(read_picture, orientation="apply")``, say.

    Returns:
        A `Prediction` with a row for each picture, in order.

    Raises:
        PictureError: a picture cannot be read or is too small (``on_error="raise"``).
        TypeError: something that is no picture.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error is {on_error!r}: choose raise or skip")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: give a number from 1")
    if isinstance(images, (str, PathLike, Image.Image)) or not isinstance(images, Iterable):
        images = [images]
    pictures = list(images)
    names = tuple(_name(picture, i) for i, picture in enumerate(pictures))

    def crops_of(i: int) -> Tensor | PictureError:
        try:
            return scoring_crops(read(pictures[i]), model.geometry, names[i])
        except PictureError as error:
            if on_error == "raise":
                raise
            return error

    with tqdm(total=len(pictures), disable=not progress, unit="picture") as bar:
        joint, errors = predict_joint(model, crops_of, range(len(pictures)), batch_size, 2, bar.update)
    return Prediction(joint.cpu(), model.grid, names, errors)


def predict_joint(
    model: LIQE,
    crops_of: Callable[[Any], Tensor | PictureError],
    items: Sequence[Any] | np.ndarray,
    batch_size: int,
    readers: int = 1,
    done: Callable[[int], object] = lambda count: None,
) -> tuple[Tensor, dict[int, str]]:
    """The joint probability of pictures, a batch at a time; see `joint_by_batch`.

    Args:
        batch_size: pictures that go through the image tower together.
        done: told after each batch how many items it had.

    Returns:
        (n, Q, S, D) on the model's device, NaN for an item without crops; and the reason, by position.
    """
    joint = torch.full((len(items), *model.grid.shape), torch.nan, device=model.device)
    errors: dict[int, str] = {}
    starts = range(0, len(items), batch_size)
    batches = [items[start : start + batch_size] for start in starts]
    with contextlib.closing(joint_by_batch(model, crops_of, batches, readers)) as parts:
        for start, (part, bad) in zip(starts, parts, strict=True):
            joint[start : start + len(part)] = part
            errors |= {start + i: reason for i, reason in bad.items()}
            done(len(part))
    return joint, errors


def joint_by_batch(
    model: LIQE,
    crops_of: Callable[[Any], Tensor | PictureError],
    batches: Sequence[Sequence[Any] | np.ndarray],
    readers: int = 1,
) -> Generator[tuple[Tensor, dict[int, str]], None, None]:
    """The joint probability of pictures, batch by batch as it is there; the next batch is read meanwhile.

    The text is embedded once. The model is left as it was, in training or evaluation mode. A batch of the
    same pictures gives the same bits, whatever batches are before it.

    Args:
        crops_of: from an item to its crops, (U, 3, window, window); or to why there are none.
        batches: items that go through the image tower together.
        readers: threads that call `crops_of`.

    Yields:
        For each batch of n: (n, Q, S, D) on the model's device, NaN for an item without crops; and the
        reason, by position in the batch.
    """
    text: Tensor | None = None
    items = (item for batch in batches for item in batch)
    ahead = read_ahead(crops_of, items, readers, max(map(len, batches), default=0) + readers)
    with evaluating(model), contextlib.closing(ahead):
        for batch in batches:
            here = dict(enumerate(islice(ahead, len(batch))))
            good = {i: crops for i, crops in here.items() if not isinstance(crops, PictureError)}
            with torch.no_grad():  # not while the caller has the turn
                joint = torch.full((len(batch), *model.grid.shape), torch.nan, device=model.device)
                if good:
                    text = model.text() if text is None else text
                    joint[list(good)] = model.joint_of(list(good.values()), text)
            yield joint, {i: str(crops) for i, crops in here.items() if isinstance(crops, PictureError)}


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode during the block; afterwards each module as it was, since a frozen batch
    norm stays so in training."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _name(image: Picture, position: int) -> str:
    if isinstance(image, Image.Image):
        return str(getattr(image, "filename", "") or f"picture {position}")
    if isinstance(image, (str, PathLike)):
        return fspath(image)
    raise TypeError(f"picture {position} is {type(image).__name__}: give a path or a Pillow image")
