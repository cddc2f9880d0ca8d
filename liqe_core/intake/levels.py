"""Pixel levels and colours: convert every pixel format to correct 8-bit RGB, or reject it.

Pillow returns levels of more than 8 bits unscaled, and its own conversion makes them black, white or
inverted. If a file does not define its white level, these rules apply: integers up to 255 are 8-bit levels,
integers up to 65535 are 16-bit levels, and fractions are in [0, 1]. Other levels are rejected.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re

import numpy as np
from PIL import Image, ImageCms

# Numbers of the TIFF tags that are read here.
_BITS, _PHOTOMETRIC, _PLANAR, _FORMAT = 258, 262, 284, 339
_NEW_SUBFILE, _DNG_VERSION = 254, 50706

#: Camera raw files that Pillow opens as TIFF. It returns their preview image.
RAW_SUFFIXES = (".3fr", ".arw", ".cr2", ".dng", ".erf", ".nef", ".nrw", ".orf", ".pef", ".rw2", ".srw")


class LevelError(ValueError):
    """Raised for levels or colours that no rule covers. The message describes them and says what to do."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """The storage format of levels that Pillow returns unscaled.

    Attributes:
        bits: number of bits per level; None: unknown.
        signed: whether levels can be negative.
        inverted: whether 0 is white and Pillow does not invert it.
    """

    bits: int | None = None
    signed: bool = False
    inverted: bool = False


def stored(image: Image.Image) -> Stored:
    """Return the storage format of an image's levels, and correct layouts that Pillow would decode wrongly.

    Call it before the image is decoded, because Pillow then discards the layout of the file.

    Raises:
        LevelError: if the image is a preview, is already decoded wrongly, or has an unsupported layout.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        # Pillow scales the levels of a PPM to 16 bits. Older versions use mode "I" for a 16-bit PNG, too.
        form = getattr(image, "format", None)
        if form == "FITS" and image.mode != "L":
            raise LevelError("the scaling of FITS levels is not supported; save the image as PNG")
        return Stored(16 if image.mode.startswith("I;16") or form in ("PPM", "PNG") else None)
    suffix = os.path.splitext(getattr(image, "filename", "") or "")[1].lower()
    if int(tags.get(_NEW_SUBFILE) or 0) & 1 or _DNG_VERSION in tags or suffix in RAW_SUFFIXES:
        raise LevelError(
            "the first image is a preview, as in a camera raw file; export it as TIFF with a raw converter"
        )
    bits, layout = int((tags.get(_BITS) or (1,))[0]), getattr(image, "tile", None) or []
    if bits == 16 and tags.get(_PLANAR) == 2 and image.mode in ("RGB", "RGBA", "CMYK"):
        _mend_planes(image, layout)
    if layout and layout[0].codec_name == "libtiff":
        _mend_order(image, layout)
        layout = image.tile  # type: ignore[attr-defined]
    raw = str(layout[0][3][0]) if layout and isinstance(layout[0][3], tuple) else ""
    # The raw modes with which Pillow inverts levels have an I after the semicolon: "L;I", "L;4IR".
    inverts = "I" in raw.partition(";")[2]
    white_is_zero = tags.get(_PHOTOMETRIC) == 0
    return Stored(bits, int((tags.get(_FORMAT) or (1,))[0]) == 2, white_is_zero and not inverts)


def _mend_planes(image: Image.Image, layout: list) -> None:  # type: ignore[type-arg]
    """Correct the layout of uncompressed 16-bit planes, which Pillow would read as 8-bit levels."""
    if not layout and image.info.get("compression") == "raw":
        raise LevelError("16-bit planes were decoded as 8-bit levels; give the path of the file instead")
    order = ";16L" if image.tag_v2.prefix == b"II" else ";16B"  # type: ignore[attr-defined]
    image.tile = [  # type: ignore[attr-defined]
        part._replace(args=(part.args[0] + order, *part.args[1:]))
        if part.codec_name == "raw" and len(part.args[0]) == 1
        else part
        for part in layout
    ]


def _mend_order(image: Image.Image, layout: list) -> None:  # type: ignore[type-arg]
    """Correct the byte order of compressed big-endian levels.

    libtiff swaps the bytes, and Pillow would swap them back.
    """

    def native(raw: str) -> str:
        return re.sub(r";(32|64)B|;(16)B(?=S)", lambda match: f";{match[1] or match[2]}N", raw)

    image.tile = [  # type: ignore[attr-defined]
        part._replace(args=(native(part.args[0]), *part.args[1:])) for part in layout
    ]


def as_rgb(image: Image.Image, storage: Stored, sixteen_bit: str = "scale") -> Image.Image:
    """Convert a decoded image to 8-bit RGB. An alpha channel is dropped; Pillow converts other modes.

    Args:
        storage: the result of `stored` before decoding.
        sixteen_bit: ``scale`` levels of more than 8 bits, or ``clip`` them at 255 like Pillow.

    Raises:
        LevelError: if the white level is unknown, or levels are negative, NaN or infinite.
    """
    if storage.signed and storage.bits == 8 and sixteen_bit == "scale":
        raise LevelError("the white level of signed 8-bit levels is unknown; save the image unsigned")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        levels = levels.clip(0, 255) if sixteen_bit == "clip" else _whole(levels, storage)
        image = Image.fromarray(levels.astype(np.uint8))
    elif image.mode == "F" and sixteen_bit == "scale":
        image = Image.fromarray(_fractions(np.asarray(image), storage))
    elif image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the same colours, but without a warning of Pillow
    elif image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())  # undoes the multiplication of colours by alpha
    elif image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # None is only returned for an in-place conversion
        image = converted
    return image.convert("RGB")


def _whole(levels: np.ndarray, storage: Stored) -> np.ndarray:
    """Scale int64 levels to [0, 255]."""
    if storage.bits == 32 and not storage.signed:
        levels = levels & 0xFFFFFFFF  # Pillow stores them as signed 32-bit integers
    if storage.inverted and storage.bits:
        levels = 2**storage.bits - 1 - levels
    low, high = int(levels.min(initial=0)), int(levels.max(initial=0))
    if low < 0:
        raise LevelError(f"the lowest level is {low}; save the image with levels from 0, in 8 or 16 bits")
    if storage.bits is not None and storage.bits < 32 and not storage.signed:
        white = 2**storage.bits - 1
    elif high <= 255:
        white = 255
    elif high <= 65535 and not (storage.signed and storage.bits == 16):
        white = 65535
    elif high >= 2**24 and storage.bits == 32 and not storage.signed:
        white = 2**32 - 1  # images with lower levels would be completely black
    else:
        raise LevelError(f"levels up to {high} with unknown white level; save the image in 8 or 16 bits")
    return (levels * 255 + white // 2) // white


def _fractions(levels: np.ndarray, storage: Stored) -> np.ndarray:
    """Scale floating-point levels to uint8."""
    if not np.isfinite(levels).all():
        raise LevelError("some levels are NaN or infinite; save the image in 8 or 16 bits")
    low, high = float(levels.min(initial=0)), float(levels.max(initial=0))
    if low < 0:
        raise LevelError(f"the lowest level is {low:g}; save the image with levels from 0, in 8 or 16 bits")
    if high <= 1:
        white = 1
    elif high <= 65535 and (levels == np.rint(levels)).all():
        white = 255 if high <= 255 else 65535
    else:
        raise LevelError(f"fractional levels up to {high:g} exceed 1; save the image in 8 or 16 bits")
    levels = levels.astype(np.float64)
    return np.floor((white - levels if storage.inverted else levels) * (255 / white) + 0.5).astype(np.uint8)


def as_srgb(image: Image.Image, storage: Stored, sixteen_bit: str = "scale") -> Image.Image:
    """Convert a decoded image to 8-bit sRGB by its ICC profile; without a profile, equal to `as_rgb`.

    Raises:
        LevelError: if the profile is damaged, or its colour space does not match the image.
    """
    embedded = image.info.get("icc_profile")
    if not embedded or image.mode == "LAB":  # LAB colours do not need a profile
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
            raise LevelError(f"the ICC profile is for {space}, not {image.mode}; ignore the profile")
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(source, profile, srgb, outputMode="RGB")
        assert converted is not None  # None is only returned for an in-place conversion
        return converted
    except (OSError, ImageCms.PyCMSError) as error:
        raise LevelError(f"the ICC profile cannot be used ({error}); ignore the profile") from None
