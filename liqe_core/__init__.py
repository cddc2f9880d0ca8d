"""LIQE, reproduced: blind image quality assessment via vision-language correspondence (CVPR 2023)::

    from liqe_core import LIQE

    prediction = LIQE.from_checkpoint("official").score("photo.jpg")
    print(prediction.to_frame())

The top level of the package holds the method only. Read its modules in this order: `prompts` (one sentence
for each combination of labels), `prefix_tree` and `text` (text embeddings), `towers` (the CLIP towers),
`images` and `crops` (from a file to the input of the image tower), `model` (the joint probability),
`prediction` (results derived from it), `scoring` (many images), `metric` (a differentiable metric for other
programs), `checkpoints` (safe reading and writing of weights), `losses` and `weighting` (training),
`agreement` (evaluation measures), `files` (folders and atomic writes). It can be read in an afternoon.

The subpackages support the method. Each one imports only the ones before it: `intake/` (below the method,
except for `files`), then `data/`, `evaluation/`, `training/`, `studies/`, `benchmarks/` and `commands/`
above it. `figures/` takes data frames and imports none of them. The docstring of each subpackage describes
its contents.
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
    # Imported on first access: `data` and the processes that it starts do not need torch and open_clip.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"liqe_core.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'liqe_core' has no attribute {name!r}")
