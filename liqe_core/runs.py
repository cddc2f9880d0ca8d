"""A run folder says by itself what it was: settings, data, versions, machine; numbers as CSV."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path

import open_clip
import pandas as pd
import torch

import liqe_core
from liqe_core.datasets import LabelledPictures
from liqe_core.files import atomic_path
from liqe_core.profiles import Profile


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


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """A table, whole or not at all."""
    with atomic_path(path) as part:
        frame.to_csv(part, index=False)


def write_json(path: Path, content: dict) -> None:
    """A dictionary, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
