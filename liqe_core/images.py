"""Read images as 8-bit RGB, list the images of a folder, and read ahead in threads.

An image that cannot be read raises an error with its name. The public code accepts truncated files and turns
16-bit images white. Both are options here, to reproduce its numbers exactly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from liqe_core import files
from liqe_core.intake import levels, stopping, transfers

#: Maximum number of pixels (89 million). Pillow warns about a possible decompression bomb above this limit.
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3

#: Maximum size in bytes of an image fetched from a URL.
MAX_BYTES = 100_000_000

#: The input of `read_image`. An array is (H, W, 3) uint8. A string with http:// or https:// is a URL.
Source = str | PathLike[str] | bytes | np.ndarray | Image.Image

#: Formats that Pillow opens but that do not hold photographs: documents, videos, measurements.
NO_PHOTOGRAPHS = ("BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "PDF", "WMF")

#: Suffixes of HEIF images, a common format of phones. Pillow needs the optional package pillow-heif.
HEIF_SUFFIXES = (".heic", ".heif", ".hif", ".heics", ".heifs")
HEIF_ADVICE = "pip install pillow-heif, or save them as JPEG or PNG"

#: The allowed values of the options of `read_image`.
OPTIONS = {
    "truncated": ("refuse", "accept"),
    "sixteen_bit": ("scale", "clip"),
    "orientation": ("ignore", "apply"),
    "icc": ("ignore", "srgb"),
}

Item = TypeVar("Item")
Result = TypeVar("Result")


class ImageError(ValueError):
    """Raised if an image cannot be read or scored. The message names the file and says what to do."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """Raised if there is no file at a path."""


def read_image(
    source: Source,
    *,
    max_pixels: int | None = MAX_PIXELS,
    truncated: str = "refuse",
    sixteen_bit: str = "scale",
    orientation: str = "ignore",
    icc: str = "ignore",
) -> Image.Image:
    """Read an image as 8-bit RGB.

    Pillow converts grey, palette and CMYK images, and an alpha channel is dropped, as in the public code.
    Levels of more than 8 bits are scaled to 8. If the white level is unknown, the image is rejected (see
    `levels`).

    Args:
        source: a path, a URL (http or https, at most `MAX_BYTES`), the bytes of a file, a Pillow image, or
            (H, W, 3) uint8 levels in the order red, green, blue.
        max_pixels: maximum number of pixels, checked before decoding; None: no limit. Images that are
            already decoded in memory are not checked.
        truncated: ``refuse`` a truncated file, or ``accept`` it with the missing part grey, like the public
            code.
        sixteen_bit: ``scale`` levels of more than 8 bits to 8, or ``clip`` them at 255 like the public code,
            which turns nearly every such image white or black.
        orientation: ``ignore`` the EXIF orientation tag, like the public code, or ``apply`` it. Pillow itself
            applies it to TIFF, and pillow-heif applies it to HEIC.
        icc: ``ignore`` the colour profile, like the public code, or use it to convert to ``srgb``.

    Returns:
        A loaded Pillow image of mode RGB.

    Raises:
        ImageNotFoundError: if the file does not exist.
        ImageError: for a folder, an empty file, a file that is not an image, a truncated file, too many
            pixels, an unknown white level, or a URL that cannot be fetched.
        TypeError: for an array of another shape or dtype.
        ValueError: for an unknown value of an option.
    """
    chosen = {"truncated": truncated, "sixteen_bit": sixteen_bit, "orientation": orientation, "icc": icc}
    for option, value in chosen.items():
        if value not in OPTIONS[option]:
            raise ValueError(f"{option} is {value!r}: choose {' or '.join(OPTIONS[option])}")
    if isinstance(source, np.ndarray):
        refuse_other_arrays(source)
        return Image.fromarray(source)
    name, image = _opened(source)
    # A Pillow image of the caller stays open. Two threads must not load it at once: its data would be mixed.
    with _one_by_one if image is source else image:
        _refuse_size(image, name, max_pixels)
        try:
            stored = levels.stored(image)
            _load(image, accept_truncated=truncated == "accept")
            # After decoding: Pillow removes the tag if it has applied the orientation itself.
            upright = ImageOps.exif_transpose(image) if orientation == "apply" else image
            convert = levels.as_srgb if icc == "srgb" else levels.as_rgb
            return convert(upright, stored, sixteen_bit)
        except levels.LevelError as error:
            raise ImageError(f"{name}: {error}") from None
        except Exception as error:
            fault = f"damaged or truncated ({error}); copy or download it again, or accept the file with "
            fault += "read_image(..., truncated='accept') or liqe score --truncated allow"
            if "unknown raw mode" in str(error):
                fault = (
                    f"unsupported pixel layout ({error}); save the image in another format, for example PNG"
                )
            raise ImageError(f"{name}: {fault}") from error


def refuse_other_arrays(pixels: np.ndarray, name: str = "the image") -> None:
    """Check that an array is an image: (H, W, 3) uint8 and not empty.

    Raises:
        TypeError: for another shape or dtype.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise TypeError(
            f"{name} is a {pixels.dtype} array of shape {pixels.shape}: give an RGB array (H, W, 3) of uint8 "
            "or a tensor (N, 3, H, W) of floats in [0, 1]"
        )


def is_url(source: object) -> bool:
    """Return whether `read_image` treats the source as a URL."""
    return isinstance(source, str) and source[:8].lower().startswith(("http://", "https://"))


def _opened(source: Source) -> tuple[str, Image.Image]:
    """Return the name of an image and the image with its header read; the pixels are not decoded."""
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "the image given as a Pillow image"), source
    file: Path | io.BytesIO
    if isinstance(source, (bytes, bytearray)):
        name, file = "the image given as bytes", io.BytesIO(source)
    elif isinstance(source, str) and not source:
        raise ImageError("the path is empty; give the path of an image")
    elif isinstance(source, str) and "://" in source and not is_url(source):
        raise ImageError(f"{source}: only http and https are supported; download the file and give its path")
    elif is_url(source):
        try:
            name, file = str(source), io.BytesIO(transfers.fetch_bytes(str(source), MAX_BYTES))
        except transfers.FetchError as error:
            raise ImageError(str(error)) from None
    else:
        name, file = str(source), Path(source)  # type: ignore[arg-type]
        _refuse_no_file(file)
    _plug_ins()
    try:
        with _pillow_setting(Image, "MAX_IMAGE_PIXELS", None):  # `max_pixels` is checked instead
            image = Image.open(file)
    except UnidentifiedImageError:
        raise ImageError(f"{name}: {_no_image(file)}") from None
    except Exception as error:  # Pillow's readers raise many types on a damaged header
        raise ImageError(f"{name}: cannot be read ({error}); copy or download it again") from error
    if image.format in NO_PHOTOGRAPHS:  # under any suffix; Pillow would run an EPS file in Ghostscript
        image.close()
        raise ImageError(f"{name}: {image.format} is not a format of photographs; save the image as PNG")
    return name, image


def _refuse_no_file(path: Path) -> None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ImageNotFoundError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # the name is too long, or the folder may not be entered
        raise ImageError(f"{path}: cannot be read ({error}); check the path") from None
    if not stat.S_ISREG(status.st_mode):  # reading a pipe could block forever
        raise ImageError(f"{path}: a folder, pipe or device, not a regular file; give an image file")


def _no_image(file: Path | io.BytesIO) -> str:
    if isinstance(file, Path):
        suffix = file.suffix.lower()
        with file.open("rb") as opened:
            start = opened.read(512)
    else:
        suffix, start = "", file.getvalue()[:512]
    if not start:
        return "empty file; copy or download it again"
    if mistake := files.mistaken(start):
        return f"not an image but {mistake}"
    if suffix in HEIF_SUFFIXES and suffix not in suffixes():
        return f"Pillow needs a plug-in for HEIF images; {HEIF_ADVICE}"
    return "not an image that Pillow can read; check the content of the file"


@functools.cache
def _plug_ins() -> None:
    """Register the optional plug-ins of Pillow."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


@functools.cache
def suffixes() -> frozenset[str]:
    """Return the lower-case suffixes of image files that Pillow and its registered plug-ins can read."""
    _plug_ins()
    known = Image.registered_extensions()
    return frozenset(s for s, kind in known.items() if kind in Image.OPEN and kind not in NO_PHOTOGRAPHS)


@dataclasses.dataclass
class Survey:
    """The content of a folder and its subfolders.

    Attributes:
        images: sorted paths of the images, relative to the folder, with ``/`` as separator.
        left_out: paths of everything else, in the same form, by the reason for leaving it out.
    """

    images: list[str] = dataclasses.field(default_factory=list)
    left_out: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def survey(folder: str | PathLike[str]) -> Survey:
    """List a folder and its subfolders by file name, without opening a file.

    Links to files and folders are followed. A folder with several paths is listed once: under its own path
    rather than a link. Circular links are therefore safe.
    """
    found, seen = Survey(), set[str]()

    def leave(path: str, reason: str) -> None:
        found.left_out.setdefault(reason, []).append(Path(path).relative_to(folder).as_posix())

    def refuse(error: OSError) -> None:
        if error.filename != str(folder):
            leave(error.filename, f"folders that cannot be read ({error.strerror})")
        elif not isinstance(error, FileNotFoundError):
            raise ImageError(f"{folder}: the folder cannot be read; check its permissions") from None

    starts = [str(folder)]
    for start in starts:  # links are appended in the loop, so that a folder's own path comes first
        for place, folders, names in os.walk(start, onerror=refuse):
            if (target := os.path.realpath(place)) in seen:
                leave(place, "links to folders that are already listed")
                folders.clear()
                continue
            seen.add(target)
            for path in [os.path.join(place, name) for name in (*folders, *names)]:
                if os.path.basename(path).startswith("."):
                    leave(path, "hidden")
                elif not os.path.isdir(path):
                    if reason := _why_not(Path(path)):
                        leave(path, reason)
                    else:
                        found.images.append(Path(path).relative_to(folder).as_posix())
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            starts += [path for name in folders if os.path.islink(path := os.path.join(place, name))]
    found.images.sort()
    for names in found.left_out.values():
        names.sort()
    return found


def _why_not(path: Path) -> str:
    """Return why a file does not count as an image; empty if it does."""
    suffix = path.suffix.lower()
    if suffix in suffixes():
        # A broken link counts: reading it reports the missing file.
        return "" if path.is_file() or not path.exists() else "pipes and devices"
    if suffix in HEIF_SUFFIXES:
        return f"images that need a plug-in: {HEIF_ADVICE}"
    return f"files of other types ({suffix})" if suffix else "files without a suffix"


def list_images(folder: str | PathLike[str]) -> list[str]:
    """Return the sorted relative paths of all images in a folder and its subfolders.

    Hidden files are excluded. The list is empty if the folder does not exist.
    """
    return survey(folder).images


def no_image_in(folder: str | PathLike[str]) -> ImageError:
    """Return the error for a folder without images."""
    return ImageError(f"{folder}: no images in this folder or its subfolders; check the path")


def images_in(folder: str | PathLike[str]) -> list[str]:
    """Return the images of a folder like `list_images`, but require at least one.

    Raises:
        NotADirectoryError: if the folder does not exist.
        ImageError: if it has no images.
    """
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: give the folder with the images")
    if not (found := list_images(folder)):
        raise no_image_in(folder)
    return found


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], readers: int | None = None, ahead: int = 0
) -> Generator[Result, None, None]:
    """Yield ``read(item)`` for each item in order, computed ahead in threads.

    Threads suffice, because Pillow, NumPy and file access release the interpreter lock. If the caller stops
    early, for example at an error, the items that are not started are not read.

    Args:
        readers: number of threads; default: one per core.
        ahead: number of items to read ahead; default: twice the number of threads.
    """
    readers, signals = readers or os.cpu_count() or 1, len(stopping.signalled)
    pool, remaining = ThreadPoolExecutor(readers), iter(items)
    waiting = deque(pool.submit(read, item) for item in islice(remaining, ahead or 2 * readers))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(read, item) for item in islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(wait=len(stopping.signalled) == signals, cancel_futures=True)


def _refuse_size(image: Image.Image, name: str, limit: int | None) -> None:
    width, height = image.size
    if not (width and height):
        raise ImageError(f"{name}: {width} x {height} pixels: the image is empty; leave it out")
    undecoded = isinstance(image, ImageFile.ImageFile)  # a decoded image already is in memory
    if undecoded and limit is not None and width * height > limit:
        raise ImageError(
            f"{name}: {width} x {height} pixels, more than the limit of {limit}; if you trust the file, "
            "shrink it, or read it with read_image(..., max_pixels=None) or liqe score --max-pixels none"
        )


_pillow_lock = threading.Lock()
_one_by_one = threading.Lock()


@contextlib.contextmanager
def _pillow_setting(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Change a global setting of Pillow within the block, under a lock."""
    with _pillow_lock:
        before = getattr(module, name)
        setattr(module, name, value)
        try:
            yield
        finally:
            setattr(module, name, before)


def _load(image: Image.Image, accept_truncated: bool) -> None:
    """Decode an image. Pillow's switch for truncated files is global, so it is changed only under a lock."""
    if not (accept_truncated or ImageFile.LOAD_TRUNCATED_IMAGES):
        image.load()
        return
    with _pillow_setting(ImageFile, "LOAD_TRUNCATED_IMAGES", accept_truncated):
        image.load()
