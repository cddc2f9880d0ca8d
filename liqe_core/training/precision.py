"""Mixed precision: products in half precision, weights, sums, losses and the optimiser's state in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """How a training step computes.

    The weights stay float32 and are rounded anew at each use (autocast); nothing is cast back and forth. For
    float16, whose small numbers vanish, the loss is scaled up before the backward pass and the gradients
    down before the step; a step whose gradients overflow is left out and the scale halved.

    Args:
        name: a key of `DTYPES`.
        device: its type.
        tf32: see `Profile`.

    Attributes:
        scaler: does nothing unless the precision is float16.
    """

    def __init__(self, name: str = "float32", device: torch.device | str = "cpu", tf32: bool = False):
        self.device_type = torch.device(device).type
        self.dtype, self.tf32 = DTYPES[name], tf32
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=self.dtype is torch.float16)

    def autocast(self):
        """The context for the forward pass."""
        enabled = self.dtype is not None
        return torch.autocast(self.device_type, self.dtype or torch.bfloat16, enabled=enabled)

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
