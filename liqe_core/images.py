"""Reading images: what comes out is 8-bit RGB, and what cannot be read is refused by name.

The public code accepts files that are cut short and turns 16-bit images white. Here both are options, for
those who want the very same numbers.
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

#: Pillow warns of a possible decompression bomb above this many pixels (89 million); we refuse there.
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3

#: Bytes that are fetched from a URL at most.
MAX_BYTES = 100_000_000

#: What `read_image` reads. An array is (H, W, 3) uint8; a text that begins with http:// or https://, a URL.
Source = str | PathLike[str] | bytes | np.ndarray | Image.Image

#: Formats that Pillow opens and that hold no photograph: documents, films, measurements.
NO_PHOTOGRAPHS = ("BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "PDF", "WMF")

#: What telephones save; Pillow reads it with the optional package pillow-heif.
HEIF_SUFFIXES = (".heic", ".heif", ".hif", ".heics", ".heifs")
HEIF_ADVICE = "pip install pillow-heif, or save them as JPEG or PNG"

#: What the options of `read_image` may be.
OPTIONS = {
    "truncated": ("refuse", "accept"),
    "sixteen_bit": ("scale", "clip"),
    "orientation": ("ignore", "apply"),
    "icc": ("ignore", "srgb"),
}

Item = TypeVar("Item")
Result = TypeVar("Result")


class ImageError(ValueError):
    """An image that cannot be read or scored; the message names the file and says what to do."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """No file at that path."""


def read_image(
    source: Source,
    *,
    max_pixels: int | None = MAX_PIXELS,
    truncated: str = "refuse",
    sixteen_bit: str = "scale",
    orientation: str = "ignore",
    icc: str = "ignore",
) -> Image.Image:
    """An image, from wherever it is, as 8-bit RGB, with nothing passed over in silence.

    Grey, palette and CMYK images are converted by Pillow and an alpha channel is dropped, as in the public
    code; levels of more than 8 bits are scaled, or refused where nothing says what is white (see `levels`).

    Args:
        source: a path, a URL (http or https, `MAX_BYTES` at most), what a file holds as bytes, a Pillow
            image, or (H, W, 3) uint8 levels of red, green and blue.
        max_pixels: refuse an image with more pixels before decoding it; None: no limit. What is decoded in
            memory already passes.
        truncated: ``refuse`` a file that is cut short, or ``accept`` it with the missing part grey, as the
            public code does.
        sixteen_bit: ``scale`` levels of more than 8 bits to 8, or ``clip`` them at 255 as the public code
            does (which turns nearly every such image white, or black).
        orientation: ``ignore`` the tag that a camera writes when it is held upright, as the public code does,
            or ``apply`` it. Pillow itself applies it to TIFF, and pillow-heif to HEIC.
        icc: ``ignore`` the colour profile, as the public code does, or convert to ``srgb`` by it.

    Returns:
        A loaded image of mode RGB.

    Raises:
        ImageNotFoundError: no such file.
        ImageError: a folder, an empty file, no image, cut short, too many pixels, levels without a white;
            a URL that nothing comes from.
        TypeError: an array of another shape or type.
    """
    chosen = {"truncated": truncated, "sixteen_bit": sixteen_bit, "orientation": orientation, "icc": icc}
    for option, value in chosen.items():
        if value not in OPTIONS[option]:
            raise ValueError(f"{option} is {value!r}: choose {' or '.join(OPTIONS[option])}")
    if isinstance(source, np.ndarray):
        refuse_other_arrays(source)
        return Image.fromarray(source)
    name, image = _opened(source)
    # The caller's own stays open; loaded by two threads at once it would come out as a mix, or not at all.
    with _one_by_one if image is source else image:
        _refuse_size(image, name, max_pixels)
        try:
            stored = levels.stored(image)
            _load(image, accept_truncated=truncated == "accept")
            # After decoding: where Pillow has applied the tag itself, it is gone by now.
            upright = ImageOps.exif_transpose(image) if orientation == "apply" else image
            convert = levels.as_srgb if icc == "srgb" else levels.as_rgb
            return convert(upright, stored, sixteen_bit)
        except levels.LevelError as error:
            raise ImageError(f"{name}: {error}") from None
        except Exception as error:
            fault = f"damaged or cut short ({error}); copy or download it again, or score what is there with "
            fault += "read_image(..., truncated='accept'), liqe score --truncated allow"
            if "unknown raw mode" in str(error):
                fault = (
                    f"its levels are laid out in a way that is not read ({error}); save it again, as PNG say"
                )
            raise ImageError(f"{name}: {fault}") from error


def refuse_other_arrays(pixels: np.ndarray, name: str = "the image") -> None:
    """An array is taken for an image when it has (H, W, 3) uint8 levels, and none else is.

    Raises:
        TypeError: another shape or type; says which, and what to do.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise TypeError(
            f"{name} is an array of {pixels.dtype} {pixels.shape}: give (H, W, 3) uint8, red first; or a "
            "tensor (N, 3, H, W) of floats in [0, 1]"
        )


def is_url(source: object) -> bool:
    """Whether it is a text that `read_image` takes for a URL."""
    return isinstance(source, str) and source[:8].lower().startswith(("http://", "https://"))


def _opened(source: Source) -> tuple[str, Image.Image]:
    """What an image is called, and its header read: its pixels are not decoded yet."""
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "the image given as a Pillow image"), source
    file: Path | io.BytesIO
    if isinstance(source, (bytes, bytearray)):
        name, file = "the image given as bytes", io.BytesIO(source)
    elif isinstance(source, str) and not source:
        raise ImageError("an empty path; give that of an image")
    elif isinstance(source, str) and "://" in source and not is_url(source):
        raise ImageError(f"{source}: only http and https are fetched; fetch it yourself, or give its path")
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
        with _pillow_setting(Image, "MAX_IMAGE_PIXELS", None):  # so that `max_pixels` decides
            image = Image.open(file)
    except UnidentifiedImageError:
        raise ImageError(f"{name}: {_no_image(file)}") from None
    except Exception as error:  # Pillow's readers let through whatever a damaged header makes them raise
        raise ImageError(f"{name}: cannot be read ({error}); copy or download it again") from error
    if image.format in NO_PHOTOGRAPHS:  # also under another suffix; Pillow has Ghostscript run an EPS
        image.close()
        raise ImageError(f"{name}: {image.format}, which holds no photograph; save what it shows as PNG")
    return name, image


def _refuse_no_file(path: Path) -> None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ImageNotFoundError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # a name that is too long, a folder that may not be entered
        raise ImageError(f"{path}: cannot be read ({error}); check the path") from None
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
        raise ImageError(f"{path}: a folder, a pipe or a device, not a file; give image files")


def _no_image(file: Path | io.BytesIO) -> str:
    if isinstance(file, Path):
        suffix = file.suffix.lower()
        with file.open("rb") as opened:
            start = opened.read(512)
    else:
        suffix, start = "", file.getvalue()[:512]
    if not start:
        return "empty; copy, fetch or read it again"
    if mistake := files.mistaken(start):
        return f"no image but {mistake}"
    if suffix in HEIF_SUFFIXES and suffix not in suffixes():
        return f"not an image that Pillow can read by itself; {HEIF_ADVICE}"
    return "not an image that Pillow can read; check what the file holds"


@functools.cache
def _plug_ins() -> None:
    """Let Pillow read what optional packages can."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of files that count as images: what Pillow, with the plug-ins that are
    registered, has a reader for."""
    _plug_ins()
    known = Image.registered_extensions()
    return frozenset(s for s, kind in known.items() if kind in Image.OPEN and kind not in NO_PHOTOGRAPHS)


@dataclasses.dataclass
class Survey:
    """What there is in a folder and below it.

    Attributes:
        images: their paths relative to it, with ``/`` between, sorted.
        left_out: what else there is, likewise, by the reason why it does not count.
    """

    images: list[str] = dataclasses.field(default_factory=list)
    left_out: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def survey(folder: str | PathLike[str]) -> Survey:
    """Look through a folder and all below it, by name, without opening a file.

    Links to files and to folders are followed. A folder that several paths lead to is looked at once, by its
    own path before any link to it, so links that lead round in circles end.
    """
    found, seen = Survey(), set[str]()

    def leave(path: str, reason: str) -> None:
        found.left_out.setdefault(reason, []).append(Path(path).relative_to(folder).as_posix())

    def refuse(error: OSError) -> None:
        if error.filename != str(folder):
            leave(error.filename, f"folders that cannot be looked into ({error.strerror})")
        elif not isinstance(error, FileNotFoundError):
            raise ImageError(f"{folder}: not a folder that can be read; name the one of images") from None

    starts = [str(folder)]
    for start in starts:  # links are added on the way, so that a folder's own path comes first
        for place, folders, names in os.walk(start, onerror=refuse):
            if (target := os.path.realpath(place)) in seen:
                leave(place, "links to folders that are looked at already")
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
    """Why a file does not count as an image; empty where it does."""
    suffix = path.suffix.lower()
    if suffix in suffixes():
        # What a broken link names is missing, and told as that when it is to be read.
        return "" if path.is_file() or not path.exists() else "pipes and devices"
    if suffix in HEIF_SUFFIXES:
        return f"images that need a plug-in: {HEIF_ADVICE}"
    return f"files of another kind ({suffix})" if suffix else "files without a suffix"


def list_images(folder: str | PathLike[str]) -> list[str]:
    """Paths of all images in a folder and below it, relative to it, with ``/`` between, sorted; no hidden
    ones. Empty where there is no such folder."""
    return survey(folder).images


def no_image_in(folder: str | PathLike[str]) -> ImageError:
    """What to say of a folder in which `survey` found no image."""
    return ImageError(f"{folder}: no image in this folder, nor in those below it")


def images_in(folder: str | PathLike[str]) -> list[str]:
    """As `list_images`, of a folder that is expected to hold some.

    Raises:
        NotADirectoryError: no such folder.
        ImageError: no image in it.
    """
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: name the one that holds the images")
    if not (found := list_images(folder)):
        raise no_image_in(folder)
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
        raise ImageError(f"{name}: {width} x {height} pixels: there is nothing on it; leave it out")
    undecoded = isinstance(image, ImageFile.ImageFile)  # an image in memory can do no more harm
    if undecoded and limit is not None and width * height > limit:
        raise ImageError(
            f"{name}: {width} x {height} pixels, over {limit}: possibly a decompression bomb; if you trust "
            "the file, shrink it first or read it with read_image(..., max_pixels=None), liqe score "
            "--max-pixels none"
        )


_pillow_lock = threading.Lock()
_one_by_one = threading.Lock()


@contextlib.contextmanager
def _pillow_setting(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """One of Pillow's global settings in the block, under a lock; afterwards as it was."""
    with _pillow_lock:
        before = getattr(module, name)
        setattr(module, name, value)
        try:
            yield
        finally:
            setattr(module, name, before)


def _load(image: Image.Image, accept_truncated: bool) -> None:
    """Decode; Pillow's switch for files cut short is global, so it is turned only under a lock."""
    if not (accept_truncated or ImageFile.LOAD_TRUNCATED_IMAGES):
        image.load()
        return
    with _pillow_setting(ImageFile, "LOAD_TRUNCATED_IMAGES", accept_truncated):
        image.load()
