"""The built-in ``mini`` dataset: distorted versions of photographs from installed packages.

    >>> root, labels = build()      # a minute on two cores the first time, a second after that

The dataset replaces the real datasets in demos and tests, so that everything runs without a download. Each
photograph gets KADID-10k's 25 distortions at 5 levels; the score is the mean opinion score of KADID-10k's 81
references for that distortion and level. No person has scored these images: results on ``mini`` show that
the code works and learns, but must not be compared with published numbers. The photographs and their scenes
are listed in ``data_manifests/mini.yaml``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import io
import itertools
import os
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from liqe_core.data import distortions
from liqe_core.data.manifests import load_manifest, own_manifests
from liqe_core.data.splits import SESSION_COLUMNS
from liqe_core.files import cache_dir, json_sha256, write_csv
from liqe_core.images import read_ahead
from liqe_core.intake.progress import tqdm

#: Increase it with every change that alters the pixels or labels of the same selection.
VERSION = 1
SEED = 2023

#: The views of a photograph: the whole photograph, downscaled, and its center at full resolution. Downscaling
#: sharpens, so a model that sees both views learns that a soft image is not necessarily blurred.
VIEWS = ("whole", "detail")


@dataclasses.dataclass(frozen=True)
class Selection:
    """The part of the dataset to build.

    Attributes:
        photographs: names from the manifest, at least three; default: all.
        levels, kinds: levels from 1..5 and distortions from 1..25 (or KADID-10k's names).
        size: width and height of every image; None: the size in the manifest.
        views: views of each photograph, from `VIEWS`; see `prepare`.
        varied: number of additional images per photograph, distortion and level, each from its own random
            view; see `vary`. They are only used for training: in a session that validates or tests on their
            photograph, they are in no part.
    """

    photographs: Sequence[str] = ()
    levels: Sequence[int] = distortions.LEVELS
    kinds: Sequence[int | str] = tuple(range(1, 26))
    size: tuple[int, int] | None = None
    views: Sequence[str] = VIEWS
    varied: int = 0

    def checked(self, manifest: Mapping) -> Selection:
        """Return a copy with all defaults filled in and distortions given by number.

        Raises:
            ValueError: an unknown name, kind, level or view, or too few photographs.
        """
        photographs = tuple(dict.fromkeys(self.photographs or manifest["photographs"]))
        if len(photographs) < 3:
            raise ValueError(f"train, val and test need a photograph each; name three, not {photographs}")
        kinds = tuple(distortions.find(kind).number for kind in self.kinds)
        for field, values, known in (
            ("photograph", photographs, manifest["photographs"]),
            ("distortion", kinds, distortions.DISTORTIONS),
            ("level", self.levels, distortions.LEVELS),
            ("view", self.views, VIEWS),
        ):
            if unknown := [value for value in values if value not in known]:
                raise ValueError(f"no {field} {unknown}; choose from {', '.join(map(str, known))}")
        size = tuple(self.size or manifest["size"])
        return dataclasses.replace(self, photographs=photographs, kinds=kinds, size=size)


def build(
    root: str | os.PathLike | None = None, selection: Selection | None = None, progress: bool = True
) -> tuple[Path, pd.DataFrame]:
    """Build the dataset, or its missing images, and return its folder and labels.

    The name of the folder is a hash of everything that determines its content, so it is never stale. Files
    are written atomically and ``labels.csv`` is written last: an interrupted build can be resumed, and
    concurrent builds are safe.

    Args:
        root: parent folder of the builds; default: ``mini`` in the cache folder.
        selection: the part to build; default: everything.

    Returns:
        The folder and a table with one row per image: ``dataset`` ("mini"), ``image`` (relative to the
        folder), ``mos`` (1..5), ``distortion`` (the word of the label files), ``distortion_group`` (one of
        the eleven), ``scenes`` (a tuple), ``reference`` (the photograph), ``session_1`` .. ``session_10``
        ("train", "val", "test", or empty; all images of a photograph are in the same part).

    A grey photograph does not get the four distortions that only affect color.

    Raises:
        ValueError: see `Selection.checked`.
        FileNotFoundError: a photograph is missing from its installed package.
    """
    manifest = read_manifest()
    selection = (selection or Selection()).checked(manifest)
    size = selection.size
    assert size, "checked"
    files = {name: photograph_bytes(name, manifest) for name in selection.photographs}
    libraries = [importlib.metadata.version(name) for name in ("numpy", "scipy", "scikit-image", "pillow")]
    sources = []
    for name, file in files.items():
        known = manifest["photographs"][name]
        sources.append([hashlib.sha256(file).hexdigest(), known["scenes"], known.get("only_train", False)])
    opinions = manifest["opinions"]["mean"]
    decides = [VERSION, SEED, dataclasses.asdict(selection), sources, opinions, libraries]
    folder = (Path(root) if root else cache_dir("mini")) / json_sha256(decides)[:16]
    (folder / "images").mkdir(parents=True, exist_ok=True)

    photographs = {name: _decode(file) for name, file in files.items()}
    grey = {name for name, image in photographs.items() if not np.ptp(np.asarray(image), axis=2).any()}
    plan = _plan(selection, manifest, grey)
    missing = plan[[not (folder / image).exists() for image in plan["image"]]]

    views = itertools.product(photographs, selection.views) if len(missing) else ()
    prepared = {(name, view): prepare(photographs[name], size, view) for name, view in views}

    def make(row) -> None:
        # A view of `VIEWS` uses the same seed for all distortions and levels.
        shared = (row.reference, row.view) in prepared
        seed = zlib.crc32(f"{SEED} {f'{row.reference} {row.view}' if shared else row.image}".encode())
        if shared:
            clean = prepared[row.reference, row.view]
        else:
            clean = vary(photographs[row.reference], size, np.random.default_rng(seed))
        distortions.write_distorted(folder / row.image, clean, row.kind, row.level, seed)

    made, hidden = read_ahead(make, missing.itertuples()), not (progress and len(missing))
    for _ in tqdm(made, "mini dataset", len(missing), unit="image", disable=hidden):
        pass
    labels = plan.drop(columns=["view", "kind", "level"])
    if len(missing) or not (folder / "labels.csv").exists():
        write_csv(folder / "labels.csv", labels.assign(scenes=labels["scenes"].str.join(";")))
    return folder, labels


def _plan(selection: Selection, manifest: Mapping, grey: Collection[str]) -> pd.DataFrame:
    """Return one row per image: its labels, and the `view`, `kind` and `level` that it is made with.

    Args:
        grey: photographs on which color distortions have no effect.
    """
    photographs, opinions = manifest["photographs"], manifest["opinions"]["mean"]
    only_train = [name for name in selection.photographs if photographs[name].get("only_train")]
    sides = split(selection.photographs, only_train).to_dict("index")
    views = [*selection.views, *(f"varied-{i}" for i in range(1, selection.varied + 1))]
    rows = []
    for name, view in itertools.product(selection.photographs, views):
        stem = name if view == "whole" else f"{name}-{view}"
        parts = sides[name].items()
        sessions = {column: part if view in VIEWS or part == "train" else None for column, part in parts}
        for kind, level in itertools.product(selection.kinds, selection.levels):
            distortion = distortions.find(kind)
            if distortion.needs_color and name in grey:
                continue
            row: dict[str, object] = {"dataset": "mini", "image": f"images/{stem}_{kind:02d}_{level:02d}.png"}
            row |= {"mos": float(opinions[kind][level - 1]), "distortion": distortion.label}
            row |= {"distortion_group": distortion.group, "scenes": tuple(photographs[name]["scenes"])}
            rows.append(row | {"reference": name} | sessions | {"view": view, "kind": kind, "level": level})
    return pd.DataFrame(rows)


def split(names: Iterable[str], only_train: Iterable[str] = ()) -> pd.DataFrame:
    """Split photographs 70/10/20 ten times: one row per name, one column per session, no empty part.

    only_train: names that are in the training part of every session: close-ups of textures, which add
        variety to training but are not typical photographs to test on.
    """
    names, only_train = sorted(names), set(only_train)
    n_val, n_test = (max(1, round(part * len(names))) for part in (0.1, 0.2))
    drawn = [name for name in names if name not in only_train]
    sides = np.array(["val"] * n_val + ["test"] * n_test + ["train"] * (len(drawn) - n_val - n_test))
    columns = {
        s: np.random.default_rng((SEED, i)).permutation(sides) for i, s in enumerate(SESSION_COLUMNS, 1)
    }
    return pd.DataFrame(columns, index=drawn).reindex(names, fill_value="train")


def read_manifest() -> Mapping:
    """Load and check ``mini.yaml`` of this project's manifests."""
    return load_manifest(own_manifests() / "mini.yaml").model_dump()


def photograph_bytes(name: str, manifest: Mapping) -> bytes:
    """Read the file of a photograph from its package, without importing the package.

    Raises:
        FileNotFoundError: the package is not installed, or the file is missing from it.
    """
    package, file = (manifest["photographs"][name][field] for field in ("package", "file"))
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.is_file():
        problem = f"photograph {name!r}: no file {file} in an installed package {package}"
        raise FileNotFoundError(f"{problem}; install the versions of constraints.txt, or leave it out")
    return path.read_bytes()


def open_photograph(name: str) -> Image.Image:
    """Open an undistorted photograph at full size as RGB.

    Raises:
        ValueError: the name is not in the manifest.
        FileNotFoundError: the photograph is missing from its package.
    """
    manifest = read_manifest()
    if name not in manifest["photographs"]:
        raise ValueError(f"no photograph {name!r}; choose from {', '.join(manifest['photographs'])}")
    return _decode(photograph_bytes(name, manifest))


def prepare(photograph: Image.Image, size: tuple[int, int], view: str = "whole") -> np.ndarray:
    """Return a view of an RGB photograph: (height, width, 3) uint8.

    ``whole``: the largest centered crop with the aspect ratio of `size`, resized with antialiasing.
    ``detail``: a center crop at full resolution; for a smaller photograph, the same as ``whole``.
    """
    scale = min(photograph.width / size[0], photograph.height / size[1])
    if view == "detail":
        scale = min(scale, 1)
    return _part(photograph, size, scale, (0.5, 0.5))


def vary(photograph: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a random view of an RGB photograph: (height, width, 3) uint8.

    The crop has a random scale between ``detail`` and ``whole`` of `prepare`, a random position and one of
    eight orientations. Tones are raised to a random power (the log of the exponent is normal with deviation
    0.3), and with probability 1/2 the color channels are permuted. With only two views of each of the few
    photographs, a model would memorize them.
    """
    if rng.random() < 0.5:
        photograph = photograph.transpose(Image.Transpose.ROTATE_90)
    largest = min(photograph.width / size[0], photograph.height / size[1])
    scale = largest ** rng.random() if largest > 1 else largest  # log-uniform between 1 and `largest`
    view = _part(photograph, size, scale, rng.random(2))
    view = view[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    if rng.random() < 0.5:
        view = view[..., rng.permutation(3)]
    exponent = np.exp(rng.normal(0, 0.3))
    return np.round(255 * (view / 255) ** exponent).astype(np.uint8)


def _part(
    photograph: Image.Image, size: tuple[int, int], scale: float, place: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Return the crop of `scale` times `size`, resized to `size`; place: its relative (x, y) position."""
    width, height = size[0] * scale, size[1] * scale
    x, y = (photograph.width - width) * place[0], (photograph.height - height) * place[1]
    box = (x, y, x + width, y + height)
    return np.asarray(photograph.resize(size, Image.Resampling.LANCZOS, box=box))


def _decode(file: bytes) -> Image.Image:
    with Image.open(io.BytesIO(file)) as image:
        return image.convert("RGB")
