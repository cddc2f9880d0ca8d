"""Reading pictures: what comes out is 8-bit RGB, and what cannot be read is refused by name.

The public code accepts files that are cut short and turns 16-bit pictures white. Here both are options, for
those who want the very same numbers.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

#: Pillow warns of a possible decompression bomb above this many pixels (89 million); we refuse there.
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3


#: Formats that Pillow opens and that hold no photograph: documents, films, measurements.
NO_PHOTOGRAPHS = ("BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "PDF", "WMF")

Item = TypeVar("Item")
Result = TypeVar("Result")


class PictureError(ValueError):
    """A picture that cannot be read or scored; the message names the file and says what to do."""


class MissingPictureError(PictureError, FileNotFoundError):
    """No file at that path."""


def read_picture(
    source: str | PathLike[str] | Image.Image,
    *,
    max_pixels: int | None = MAX_PIXELS,
    truncated: str = "refuse",
    sixteen_bit: str = "scale",
) -> Image.Image:
    """A picture file, or an opened Pillow image, as 8-bit RGB, with nothing passed over in silence.

    Grey, palette and CMYK pictures are converted by Pillow and an alpha channel is dropped, as in the public
    code. The orientation tag is not applied, as there.

    Args:
        source: a path or a Pillow image.
        max_pixels: refuse a picture with more pixels before decoding it; None: no limit. A Pillow image that
            is in memory already passes.
        truncated: ``refuse`` a file that is cut short, or ``accept`` it with the missing part grey, as the
            public code does.
        sixteen_bit: ``scale`` 16-bit grey levels to 8 bits, or ``clip`` them at 255 as the public code does
            (which turns nearly every such picture white).

    Returns:
        A loaded image of mode RGB.

    Raises:
        MissingPictureError: no such file.
        PictureError: a folder, an empty file, no picture, cut short, too many pixels.
    """
    for option, value, choices in (
        ("truncated", truncated, ("refuse", "accept")),
        ("sixteen_bit", sixteen_bit, ("scale", "clip")),
    ):
        if value not in choices:
            raise ValueError(f"{option} is {value!r}: choose {' or '.join(choices)}")
    if isinstance(source, Image.Image):
        name = getattr(source, "filename", "") or "the picture given as a Pillow image"
        with _one_by_one:  # an image that two threads load at once comes out as a mix, or not at all
            return _decoded(source, str(name), max_pixels, truncated, sixteen_bit)
    path = Path(source)
    try:
        if not path.exists():
            raise MissingPictureError(f"{path}: no such file; check the path")
        if path.is_dir():
            raise PictureError(f"{path}: a folder, not a picture; give the files in it")
        if path.stat().st_size == 0:
            raise PictureError(f"{path}: the file is empty; copy or download it again")
    except PictureError:
        raise
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise PictureError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    try:
        image = _open(path)
    except UnidentifiedImageError:
        raise PictureError(f"{path}: not a picture that Pillow can read; check what the file holds") from None
    except Exception as error:  # Pillow's readers let through whatever a damaged header makes them raise
        raise PictureError(f"{path}: cannot be read ({error}); copy or download it again") from error
    with image:
        return _decoded(image, str(path), max_pixels, truncated, sixteen_bit)


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of files that count as pictures: what Pillow, with the plug-ins that are
    registered, has a reader for."""
    known = Image.registered_extensions()
    return frozenset(s for s, kind in known.items() if kind in Image.OPEN and kind not in NO_PHOTOGRAPHS)


def list_pictures(folder: str | PathLike[str]) -> list[str]:
    """Paths of all pictures in a folder and below it, relative to it, with ``/`` between, sorted; no hidden
    ones. Empty where there is no such folder."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(folder)
        of_kind = (f for f in files if Path(f).suffix.lower() in suffixes() and not f.startswith("."))
        found += [(below / name).as_posix() for name in of_kind]
    return sorted(found)


def pictures_in(folder: str | PathLike[str]) -> list[str]:
    """As `list_pictures`, of a folder that is expected to hold some.

    Raises:
        NotADirectoryError: no such folder.
        PictureError: no picture in it.
    """
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: name the one that holds the pictures")
    if not (found := list_pictures(folder)):
        raise PictureError(f"{folder}: no picture in this folder, nor in those below it")
    return found


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], readers: int | None = None, ahead: int = 0
) -> Generator[Result, None, None]:
    """`read` of each item, in their order, done by threads while whoever asks is busy with the ones before.

    Pillow, NumPy and files let go of the interpreter, so threads are enough. When the caller stops, at an
    error for one, what has not begun is not read.

    Args:
        readers: threads; default: one a core.
        ahead: how many items are read before they are asked for; default: twice as many as readers.
    """
    readers = readers or os.cpu_count() or 1
    with ThreadPoolExecutor(readers) as pool:
        rest = iter(items)
        waiting = deque(pool.submit(read, item) for item in islice(rest, ahead or 2 * readers))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(read, item) for item in islice(rest, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def _decoded(
    image: Image.Image, name: str, max_pixels: int | None, truncated: str, sixteen_bit: str
) -> Image.Image:
    width, height = image.size
    undecoded = isinstance(image, ImageFile.ImageFile)  # an image in memory can do no more harm
    if undecoded and max_pixels is not None and width * height > max_pixels:
        raise PictureError(f"{name}: {_bomb_advice(f'{width} x {height} pixels, over {max_pixels}')}")
    try:
        _load(image, accept_truncated=truncated == "accept")
        return _as_rgb(image, sixteen_bit)
    except Exception as error:
        raise PictureError(
            f"{name}: damaged or cut short ({error}); copy or download it again, or score what is there with "
            "read_picture(..., truncated='accept')"
        ) from error


def _as_rgb(image: Image.Image, sixteen_bit: str) -> Image.Image:
    if image.mode.startswith("I") and sixteen_bit == "scale":
        levels = np.asarray(image).astype(np.int64)
        # Mode I is how Pillow holds some 16-bit files; one whose levels fit in 8 bits is left as it is.
        if image.mode != "I" or levels.max(initial=0) > 255:
            levels = (levels.clip(0, 65535) + 128) // 257
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the same colours, and Pillow does not warn on the way
    return image.convert("RGB")


_pillow_flag = threading.Lock()
_one_by_one = threading.Lock()


def _open(path: Path) -> Image.Image:
    """Read the header. Pillow's own limit of pixels is lifted for it, so that `max_pixels` decides."""
    with _pillow_flag:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _load(image: Image.Image, accept_truncated: bool) -> None:
    """Decode; Pillow's switch for files cut short is global, so it is turned only under a lock."""
    if not accept_truncated and not ImageFile.LOAD_TRUNCATED_IMAGES:
        image.load()
        return
    with _pillow_flag:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = accept_truncated
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def _bomb_advice(what: str) -> str:
    return (
        f"{what.rstrip('.')}: possibly a decompression bomb; if you trust the file, shrink it first or read "
        "it with read_picture(..., max_pixels=None)"
    )
