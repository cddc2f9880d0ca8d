"""Levels and colours: from whatever a file stores a pixel as to 8-bit RGB, rightly or not at all.

Pillow hands out levels of more than 8 bits as they lie in the file, and what its own conversion makes of
them is black, white or inverted. Where a file does not say what its white is, the rules are these: whole
numbers up to 255 are 8-bit levels, up to 65535 16-bit ones; fractions lie in [0, 1]. What fits no rule is
refused.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re

import numpy as np
from PIL import Image, ImageCms

# TIFF's own numbers for what is asked of it here.
_BITS, _PHOTOMETRIC, _PLANAR, _FORMAT = 258, 262, 284, 339
_NEW_SUBFILE, _DNG_VERSION = 254, 50706

#: Raw files of cameras that Pillow opens as TIFF, at their preview.
RAW_SUFFIXES = (".3fr", ".arw", ".cr2", ".dng", ".erf", ".nef", ".nrw", ".orf", ".pef", ".rw2", ".srw")


class LevelError(ValueError):
    """Levels or colours that no rule covers; says what they are and what to do."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """How a file stores the levels that Pillow hands out as they are.

    Attributes:
        bits: of a level; None: not known.
        signed: whether levels can be negative.
        inverted: whether 0 is white, and Pillow has left it so.
    """

    bits: int | None = None
    signed: bool = False
    inverted: bool = False


def stored(image: Image.Image) -> Stored:
    """How the levels of an image are stored. Call it before the image is decoded: what Pillow knows of the
    file's layout is gone afterwards, and a layout that it would decode wrongly is set right here.

    Raises:
        LevelError: it is a preview; it was decoded already, wrongly; or the layout is none that is known.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        # Pillow scales the levels of a PPM to 16 bits; older ones call the mode of a 16-bit PNG "I" as well.
        form = getattr(image, "format", None)
        if form == "FITS" and image.mode != "L":
            raise LevelError("levels of FITS are moved by its header, which is not read; save it as PNG")
        return Stored(16 if image.mode.startswith("I;16") or form in ("PPM", "PNG") else None)
    suffix = os.path.splitext(getattr(image, "filename", "") or "")[1].lower()
    if int(tags.get(_NEW_SUBFILE) or 0) & 1 or _DNG_VERSION in tags or suffix in RAW_SUFFIXES:
        raise LevelError("its first image is a preview, as in a camera's raw file; develop it to TIFF")
    bits, layout = int((tags.get(_BITS) or (1,))[0]), getattr(image, "tile", None) or []
    if bits == 16 and tags.get(_PLANAR) == 2 and image.mode in ("RGB", "RGBA", "CMYK"):
        _mend_planes(image, layout)
    if layout and layout[0].codec_name == "libtiff":
        _mend_order(image, layout)
        layout = image.tile  # type: ignore[attr-defined]
    raw = str(layout[0][3][0]) if layout and isinstance(layout[0][3], tuple) else ""
    # A raw mode of Pillow's that inverts ends in I, after the semicolon: "L;I", "L;4IR".
    inverts = "I" in raw.partition(";")[2]
    white_is_zero = tags.get(_PHOTOMETRIC) == 0
    return Stored(bits, int((tags.get(_FORMAT) or (1,))[0]) == 2, white_is_zero and not inverts)


def _mend_planes(image: Image.Image, layout: list) -> None:  # type: ignore[type-arg]
    """16-bit planes, one after another and not compressed: Pillow takes their bytes for 8-bit levels."""
    if not layout and image.info.get("compression") == "raw":
        raise LevelError("its 16-bit planes were decoded as 8-bit ones; give the file, not the image")
    order = ";16L" if image.tag_v2.prefix == b"II" else ";16B"  # type: ignore[attr-defined]
    image.tile = [  # type: ignore[attr-defined]
        part._replace(args=(part.args[0] + order, *part.args[1:]))
        if part.codec_name == "raw" and len(part.args[0]) == 1
        else part
        for part in layout
    ]


def _mend_order(image: Image.Image, layout: list) -> None:  # type: ignore[type-arg]
    """libtiff has swapped the bytes of compressed levels of a big-endian file, and Pillow swaps them back."""

    def native(raw: str) -> str:
        return re.sub(r";(32|64)B|;(16)B(?=S)", lambda match: f";{match[1] or match[2]}N", raw)

    image.tile = [  # type: ignore[attr-defined]
        part._replace(args=(native(part.args[0]), *part.args[1:])) for part in layout
    ]


def as_rgb(image: Image.Image, storage: Stored, sixteen_bit: str = "scale") -> Image.Image:
    """A decoded image as 8-bit RGB; alpha is dropped, everything else is converted by Pillow.

    Args:
        storage: what `stored` said before it was decoded.
        sixteen_bit: ``scale`` levels of more than 8 bits, or ``clip`` them at 255 as Pillow does.

    Raises:
        LevelError: it cannot be told which level is white, or there are negative ones, NaN or infinity.
    """
    if storage.signed and storage.bits == 8 and sixteen_bit == "scale":
        raise LevelError("its 8-bit levels are signed, which does not say what is white; save it unsigned")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        levels = levels.clip(0, 255) if sixteen_bit == "clip" else _whole(levels, storage)
        image = Image.fromarray(levels.astype(np.uint8))
    elif image.mode == "F" and sixteen_bit == "scale":
        image = Image.fromarray(_fractions(np.asarray(image), storage))
    elif image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the same colours, and Pillow does not warn on the way
    elif image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())  # colours that were multiplied by alpha
    elif image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # it is, when it works in place
        image = converted
    return image.convert("RGB")


def _whole(levels: np.ndarray, storage: Stored) -> np.ndarray:
    """int64 levels to [0, 255]."""
    if storage.bits == 32 and not storage.signed:
        levels = levels & 0xFFFFFFFF  # Pillow keeps them in 32 bits with a sign
    if storage.inverted and storage.bits:
        levels = 2**storage.bits - 1 - levels
    low, high = int(levels.min(initial=0)), int(levels.max(initial=0))
    if low < 0:
        raise LevelError(f"its levels go down to {low}; save it with levels from 0, in 8 or 16 bits")
    if storage.bits is not None and storage.bits < 32 and not storage.signed:
        white = 2**storage.bits - 1
    elif high <= 255:
        white = 255
    elif high <= 65535 and not (storage.signed and storage.bits == 16):
        white = 65535
    elif high >= 2**24 and storage.bits == 32 and not storage.signed:
        white = 2**32 - 1  # fainter ones would all be black
    else:
        raise LevelError(f"its levels reach {high}, nothing says what is white; save it in 8 or 16 bits")
    return (levels * 255 + white // 2) // white


def _fractions(levels: np.ndarray, storage: Stored) -> np.ndarray:
    """Floating-point levels to uint8."""
    if not np.isfinite(levels).all():
        raise LevelError("its levels are in part NaN or infinite; save it in 8 or 16 bits")
    low, high = float(levels.min(initial=0)), float(levels.max(initial=0))
    if low < 0:
        raise LevelError(f"its levels go down to {low:g}; save it with levels from 0, in 8 or 16 bits")
    if high <= 1:
        white = 1
    elif high <= 65535 and (levels == np.rint(levels)).all():
        white = 255 if high <= 255 else 65535
    else:
        raise LevelError(f"its levels reach {high:g}, fractions have white at 1; save it in 8 or 16 bits")
    levels = levels.astype(np.float64)
    return np.floor((white - levels if storage.inverted else levels) * (255 / white) + 0.5).astype(np.uint8)


def as_srgb(image: Image.Image, storage: Stored, sixteen_bit: str = "scale") -> Image.Image:
    """As `as_rgb`, with the colours that the image's ICC profile says; without a profile, the same.

    Raises:
        LevelError: the profile is damaged, or of another kind of colours than the image's.
    """
    embedded = image.info.get("icc_profile")
    if not embedded or image.mode == "LAB":  # which says by itself what its colours are
        return as_rgb(image, storage, sixteen_bit)
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        space = profile.profile.xcolor_space.strip()
        grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
        if space == "CMYK" and image.mode == "CMYK":
            source = image
        elif space == "GRAY" and grey:
            source = as_rgb(image, storage, sixteen_bit).convert("L")
        elif space == "RGB" and image.mode != "CMYK":
            source = as_rgb(image, storage, sixteen_bit)
        else:
            raise LevelError(f"its ICC profile is for {space}, its mode is {image.mode}; ignore the profile")
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(source, profile, srgb, outputMode="RGB")
        assert converted is not None  # it is, when it works in place
        return converted
    except (OSError, ImageCms.PyCMSError) as error:
        raise LevelError(f"its ICC profile cannot be used ({error}); ignore the profile") from None
