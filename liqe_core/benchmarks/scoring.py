"""Benchmark of scoring from files in one process: this package, and pyiqa's port if it is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pandas as pd
import torch

from liqe_core import towers
from liqe_core.benchmarks.steps import timed
from liqe_core.crops import CropGeometry
from liqe_core.evaluation.distributed import torch_device
from liqe_core.model import LIQE
from liqe_core.training.precision import Precision


def scoring_seconds(architecture: str = "ViT-B-32-quickgelu", precision: str = "float32") -> float:
    """Measure the seconds per image of an evaluation: 15 crops, with text embeddings computed in advance."""
    device = torch_device("auto")
    model = LIQE.from_clip(architecture, None, device=device)
    window = model.geometry.window
    crops = torch.randint(256, (4, 15, 3, window, window), dtype=torch.uint8)
    with torch.no_grad(), Precision(precision, device).autocast():
        text = model.text()
        return float(np.median(timed(lambda: model.joint_of(list(crops), text)))) / len(crops)


def side_by_side(
    files: Sequence[Path], architecture: str = "ViT-B-32-quickgelu", seconds: float = 2.0
) -> pd.DataFrame:
    """Measure the seconds per image from file to score, with decoding, and the differences of the scores.

    All methods have the same random weights and the windows of pyiqa, which never shrinks an image. Each
    method is repeated for `seconds`; the best time counts.

    Args:
        files: images whose sides are at least as long as a window.
        architecture: pyiqa is measured if it is installed and this is ``ViT-B-32-quickgelu``.

    Returns:
        A row for each method (``float32``, ``bfloat16`` if the model supports it, ``pyiqa``): ``way, seconds,
        images_a_second``, ``times`` (throughput relative to pyiqa, or to float32 without pyiqa) and
        ``apart``, the largest difference in quality (scale 1 to 5) from float32.
    """
    torch.manual_seed(0)
    model = LIQE.from_clip(architecture, None)
    model.geometry = CropGeometry.named("pyiqa", window=model.geometry.window)
    with torch.no_grad():  # random weights give all prompts one logit, and all images one quality
        model.clip.logit_scale.fill_(float(np.log(100)))

    def quality(precision: str) -> np.ndarray:
        return np.asarray(model.score(files, precision=precision).quality)

    ways: dict[str, Callable[[], np.ndarray]] = {
        precision: partial(quality, precision) for precision in ("float32", "bfloat16")
    }
    if towers.needs_float32(model.clip.visual):
        del ways["bfloat16"]
    if architecture == "ViT-B-32-quickgelu" and (port := pyiqa_port(model)) is not None:
        ways["pyiqa"] = lambda: np.array([float(port(str(file))) for file in files])
    qualities = {way: run() for way, run in ways.items()}  # also the warm-up
    best = pd.Series({way: min(timed(run, seconds)) for way, run in ways.items()}) / len(files)
    table = pd.DataFrame({"seconds": best, "images_a_second": 1 / best})
    table["times"] = best["pyiqa" if "pyiqa" in ways else "float32"] / best
    table["apart"] = [float(np.abs(qualities[way] - qualities["float32"]).max()) for way in ways]
    return table.rename_axis("way").reset_index()


def pyiqa_port(model: LIQE) -> Callable[[str], torch.Tensor] | None:
    """Return pyiqa's port with a model's weights; None if pyiqa is not installed."""
    try:
        import pyiqa
        from pyiqa.archs import clip_model, liqe_arch
    except ImportError:
        return None
    state = model.clip.state_dict()

    def load(*_: object) -> torch.nn.Module:
        port = clip_model.build_model(dict(state)).float()
        port.load_state_dict(state, strict=False)  # build_model has rounded the weights to half precision
        return port

    # Without these patches, the port would download CLIP's weights and use a text embedding from the user's
    # cache; without no_grad it would keep 10 GB for the gradient of the text.
    with (
        torch.no_grad(),
        TemporaryDirectory() as cache,
        mock.patch.multiple(liqe_arch, load=load, DEFAULT_CACHE_DIR=cache),
    ):
        return pyiqa.create_metric("liqe", device="cpu", pretrained=False, mtl=True)
