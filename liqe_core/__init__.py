"""LIQE, reproduced: blind image quality assessment via vision-language correspondence (CVPR 2023).

from liqe_core import LIQE

prediction = LIQE.from_checkpoint("LIQE.pt").score("photo.jpg")
print(prediction.to_frame())
"""

from liqe_core.model import LIQE, Prediction
from liqe_core.prompts import PromptGrid

__version__ = "0.1.0"
__all__ = ["LIQE", "Prediction", "PromptGrid"]
