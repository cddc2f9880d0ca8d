"""LIQE, reproduced: blind image quality assessment via vision-language correspondence (CVPR 2023).

from liqe_core import LIQE

prediction = LIQE.from_checkpoint("LIQE.pt").score("photo.jpg")
print(prediction.to_frame())
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from liqe_core.model import LIQE, Prediction
    from liqe_core.prompts import PromptGrid

__version__ = "0.1.0"
__all__ = ["LIQE", "Prediction", "PromptGrid"]

_HOMES = {"LIQE": "model", "Prediction": "model", "PromptGrid": "prompts"}


def __getattr__(name: str):
    # Loaded when asked for: the data part, and every process it starts, does without torch and open_clip.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"liqe_core.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'liqe_core' has no attribute {name!r}")
