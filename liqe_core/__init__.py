"""LIQE, reproduced: blind image quality assessment via vision-language correspondence (CVPR 2023)::

    from liqe_core import LIQE

    prediction = LIQE.from_checkpoint("official").score("photo.jpg")
    print(prediction.to_frame())

At the top of the package lies the method and nothing else. Read it in this order: `prompts` (every label
combination a sentence), `prefix_tree` and `text` (their embeddings), `towers` (CLIP), `images` and
`crops` (from a file to what a tower takes), `model` (the joint probability), `prediction` (what is read off
it), `scoring` (images by the thousand), `metric` (for other programs, with a gradient), `checkpoints`
(weights, safely), `losses` and `weighting` (how it learns), `agreement` (how well it does), `files` (where
things are kept). It fits in an afternoon.

Everything that serves it is in wings, each knowing only those before it: `intake/`,
below the method but for `files`, and above it `data/`, `evaluation/`, `training/`,
`studies/`, `benchmarks/`, `commands/`; and `figures/`, which know data frames alone. Their docstrings say
what is in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from liqe_core.metric import LIQEMetric
    from liqe_core.model import LIQE
    from liqe_core.prediction import Prediction
    from liqe_core.prompts import PromptGrid

__version__ = "0.1.0"
__all__ = ["LIQE", "LIQEMetric", "Prediction", "PromptGrid"]

_HOMES = {"LIQE": "model", "LIQEMetric": "metric", "Prediction": "prediction", "PromptGrid": "prompts"}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the data wing, and every process it starts, does without torch and open_clip.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"liqe_core.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'liqe_core' has no attribute {name!r}")
