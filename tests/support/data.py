"""What the tests of the data part share: the real samples where they are, and small stand-ins."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from liqe_core.data.manifests import Manifest, load_manifest, manifest_dir
from liqe_core.files import CHECKOUT

SHARED = Path(os.environ.get("LIQE_SHARED") or CHECKOUT.parent / "shared")
MIRROR = SHARED / "upstream" / "LIQE"
SAMPLES = SHARED / "samples"

needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason=f"the public label files are not at {MIRROR}")
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"the sample images are not at {SAMPLES}")


def kept_answers() -> pd.DataFrame:
    """The predictions of the shipped ``liqe-tiny`` for all test images of the open benchmark."""
    path = manifest_dir() / "open" / "liqe-tiny.csv"
    return pd.read_csv(path, dtype={"image": str}, low_memory=False)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder, by their names below it."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, which may not be there."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def write_image(path: Path, width=64, height=48, seed=0, **options) -> Path:
    """A small image of smooth noise, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, **options)
    return path


def own_set(folder: Path, count=6, width=64, height=48, suffix=".png", **fields):
    """A user's dataset of `count` images with scores 1, 2, 3, ...: its manifest, loaded."""
    names = [f"p{i:03}{suffix}" for i in range(count)]
    for i, name in enumerate(names):
        write_image(folder / "photographs" / name, width, height, seed=i)
    (folder / "photographs" / "scores.csv").write_text(
        "file_name,opinion\n" + "".join(f"{name},{i + 1}\n" for i, name in enumerate(names))
    )
    manifest = {
        "title": "My holiday images",
        "folder": "photographs",
        "labels": "{form: csv, file: scores.csv, image: file_name}",
        "score": f"{{column: opinion, range: [1, {max(count, 2)}]}}",
    } | fields
    path = folder / "holiday.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in manifest.items()))
    return load_manifest(path)


def distorted_set(folder: Path, photographs=3, scored=6, best=2) -> Manifest:
    """Make a generated dataset: its manifest, its photographs, and a small BIQ2021 in the same folder.

    The images p00, p01, ... of BIQ2021 have rising scores; the last one is a test image.
    """
    for i in range(photographs):
        write_image(folder / "made" / "photographs" / f"part/{i}.png", 72, 64, seed=i)
    biq = folder / "BIQ2021"
    for i in range(scored):
        write_image(biq / "Images" / f"p{i:02}.jpg", 64, 72, seed=100 + i)
    rows = [f"p{i:02}.jpg,{i / 10}\n" for i in range(scored)]
    (biq / "Train (Images and MOS).csv").write_text("Image Name,MOS\n" + "".join(rows[:-1]))
    (biq / "Test (Images and MOS).csv").write_text("Image Name,MOS\n" + rows[-1])
    path = folder / "made.yaml"
    path.write_text(
        "title: Photographs distorted here\n"
        "folder: made\n"
        "image_folders: images\n"
        f"labels: {{form: distorted, photographs: photographs, best_of: biq2021, best: {best}}}\n"
        "score: {column: opinions, range: [1, 5]}\n"
    )
    return load_manifest(path)
