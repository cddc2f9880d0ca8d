"""What training does about memory. Nothing here changes a number that is computed.

A block of CLIP spends a quarter of what it keeps for the backward pass on the output of its activation, which
is cheap to compute again. And on a CPU it matters what the C library does with the gigabytes that a step
allocates and frees over and over: measured on two cores at the paper's batch, a step takes 25 s and 9.1 GB
where they are kept, 37 s and 6.8 GB where they go back to the system each time.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections import OrderedDict
from collections.abc import Iterator

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

#: Options of glibc's mallopt, by their numbers in malloc.h, and the values for each way to allocate.
#: ``keep``: nothing is given back. ``frugal``: everything of a megabyte and more is, at once. ``usual``:
#: where glibc's own adjustment ends in a process that has freed a large tensor.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_WAYS = {
    "keep": {_TRIM_THRESHOLD: -1, _MMAP_THRESHOLD: 2**25, _MMAP_MAX: 0},
    "frugal": {_TRIM_THRESHOLD: 2**27, _MMAP_THRESHOLD: 2**20, _MMAP_MAX: 65_536},
    "usual": {_TRIM_THRESHOLD: 2**26, _MMAP_THRESHOLD: 2**25, _MMAP_MAX: 65_536},
}


class LeanMLP(nn.Sequential):
    """``c_fc, gelu, c_proj`` of a CLIP block, keeping for the backward pass what goes into the activation and
    not what comes out of it, which is computed again. Same values, same gradients, same state dict."""

    c_fc: nn.Module
    gelu: nn.Module
    c_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.c_fc(x)
        # Checkpointing stops as soon as it has what was asked for: c_proj's product is not computed again.
        return checkpoint(self._rest, hidden, use_reentrant=False, preserve_rng_state=False)

    def _rest(self, hidden: Tensor) -> Tensor:
        return self.c_proj(self.gelu(hidden))


def use_lean_mlps(model: nn.Module) -> None:
    """Put a `LeanMLP` where a model has the two-layer net of a CLIP block; state dicts stay as they are."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            parts = OrderedDict(child.named_children())
            if type(child) is nn.Sequential and list(parts) == ["c_fc", "gelu", "c_proj"]:
                setattr(module, name, LeanMLP(parts))


@contextlib.contextmanager
def allocation(way: str) -> Iterator[None]:
    """How the C library allocates during the block: ``keep`` for speed, ``frugal`` for the smallest peak.

    The setting is the whole process's. Where the C library is not glibc, nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    _set(libc, way)
    try:
        yield
    finally:
        _set(libc, "usual")
        libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, way: str) -> None:
    for option, value in _WAYS[way].items():
        libc.mallopt(option, value)
