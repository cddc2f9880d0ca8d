"""Scoring from files, side by side in one process: this package, and pyiqa's port where it is installed."""

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
    """Seconds an image in an evaluation: 15 crops, the text embedded already."""
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
    """Seconds an image from the file to the score, decoding included, and how far the scores are apart.

    All have the same random weights and the windows of pyiqa, which never shrinks an image. Each is repeated
    for so many `seconds`; the best counts.

    Args:
        files: images, both sides at least a window.
        architecture: pyiqa takes part where it is installed and this is ``ViT-B-32-quickgelu``.

    Returns:
        A row a way (``float32``, ``bfloat16`` where the model takes it, ``pyiqa``): ``way, seconds,
        images_a_second``, ``times`` (throughput over pyiqa's, or without it over float32's) and ``apart``,
        the largest difference in quality (scale 1 to 5) from float32.
    """
    torch.manual_seed(0)
    model = LIQE.from_clip(architecture, None)
    model.geometry = CropGeometry.named("pyiqa", window=model.geometry.window)
    with torch.no_grad():  # random weights give every prompt the same logit, and all images one quality
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
    qualities = {way: run() for way, run in ways.items()}  # and everything that is done once
    best = pd.Series({way: min(timed(run, seconds)) for way, run in ways.items()}) / len(files)
    table = pd.DataFrame({"seconds": best, "images_a_second": 1 / best})
    table["times"] = best["pyiqa" if "pyiqa" in ways else "float32"] / best
    table["apart"] = [float(np.abs(qualities[way] - qualities["float32"]).max()) for way in ways]
    return table.rename_axis("way").reset_index()


def pyiqa_port(model: LIQE) -> Callable[[str], torch.Tensor] | None:
    """The port with a model's weights; None where it is not installed."""
    try:
        import pyiqa
        from pyiqa.archs import clip_model, liqe_arch
    except ImportError:
        return None
    state = model.clip.state_dict()

    def load(*_: object) -> torch.nn.Module:
        port = clip_model.build_model(dict(state)).float()
        port.load_state_dict(state, strict=False)  # it has rounded them to half precision
        return port

    # It would fetch CLIP's weights, and keep the text's embedding from another time in the user's cache; and
    # it would keep what a gradient of the text needs, 10 GB.
    with (
        torch.no_grad(),
        TemporaryDirectory() as cache,
        mock.patch.multiple(liqe_arch, load=load, DEFAULT_CACHE_DIR=cache),
    ):
        return pyiqa.create_metric("liqe", device="cpu", pretrained=False, mtl=True)
