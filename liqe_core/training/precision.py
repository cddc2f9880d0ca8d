"""Mixed precision, and the half-precision weights of the public script.

Mixed precision (``bfloat16``, ``float16``): products are computed in half precision; weights, sums, losses
and the optimiser state are float32.

``public``: on CUDA, the public script casts the weights to float32, takes the step, and casts them back to
half precision (its lines 306 to 308, with openai's `convert_weights`). It keeps no float32 copy, so an update
only survives in multiples of the spacing of half-precision numbers. Here, the weights are rounded in float32
storage after every step, which gives the same numbers. AdamW's moments are float32 in both. On a GPU,
products are computed in half precision like with ``float16``, but without loss scaling, which the public
script does not use. On a CPU they are computed in float32; the public script would not round there at all.
Similarities, softmax and losses in half precision are not reproduced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from liqe_core.scoring import PRECISIONS

DTYPES = {**PRECISIONS, "float16": torch.float16}


#: Names that openai's `convert_weights` converts in addition to convolutions and linear layers.
_BY_NAME: tuple[str, ...] = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_BY_NAME += ("in_proj_bias", "bias_k", "bias_v", "text_projection", "proj")


def type_of_products(name: str, device_type: str) -> torch.dtype | None:
    """Return the dtype to which a precision rounds the factors of products; None: no rounding.

    Args:
        name: a key of `DTYPES`, or ``public``.
        device_type: type of the device: ``cpu`` or ``cuda``.

    Raises:
        ValueError: if the precision is unknown.
    """
    if name == "public":
        return torch.float16 if device_type == "cuda" else None
    if name not in DTYPES:
        raise ValueError(f"unknown precision {name!r}; choose one of {', '.join([*DTYPES, 'public'])}")
    return DTYPES[name]


def half_weights(clip: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that the public script keeps in half precision, by name.

    These are the weights and biases of convolutions, linear layers, attention and both projections, but not
    LayerNorms, embeddings and `logit_scale`. Linear heads in place of prompts (`LossSettings.control`), which
    the public script does not have, are included.
    """
    found = {id(head) for head in getattr(clip, "heads", ())}
    for module in clip.modules():
        weighty = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
        names = ("weight", "bias") if weighty else _BY_NAME
        found |= {id(getattr(module, name, None)) for name in names}
    return {name: value for name, value in clip.named_parameters() if id(value) in found}


@torch.no_grad()
def round_to_half(weight: Tensor) -> None:
    """Round in place to the nearest half-precision number, ties to even; the storage stays float32."""
    weight.copy_(weight.half())


class Precision:
    """The precision of a training step.

    The weights stay float32 and are rounded at each use (autocast). With float16, small gradients would
    underflow. The loss is therefore scaled up before the backward pass, and the gradients are scaled down
    before the step. If the gradients overflow, the step is skipped and the scale is halved.

    Args:
        name: a key of `DTYPES`, or ``public``.
        device: the device of the model; only its type is used.
        tf32: see `MachineSettings`.
        clip: the model whose weights ``public`` rounds, immediately and in each call of `round_weights`.

    Raises:
        ValueError: if the precision is unknown, or ``public`` has no model.

    Attributes:
        scaler: the gradient scaler; disabled unless the precision is float16.
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
            raise ValueError("precision 'public' rounds the weights after every step: give the model as clip")
        self._rounded = list(half_weights(clip).values()) if name == "public" and clip else []
        self.round_weights()  # the public script starts from half-precision weights, too

    def round_weights(self) -> None:
        """Round the weights after a step with precision ``public``; do nothing otherwise."""
        for weight in self._rounded:
            round_to_half(weight)

    def autocast(self):
        """Return the autocast context for the forward pass."""
        half = self.dtype or torch.bfloat16
        return torch.autocast(self.device_type, half, enabled=self.dtype is not None)

    @contextlib.contextmanager
    def of_products(self) -> Iterator[None]:
        """Set TF32 within the block and restore the setting afterwards, because it is global."""
        before = torch.get_float32_matmul_precision()
        cudnn = torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = self.tf32
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
            torch.backends.cudnn.allow_tf32 = cudnn
