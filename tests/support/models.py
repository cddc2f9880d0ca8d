"""Small models of random weights."""

import io

import torch

from liqe_core import LIQE, PromptGrid


def of_twelve_prompts() -> LIQE:
    """The same weights each time, 32-pixel crops and twelve prompts: a call takes milliseconds."""
    grid = PromptGrid(quality=["bad", "fair", "good"], scene=["sea", "sky"], distortion=["blur", "noise"])
    torch.manual_seed(1)
    return LIQE.from_clip("LIQE-smoke", pretrained=None, grid=grid)


def pyiqa_file(state: dict[str, torch.Tensor]) -> bytes:
    """The content of a file of weights as IQA-PyTorch keeps it: half precision, under ``params``."""
    file = io.BytesIO()
    torch.save({"params": {f"clip_model.{key}": value.half() for key, value in state.items()}}, file)
    return file.getvalue()
