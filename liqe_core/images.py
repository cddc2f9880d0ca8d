"""Reading a picture: what comes out is 8-bit RGB, and what cannot be read is refused by name.

The public code accepts files that are cut short and turns 16-bit pictures white; here both are errors of the
past, and options for those who want the very same numbers.
"""

from __future__ import annotations

import threading
import warnings
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

#: Pillow warns of a possible decompression bomb above this many pixels (89 million); we refuse there.
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3


class PictureError(ValueError):
    """A picture that cannot be read or scored; the message names the file and says what to do."""


class MissingPictureError(PictureError, FileNotFoundError):
    """No file at that path."""


def read_picture(
    source: str | PathLike | Image.Image,
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
        max_pixels: refuse a picture with more pixels before decoding it; None: no limit.
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
        return _decoded(source, str(name), max_pixels, truncated, sixteen_bit)
    path = Path(source)
    if not path.exists():
        raise MissingPictureError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise PictureError(f"{path}: a folder, not a picture; give the files in it")
    if path.stat().st_size == 0:
        raise PictureError(f"{path}: the file is empty; copy or download it again")
    try:
        # Pillow raises at twice its own limit and warns below; ours below decides, so its warning is noise.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except UnidentifiedImageError:
        raise PictureError(f"{path}: not a picture that Pillow can read; check what the file holds") from None
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path}: {_bomb_advice(str(error))}") from None
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error})") from error
    with image:
        return _decoded(image, str(path), max_pixels, truncated, sixteen_bit)


def _decoded(image: Image.Image, name: str, max_pixels, truncated: str, sixteen_bit: str) -> Image.Image:
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        raise PictureError(f"{name}: {_bomb_advice(f'{width} x {height} pixels, over {max_pixels}')}")
    try:
        _load(image, accept_truncated=truncated == "accept")
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise PictureError(
            f"{name}: damaged or cut short ({error}); copy or download it again"
            ", or read it with truncated='accept' to score what is there"
        ) from error
    if image.mode.startswith("I") and sixteen_bit == "scale":
        levels = np.asarray(image).astype(np.int64)
        # Mode I is how Pillow holds some 16-bit files; one whose levels fit in 8 bits is left as it is.
        if image.mode != "I" or levels.max(initial=0) > 255:
            levels = (levels.clip(0, 65535) + 128) // 257
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


_pillow_flag = threading.Lock()


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
