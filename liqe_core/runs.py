"""A run folder says by itself what it was: settings, data, versions, machine."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import open_clip
import pandas as pd
import torch

import liqe_core
from liqe_core.datasets import LabelledPictures
from liqe_core.profiles import Profile


def runs_dir(*parts: str) -> Path:
    """Where products of runs go: ``$LIQE_RUNS``, or ``runs/`` in the checkout, or a folder below it."""
    root = Path(os.environ.get("LIQE_RUNS") or Path(__file__).resolve().parents[1] / "runs")
    return root.joinpath(*parts)


def describe(settings: Profile, sets: Sequence[LabelledPictures]) -> dict:
    """What a run folder says about its run: settings, data, versions, machine."""
    return {
        "settings": settings.to_dict(),
        "data": {s.name: {"pictures": len(s), "labels_sha256": fingerprint(s.table)} for s in sets},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "open_clip": open_clip.__version__,
            "liqe_core": liqe_core.__version__,
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }


def fingerprint(table: pd.DataFrame) -> str:
    """Equal for equal label tables."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()
