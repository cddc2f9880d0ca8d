"""Score images with a model: in batches, read ahead in threads, and robust to invalid images."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
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

#: An image, a folder of images, or a tensor (N, 3, H, W) of floats in [0, 1].
Images = Source | Tensor

#: The error of an image whose score is NaN.
NO_NUMBER = "the score is NaN, because the weights overflow; download the checkpoint again, or use another"

#: The note on an image without any content.
UNIFORM = "uniform image: its score has no meaning"

#: Tolerance for levels outside of [0, 1], which rounding errors of sums and resizing can cause.
ROUNDING = 1e-5

#: Threads that read images while the model computes.
READERS = 2

#: The dtype that the factors of products are rounded to; None: no rounding.
PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}


class JointModel(nn.Module):
    """Base class of models that predict a joint probability from crops; `LIQE` is one of them.

    Attributes:
        clip: the image and text towers.
        text: a callable that returns the embeddings of all prompts.
        geometry: positions of the crops.
        statistics: mean and standard deviation that normalise the crops.
    """

    clip: Clip  # declared, since a type checker takes unknown attributes of a module for tensors or modules
    text: PromptEncoder
    geometry: CropGeometry
    statistics: Statistics

    @property
    def grid(self) -> PromptGrid:
        """The prompts and their axes."""
        return self.text.grid

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.clip.logit_scale.device

    def joint_of(
        self, crops: Sequence[Tensor], text: Tensor | None = None, tower: nn.Module | None = None
    ) -> Tensor:
        """Compute the (n, Q, S, D) joint probability of images with different numbers of crops."""
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
        """Score images like the public code, on the crops of `geometry`.

        Args:
            images: one or several of the following: a path; a folder, for all images in it and its
                subfolders; a URL; the bytes of a file; a Pillow image; an array (H, W, 3) of uint8; a tensor
                (N, 3, H, W) of floats in [0, 1] on any device, which counts as N images.
            on_error: ``raise`` at the first image that cannot be scored, or ``skip`` it. The prediction of a
                skipped image is NaN, and `Prediction.errors` holds the message.
            batch_size: images in one forward pass of the image tower.
            progress: show a progress bar.
            precision: see `products_in`. The prompts are always embedded in float32.
            read: a function from an image that is not a tensor to 8-bit RGB, for example
                ``functools.partial(read_image, orientation="apply")``.

        Returns:
            A `Prediction` with one row per image, in order.

        Raises:
            ImageError: if an image cannot be read or is too small, or the values of a tensor are not in
                [0, 1] (with ``on_error="raise"``).
            TypeError: for an input that is not an image, or an array or tensor of another shape or dtype.
            ValueError: for an unknown `on_error` or `precision`, or an invalid `batch_size`.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is {on_error!r}: choose raise or skip")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}: give a whole number from 1")
        check_precision(precision, self)  # before any image is read
        if hasattr(images, "read") or isinstance(images, memoryview):  # would iterate over lines or bytes
            raise TypeError(
                f"the images are {type(images).__name__}: give a path, or bytes, for example f.read()"
            )
        alone = isinstance(images, (str, PathLike, bytes, bytearray, np.ndarray, Tensor, Image.Image))
        inputs = _Inputs()
        for image in [images] if alone or not isinstance(images, Iterable) else images:
            inputs.add(image)  # type: ignore[arg-type]
        names, notes = inputs.names, {}

        def crops_of(i: int) -> Tensor | ImageError:
            image = inputs.images[i]
            try:
                if isinstance(image, ImageError):
                    raise image
                if isinstance(image, Tensor):
                    refuse_outside(image[None], names[i : i + 1])
                    levels = tensor_crops(image[None].float(), self.geometry, names[i])[0]
                    crops = standardize(levels, self.statistics)
                else:
                    crops = scoring_crops(read(image), self.geometry, names[i])
                if is_uniform(crops):
                    notes[i] = UNIFORM
                return crops
            except ImageError as error:
                if isinstance(image, (bytes, bytearray, Image.Image)) and not str(error).startswith(names[i]):
                    error = ImageError(f"{names[i]}: {error}")
                if on_error == "raise":
                    raise error
                return error

        plain = torch.autocast(self.device.type, enabled=False)  # even within the caller's autocast
        with tqdm(total=len(names), disable=not progress, unit="image") as bar, plain:
            joint, errors = predict_joint(
                self, crops_of, range(len(names)), batch_size, bar.update, precision
            )
        errors = with_names(errors, names)
        if errors and on_error == "raise":  # NaN scores only: `crops_of` raises if it cannot read an image
            raise ImageError(next(iter(errors.values())))
        left_out = {reason: tuple(files) for reason, files in inputs.left_out.items()}
        return Prediction(joint.cpu(), self.grid, tuple(names), errors, left_out, notes)


def is_uniform(crops: Tensor) -> bool:
    """Whether crops (U, 3, window, window) have a single color, up to rounding in a resized tensor."""
    return bool((crops.amax(dim=(0, 2, 3)) - crops.amin(dim=(0, 2, 3))).max() < 1e-3)


def with_names(errors: Mapping[int, str], names: Sequence[str]) -> dict[int, str]:
    """Prefix the messages of `joint_by_batch` with image names; those of a reader already have them."""
    return {i: f"{names[i]}: {error}" if error == NO_NUMBER else error for i, error in errors.items()}


def refuse_outside(images: Tensor, names: Sequence[str]) -> None:
    """Check that the levels of (N, 3, H, W) floats are in [0, 1].

    Raises:
        ImageError: for a level below 0, above 1 or NaN. The message names the first such image.
    """
    low, high = torch.aminmax(images.detach().flatten(1), dim=1)
    for name, least, most in zip(names, low.tolist(), high.tolist(), strict=True):
        if not (least >= -ROUNDING and most <= 1 + ROUNDING):  # also true for NaN
            raise ImageError(
                f"{name}: the values of the tensor are in [{least:g}, {most:g}], not in [0, 1]; "
                "divide by the white level or clamp, and do not normalize"
            )


@dataclasses.dataclass
class _Inputs:
    """The list of single images from all kinds of input. A folder without images becomes an `ImageError`."""

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
                    f"image {count} is {type(image).__name__}: give a path, a Pillow image or another input "
                    "that LIQE.score accepts"
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
            reason = f"{path}: cannot read the folder ({error.strerror}); check its permissions"
            self.images.append(ImageError(reason))
            self.names.append(path)
            return
        for reason, files in found.left_out.items():
            self.left_out.setdefault(reason, []).extend(os.path.join(path, file) for file in files)
        files = [os.path.join(path, file) for file in found.images]
        self.images += files or [no_image_in(path)]
        self.names += files or [path]


def refuse_other_tensors(images: Tensor, name: str = "the tensor") -> None:
    """Check that a tensor is a batch of images: (N, 3, H, W) floats and not empty.

    Raises:
        TypeError: for another shape, dtype or type.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} is {type(images).__name__}: give a tensor (N, 3, H, W) of floats in [0, 1]")
    floats = images.is_floating_point()
    if not floats or images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        kind = str(images.dtype).removeprefix("torch.")
        raise TypeError(
            f"{name} is a {kind} tensor of shape {tuple(images.shape)}: give RGB floats (N, 3, H, W) in "
            "[0, 1]: x[None] for a single image, x / 255 for 8-bit levels"
        )


def predict_joint(
    model: JointModel,
    crops_of: Callable[[Any], Tensor | ImageError],
    items: Sequence[Any] | np.ndarray,
    batch_size: int,
    done: Callable[[int], object] = lambda count: None,
    precision: str = "float32",
) -> tuple[Tensor, dict[int, str]]:
    """Compute the joint probability of images in batches; see `joint_by_batch`.

    Args:
        batch_size: images in one forward pass of the image tower.
        done: called after each batch with its number of items.
        precision: see `products_in`.

    Returns:
        The joint probability, (n, Q, S, D) on the model's device and NaN for an item without crops; and the
        error messages by position.
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
    """Yield the joint probability of images batch by batch, while the next batch is read.

    The text embeddings and the image tower for evaluation (`towers.to_evaluate`) are computed once. The
    training or evaluation mode of the model is restored afterwards. The results of a batch are bit-identical
    regardless of the preceding batches.

    Args:
        crops_of: a function from an item to its crops, (U, 3, window, window), or to an `ImageError`.
        batches: the items of each forward pass of the image tower.
        precision: see `products_in`.

    Yields:
        For each batch of n items: the joint probability, (n, Q, S, D) on the model's device and NaN for an
        item without crops; and the error messages by position in the batch.
    """
    text: Tensor | None = None
    tower: nn.Module | None = None
    items = (item for batch in batches for item in batch)
    ahead = read_ahead(crops_of, items, READERS, max(map(len, batches), default=0) + READERS)
    with evaluating(model), contextlib.closing(ahead):
        for batch in batches:
            results = dict(enumerate(islice(ahead, len(batch))))
            good = {i: crops for i, crops in results.items() if not isinstance(crops, ImageError)}
            with torch.no_grad():  # not across the yield, where it would affect the caller
                joint = torch.full(
                    (len(batch), *model.grid.shape), torch.nan, dtype=torch.float32, device=model.device
                )
                if good:
                    if text is None:  # only needed once an image could be read
                        text, tower = model.text(), towers.to_evaluate(model.clip.visual)
                    with products_in(precision, model.device):
                        joint[list(good)] = model.joint_of(list(good.values()), text, tower)
            errors = {i: str(crops) for i, crops in results.items() if isinstance(crops, ImageError)}
            no_number = joint.flatten(1).isnan().any(dim=1).nonzero().flatten().tolist()
            errors |= {i: NO_NUMBER for i in no_number if i not in errors}
            yield joint, errors


def products_in(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a context in which the factors of products in the image tower are rounded to `precision`.

    ``bfloat16`` keeps 8 of the 24 bits of a factor, which is faster on processors with bfloat16 arithmetic.
    Weights, sums, similarities, probabilities and scores remain float32. ``float32`` changes nothing.

    Raises:
        ValueError: if the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}: choose {' or '.join(PRECISIONS)}")
    rounded = PRECISIONS[precision]
    return torch.autocast(device.type, rounded) if rounded else contextlib.nullcontext()


def check_precision(precision: str, model: JointModel) -> None:
    """Check that a precision exists and does not change the scores of the model noticeably.

    Raises:
        ValueError: if the precision is unknown or not suitable for the model.
    """
    products_in(precision, model.device)
    if PRECISIONS[precision] and towers.needs_float32(model.clip.visual):
        raise ValueError(f"precision {precision} changes EfficientNet scores by up to 0.2: give float32")


# Models in use: the original mode of each module, and how many threads and generators use the model.
_modes: dict[nn.Module, tuple[dict[nn.Module, bool], int]] = {}
_modes_lock = threading.Lock()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode within the block, and then restore the mode of each module.

    Modes can differ: a frozen batch norm stays in evaluation mode during training. If several threads use the
    model, the last one restores the modes, since a batch norm in training mode changes its weights.
    """
    kinds = {value.dtype for value in model.parameters() if value.is_floating_point()} - {torch.float32}
    if kinds:
        raise TypeError(
            f"the weights are {kinds.pop()}, but LIQE computes in float32: call .float() on the model; for "
            "faster scoring, give precision='bfloat16'"
        )
    with _modes_lock:
        modes, users = _modes.get(model) or ({module: module.training for module in model.modules()}, 0)
        _modes[model] = modes, users + 1
        if any(module.training for module in modes):
            model.eval()  # only if needed, because it discards the cached text embeddings
    try:
        yield
    finally:
        with _modes_lock:
            modes, users = _modes.pop(model)
            if users > 1:
                _modes[model] = modes, users - 1
            else:
                for module, training in modes.items():
                    module.training = training
