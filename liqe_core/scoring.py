"""Scoring images with a model: read ahead, batch, and keep one bad image from losing the others."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from liqe_core import towers
from liqe_core.crops import CropGeometry, Statistics, scoring_crops, standardize, tensor_crops
from liqe_core.images import (
    ImageError,
    Source,
    no_image_in,
    read_ahead,
    read_image,
    refuse_other_arrays,
    survey,
)
from liqe_core.intake.progress import tqdm
from liqe_core.prediction import Prediction
from liqe_core.prompts import PromptGrid
from liqe_core.text import PromptEncoder
from liqe_core.towers import Clip

#: One image, or a folder of them, or (N, 3, H, W) floats in [0, 1].
Images = Source | Tensor

#: Why an image that could be read has no score.
NO_NUMBER = "the model's answer is no number: its weights overflow; get the checkpoint again, or another"

#: How far a level may lie outside of [0, 1], as sums and resizing leave it.
ROUNDING = 1e-5

#: Threads that read images while the model is busy.
READERS = 2

#: What the factors of products may be rounded to; None: they are not.
PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}


class JointModel(nn.Module):
    """What scoring asks of a model: the joint probability of crops. `LIQE` is one.

    Attributes:
        clip: its towers.
        text: gives the embeddings of all prompts when it is called.
        geometry: where crops lie.
        statistics: what crops are scaled by before the image tower.
    """

    clip: Clip  # else it would be taken for a tensor or a module that nothing is known of
    text: PromptEncoder
    geometry: CropGeometry
    statistics: Statistics

    @property
    def grid(self) -> PromptGrid:
        """The prompts and their axes."""
        return self.text.grid

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.clip.logit_scale.device

    def joint_of(
        self, crops: Sequence[Tensor], text: Tensor | None = None, tower: nn.Module | None = None
    ) -> Tensor:
        """(n, Q, S, D): the joint probability of images that may differ in their number of crops."""
        raise NotImplementedError

    def score(
        self,
        images: Images | Iterable[Images],
        *,
        on_error: str = "raise",
        batch_size: int = 8,
        progress: bool = False,
        precision: str = "float32",
        read: Callable[[Source], Image.Image] = read_image,
    ) -> Prediction:
        """Score images as the public code does: files as they are, with the crops of `geometry`.

        Args:
            images: one of the following, or any number of them: a path; a folder, for every image in it and
                below it; a URL; what a file holds as bytes; a Pillow image; an array (H, W, 3) of uint8; a
                tensor (N, 3, H, W) of floats in [0, 1], on any device, which is N images.
            on_error: ``raise`` at the first image that cannot be scored, or ``skip`` it: the others are
                scored, its place in the answer holds NaN, and `Prediction.errors` says why.
            batch_size: images that go through the image tower together.
            progress: show a bar.
            precision: see `products_in`; the prompts are embedded in float32 all the same.
            read: from an image that is no tensor to 8-bit RGB: ``functools.partial(read_image,
                orientation="apply")``, say.

        Returns:
            A `Prediction` with a row for each image, in order.

        Raises:
            ImageError: an image cannot be read or is too small, or a tensor's values are not in [0, 1]
                (``on_error="raise"``).
            TypeError: something that is no image, or an array or a tensor of another shape or type.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is {on_error!r}: choose raise or skip")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}: give a whole number from 1")
        check_precision(precision, self)  # refused before an image is read
        if hasattr(images, "read") or isinstance(images, memoryview):  # else its lines, or bytes, were images
            raise TypeError(
                f"the images are {type(images).__name__}: give a path, or bytes, such as f.read()"
            )
        alone = isinstance(images, (str, PathLike, bytes, bytearray, np.ndarray, Tensor, Image.Image))
        inputs = _Inputs()
        for image in [images] if alone or not isinstance(images, Iterable) else images:
            inputs.add(image)  # type: ignore[arg-type]
        names = inputs.names

        def crops_of(i: int) -> Tensor | ImageError:
            image = inputs.images[i]
            try:
                if isinstance(image, ImageError):
                    raise image
                if isinstance(image, Tensor):
                    refuse_outside(image[None], names[i : i + 1])
                    levels = tensor_crops(image[None].float(), self.geometry, names[i])[0]
                    return standardize(levels, self.statistics)
                return scoring_crops(read(image), self.geometry, names[i])
            except ImageError as error:
                if isinstance(image, (bytes, bytearray, Image.Image)) and not str(error).startswith(names[i]):
                    error = ImageError(f"{names[i]}: {error}")
                if on_error == "raise":
                    raise error
                return error

        plain = torch.autocast(self.device.type, enabled=False)  # also where the caller's is on
        with tqdm(total=len(names), disable=not progress, unit="image") as bar, plain:
            joint, errors = predict_joint(
                self, crops_of, range(len(names)), batch_size, bar.update, precision
            )
        errors = with_names(errors, names)
        if errors and on_error == "raise":  # one that could be read; what could not was raised by `crops_of`
            raise ImageError(next(iter(errors.values())))
        left_out = {reason: tuple(files) for reason, files in inputs.left_out.items()}
        return Prediction(joint.cpu(), self.grid, tuple(names), errors, left_out)


def with_names(errors: Mapping[int, str], names: Sequence[str]) -> dict[int, str]:
    """The reasons of `joint_by_batch`, each with its image's name, which those of a reader have already."""
    return {i: f"{names[i]}: {error}" if error == NO_NUMBER else error for i, error in errors.items()}


def refuse_outside(images: Tensor, names: Sequence[str]) -> None:
    """A level under 0, over 1 or NaN, in (N, 3, H, W) floats.

    Raises:
        ImageError: there is one; names the first image.
    """
    low, high = torch.aminmax(images.detach().flatten(1), dim=1)
    for name, least, most in zip(names, low.tolist(), high.tolist(), strict=True):
        if not (least >= -ROUNDING and most <= 1 + ROUNDING):  # nor is NaN
            raise ImageError(
                f"{name}: its values lie in {least:g} .. {most:g}, and a tensor's are to lie in [0, 1]; "
                "divide by what is white, or clamp, and do not normalize"
            )


@dataclasses.dataclass
class _Inputs:
    """Images one by one, whatever they were given as; a folder without any is the reason in its place."""

    images: list[Source | Tensor | ImageError] = dataclasses.field(default_factory=list)
    names: list[str] = dataclasses.field(default_factory=list)
    left_out: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def add(self, image: Images) -> None:
        count = len(self.names)
        if isinstance(image, Tensor):
            refuse_other_tensors(image, f"image {count}")
            self.images += image.detach().unbind()
            self.names += [f"image {count + i}" for i in range(len(image))]
        elif isinstance(image, (str, PathLike)):
            self._add_path(os.fsdecode(image))
        else:
            if isinstance(image, np.ndarray):
                refuse_other_arrays(image, f"image {count}")
            elif not isinstance(image, (bytes, bytearray, Image.Image)):
                raise TypeError(
                    f"image {count} is {type(image).__name__}: give a path or a Pillow image, or what else "
                    "LIQE.score takes"
                )
            self.images.append(image)
            self.names.append(str(getattr(image, "filename", "") or f"image {count}"))

    def _add_path(self, path: str) -> None:
        if not os.path.isdir(path):
            self.images.append(path)
            self.names.append(path)
            return
        try:
            found = survey(path)
        except OSError as error:
            reason = f"{path}: a folder that cannot be looked into ({error.strerror}); check who may read it"
            self.images.append(ImageError(reason))
            self.names.append(path)
            return
        for reason, files in found.left_out.items():
            self.left_out.setdefault(reason, []).extend(os.path.join(path, file) for file in files)
        files = [os.path.join(path, file) for file in found.images]
        self.images += files or [no_image_in(path)]
        self.names += files or [path]


def refuse_other_tensors(images: Tensor, name: str = "the tensor") -> None:
    """A tensor is taken for N images when it has (N, 3, H, W) floats, and none else is.

    Raises:
        TypeError: another shape or type; says which, and what to do.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} is {type(images).__name__}: give a tensor (N, 3, H, W) of floats in [0, 1]")
    floats = images.is_floating_point()
    if not floats or images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        kind = str(images.dtype).removeprefix("torch.")
        raise TypeError(
            f"{name} is a tensor of {kind} {tuple(images.shape)}: give (N, 3, H, W) floats in [0, 1], red "
            "first: x[None] of one image, x / 255 of whole levels"
        )


def predict_joint(
    model: JointModel,
    crops_of: Callable[[Any], Tensor | ImageError],
    items: Sequence[Any] | np.ndarray,
    batch_size: int,
    done: Callable[[int], object] = lambda count: None,
    precision: str = "float32",
) -> tuple[Tensor, dict[int, str]]:
    """The joint probability of images, a batch at a time; see `joint_by_batch`.

    Args:
        batch_size: images that go through the image tower together.
        done: told after each batch how many items it had.
        precision: see `products_in`.

    Returns:
        (n, Q, S, D) on the model's device, NaN for an item without crops; and the reason, by position.
    """
    joint = torch.full((len(items), *model.grid.shape), torch.nan, dtype=torch.float32, device=model.device)
    errors: dict[int, str] = {}
    starts = range(0, len(items), batch_size)
    batches = [items[start : start + batch_size] for start in starts]
    with contextlib.closing(joint_by_batch(model, crops_of, batches, precision)) as parts:
        for start, (part, bad) in zip(starts, parts, strict=True):
            joint[start : start + len(part)] = part
            errors |= {start + i: reason for i, reason in bad.items()}
            done(len(part))
    return joint, errors


def joint_by_batch(
    model: JointModel,
    crops_of: Callable[[Any], Tensor | ImageError],
    batches: Sequence[Sequence[Any] | np.ndarray],
    precision: str = "float32",
) -> Generator[tuple[Tensor, dict[int, str]], None, None]:
    """The joint probability of images, batch by batch as it is there; the next batch is read meanwhile.

    The text is embedded once, and the image tower made ready once (`towers.to_evaluate`). The model is left
    as it was, in training or evaluation mode. A batch of the same images gives the same bits, whatever
    batches are before it.

    Args:
        crops_of: from an item to its crops, (U, 3, window, window); or to why there are none.
        batches: items that go through the image tower together.
        precision: see `products_in`.

    Yields:
        For each batch of n: (n, Q, S, D) on the model's device, NaN for an item without crops; and the
        reason, by position in the batch.
    """
    text: Tensor | None = None
    tower: nn.Module | None = None
    items = (item for batch in batches for item in batch)
    ahead = read_ahead(crops_of, items, READERS, max(map(len, batches), default=0) + READERS)
    with evaluating(model), contextlib.closing(ahead):
        for batch in batches:
            results = dict(enumerate(islice(ahead, len(batch))))
            good = {i: crops for i, crops in results.items() if not isinstance(crops, ImageError)}
            with torch.no_grad():  # not while the caller has the turn
                joint = torch.full(
                    (len(batch), *model.grid.shape), torch.nan, dtype=torch.float32, device=model.device
                )
                if good:
                    if text is None:  # not before there is an image that they are needed for
                        text, tower = model.text(), towers.to_evaluate(model.clip.visual)
                    with products_in(precision, model.device):
                        joint[list(good)] = model.joint_of(list(good.values()), text, tower)
            errors = {i: str(crops) for i, crops in results.items() if isinstance(crops, ImageError)}
            no_number = joint.flatten(1).isnan().any(dim=1).nonzero().flatten().tolist()
            errors |= {i: NO_NUMBER for i in no_number if i not in errors}
            yield joint, errors


def products_in(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """In the block, the factors of the products of the image tower are rounded to `precision`.

    ``bfloat16`` keeps 8 of a factor's 24 bits, which is faster on processors that multiply such numbers.
    Weights, sums, similarities, probabilities and scores are float32 all the same. ``float32`` changes
    nothing.

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}: choose {' or '.join(PRECISIONS)}")
    rounded = PRECISIONS[precision]
    return torch.autocast(device.type, rounded) if rounded else contextlib.nullcontext()


def check_precision(precision: str, model: JointModel) -> None:
    """Refuse a precision that there is not, or that moves the scores of this model visibly.

    Raises:
        ValueError: it does.
    """
    products_in(precision, model.device)
    if PRECISIONS[precision] and towers.needs_float32(model.clip.visual):
        raise ValueError(f"precision {precision} moves an EfficientNet's scores by up to 0.2: give float32")


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode during the block; afterwards each module as it was, since a frozen batch
    norm stays so in training."""
    kinds = {value.dtype for value in model.parameters() if value.is_floating_point()} - {torch.float32}
    if kinds:
        raise TypeError(
            f"the model's weights are {kinds.pop()}, and LIQE computes in float32: call .float() on it; for "
            "speed give precision='bfloat16'"
        )
    modes = {module: module.training for module in model.modules()}
    if any(modes.values()):
        model.eval()  # not called for nothing: the embeddings of the prompts are kept until then
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
