"""The photographs that come inside installed packages, and the views that are taken of them.

Which there are, and what they show, stands in ``data_manifests/mini.yaml``. They are there on a fresh machine
without a network.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from liqe_core.data.manifests import load_manifest
from liqe_core.files import CHECKOUT

#: What is made of a photograph: all of it, made smaller, and its middle as it is. Shrinking sharpens, so a
#: model that sees both learns that a soft picture need not be a blurred one.
VIEWS = ("whole", "detail")


def read_manifest() -> Mapping:
    """``data_manifests/mini.yaml`` of the checkout, checked."""
    return load_manifest(CHECKOUT / "data_manifests" / "mini.yaml").fields


def photograph_bytes(name: str, package: str, file: str, **_: object) -> bytes:
    """The file of a photograph as its package ships it; the package itself is not imported.

    Raises:
        FileNotFoundError: the package, or the file in it, is not there.
    """
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.is_file():
        what = (
            f"the installed package {package} has no file {file}" if spec else f"{package} is not installed"
        )
        raise FileNotFoundError(
            f"photograph {name!r}: {what}. Install the versions of constraints.txt, or leave it out."
        )
    return path.read_bytes()


def open_photograph(name: str) -> Image.Image:
    """One of the undistorted photographs, whole, as RGB.

    Raises:
        ValueError: a name that the manifest does not have.
        FileNotFoundError: the package does not carry it.
    """
    photographs = read_manifest()["photographs"]
    if name not in photographs:
        raise ValueError(f"no photograph {name!r}; the manifest has {', '.join(photographs)}")
    return opened_photograph(photograph_bytes(name, **photographs[name]))


def prepare(photograph: Image.Image, size: tuple[int, int], view: str = "whole") -> np.ndarray:
    """(height, width, 3) uint8: a view of an RGB photograph.

    ``whole``: the largest centred part of that shape, resized with antialiasing. ``detail``: the middle at
    full resolution, cut to the size; of a photograph that is smaller, the same as ``whole``.
    """
    scale = min(photograph.width / size[0], photograph.height / size[1])
    if view == "detail":
        scale = min(scale, 1)
    return _part(photograph, size, scale, (0.5, 0.5))


def vary(photograph: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(height, width, 3) uint8: a view of an RGB photograph that no other picture has.

    A part of any scale between `prepare`'s ``detail`` and ``whole`` and at any place, in any of the eight
    orientations; tones bent by a power (the exponent's logarithm is normal with deviation 0.3) and, every
    other time, the color channels in another order. A model that is shown each photograph in two views only
    learns the photographs by heart: a dozen of them have to stand for all contents.
    """
    if rng.random() < 0.5:
        photograph = photograph.transpose(Image.Transpose.ROTATE_90)
    largest = min(photograph.width / size[0], photograph.height / size[1])
    scale = largest ** rng.random() if largest > 1 else largest  # evenly between 1 and it, on a log scale
    view = _part(photograph, size, scale, rng.random(2))
    view = view[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    if rng.random() < 0.5:
        view = view[..., rng.permutation(3)]
    exponent = np.exp(rng.normal(0, 0.3))
    return np.round(255 * (view / 255) ** exponent).astype(np.uint8)


def _part(
    photograph: Image.Image, size: tuple[int, int], scale: float, place: Sequence[float] | np.ndarray
) -> np.ndarray:
    """The part `scale` times `size`, resized to it; place: how much of the rest is left of it, and above."""
    width, height = size[0] * scale, size[1] * scale
    left, top = (photograph.width - width) * place[0], (photograph.height - height) * place[1]
    box = (left, top, left + width, top + height)
    return np.asarray(photograph.resize(size, Image.Resampling.LANCZOS, box=box))


def opened_photograph(file: bytes) -> Image.Image:
    """The picture in a file, whole, as RGB."""
    with Image.open(io.BytesIO(file)) as opened:
        return opened.convert("RGB")
