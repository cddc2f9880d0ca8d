"""What is computed, and what is kept, in half precision.

Mixed precision (``bfloat16``, ``float16``): products in half precision; weights, sums, losses and the
optimiser's state in float32.

``public``: the public script on CUDA casts the weights to float32, steps, and casts them back to half
precision (its lines 306 to 308, with openai's `convert_weights`), keeping no float32 copy: of what a step
adds, only whole spacings of half precision survive. Here the weights are rounded in their float32 storage
after every step, which gives the same numbers. AdamW's moments are float32 there, too. On a GPU products are
computed in half precision as under ``float16``, but without its scaling of the loss, which the public script
does not have; on a CPU in float32, where the public script would not round at all. Not imitated:
similarities, softmax and losses in half precision.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from liqe_core.scoring import PRECISIONS

DTYPES = {**PRECISIONS, "float16": torch.float16}


#: What openai's `convert_weights` converts beside the weights of convolutions and linear layers, by name.
_BY_NAME: tuple[str, ...] = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_BY_NAME += ("in_proj_bias", "bias_k", "bias_v", "text_projection", "proj")


def type_of_products(name: str, device_type: str) -> torch.dtype | None:
    """What a precision rounds the factors of products to on a kind of device; None: not at all.

    Raises:
        ValueError: no such precision.
    """
    if name == "public":
        return torch.float16 if device_type == "cuda" else None
    if name not in DTYPES:
        raise ValueError(f"unknown precision {name!r}; choose one of {', '.join([*DTYPES, 'public'])}")
    return DTYPES[name]


def half_weights(clip: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that the public script keeps in half precision, by name: of convolutions, linear layers,
    attention and both projections, with their biases. LayerNorms, embeddings and `logit_scale` are not among
    them; linear heads in place of prompts (`Profile.control`), which it does not have, are."""
    found = {id(head) for head in getattr(clip, "heads", ())}
    for module in clip.modules():
        weighty = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
        names = ("weight", "bias") if weighty else _BY_NAME
        found |= {id(getattr(module, name, None)) for name in names}
    return {name: value for name, value in clip.named_parameters() if id(value) in found}


@torch.no_grad()
def round_to_half(weight: Tensor) -> None:
    """Round in place to the nearest number of half precision, ties to even; the storage stays float32."""
    weight.copy_(weight.half())


class Precision:
    """How a training step computes.

    The weights stay float32 and are rounded anew at each use (autocast); nothing is cast back and forth. For
    float16, whose small numbers vanish, the loss is scaled up before the backward pass and the gradients
    down before the step; a step whose gradients overflow is left out and the scale halved.

    Args:
        name: a key of `DTYPES`, or ``public``.
        device: its type.
        tf32: see `Profile`.
        clip: whose weights ``public`` rounds, at once and whenever `round_weights` is called.

    Raises:
        ValueError: no such precision, or ``public`` without a model.

    Attributes:
        scaler: does nothing unless the precision is float16.
    """

    def __init__(
        self,
        name: str = "float32",
        device: torch.device | str = "cpu",
        tf32: bool = False,
        clip: nn.Module | None = None,
    ):
        self.device_type = torch.device(device).type
        self.dtype, self.tf32 = type_of_products(name, self.device_type), tf32
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=name == "float16")
        if name == "public" and clip is None:
            raise ValueError("precision 'public' rounds weights after every step: give their model as clip")
        self._rounded = list(half_weights(clip).values()) if name == "public" and clip else []
        self.round_weights()  # the public script starts from weights in half precision, too

    def round_weights(self) -> None:
        """After a step: round what the public script keeps in half precision. Otherwise nothing."""
        for weight in self._rounded:
            round_to_half(weight)

    def autocast(self):
        """The context for the forward pass."""
        half = self.dtype or torch.bfloat16
        return torch.autocast(self.device_type, half, enabled=self.dtype is not None)

    @contextlib.contextmanager
    def of_products(self) -> Iterator[None]:
        """TF32 on or off as asked, and as it was afterwards: the switch is global."""
        before = torch.get_float32_matmul_precision()
        cudnn = torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = self.tf32
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
            torch.backends.cudnn.allow_tf32 = cudnn
