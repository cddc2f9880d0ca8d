"""What the tests of the data part share: the real samples where they are, and small stand-ins."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liqe_core.data.manifests import load_manifest
from liqe_core.files import CHECKOUT

SHARED = Path(os.environ.get("LIQE_SHARED") or CHECKOUT.parent / "shared")
MIRROR = SHARED / "upstream" / "LIQE"
SAMPLES = SHARED / "samples"

needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason=f"the public label files are not at {MIRROR}")
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"the sample pictures are not at {SAMPLES}")


def write_picture(path: Path, width=64, height=48, seed=0, **options) -> Path:
    """A small picture of smooth noise, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, **options)
    return path


def own_set(folder: Path, count=6, width=64, height=48, suffix=".png", **fields):
    """A user's data set of `count` pictures with scores 1, 2, 3, ...: its manifest, loaded."""
    names = [f"p{i:03}{suffix}" for i in range(count)]
    for i, name in enumerate(names):
        write_picture(folder / "photographs" / name, width, height, seed=i)
    (folder / "photographs" / "scores.csv").write_text(
        "file_name,opinion\n" + "".join(f"{name},{i + 1}\n" for i, name in enumerate(names))
    )
    manifest = {
        "title": "My holiday pictures",
        "folder": "photographs",
        "labels": "{form: csv, file: scores.csv, image: file_name}",
        "score": f"{{column: opinion, range: [1, {max(count, 2)}]}}",
    } | fields
    path = folder / "holiday.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in manifest.items()))
    return load_manifest(path)
