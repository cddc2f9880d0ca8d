"""How long a step must take at least: its operations, over the rate at which this machine multiplies."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

Result = TypeVar("Result")


def step_operations(
    architecture: Mapping, pictures: int, crops: int, text_shape: tuple[int, int], passes: int = 3
) -> float:
    """Floating-point operations of a step: products of matrices only, a multiplication and an addition each.

    Args:
        architecture: open_clip's configuration, with a vision transformer.
        text_shape: sequences and their length, as they go through the text tower.
        passes: 1 forward, 3 with the way back, 4 where blocks are computed again on it.

    Returns:
        The count. Attention counts as dense, as it is computed.
    """
    vision, text = architecture["vision_cfg"], architecture["text_cfg"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    images = pictures * crops
    embedding = 2.0 * images * patches * 3 * vision["patch_size"] ** 2 * vision["width"]
    towers = _blocks(images, patches + 1, vision["width"], vision["layers"])
    towers += _blocks(*text_shape, text["width"], text["layers"])
    return min(passes, 3) * embedding + passes * towers


def _blocks(sequences: int, length: int, width: int, layers: int) -> float:
    """Per token: four projections and a two-layer net of four times the width, and attention to the rest."""
    return 2.0 * sequences * length * layers * (12 * width**2 + 2 * length * width)


def product_rate(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, seconds: float = 1.0
) -> float:
    """Operations a second in products of matrices of the sizes of ViT-B's: the best of a second's tries."""
    device = torch.device(device)
    a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((7168, 768), (768, 3072)))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        wait(device)
        started = time.perf_counter()
        for _ in range(20 if device.type == "cuda" else 1):
            a @ b
        wait(device)
        taken = (time.perf_counter() - started) / (20 if device.type == "cuda" else 1)
        best = min(best, taken)
    return 2.0 * 7168 * 768 * 3072 / best


def in_turns(
    ways: Mapping[str, Callable[[], Result]], rounds: int, device: torch.device | str = "cpu"
) -> tuple[dict[str, float], dict[str, Result]]:
    """Ways to do the same, one after the other and again, so that what else the machine does touches all.

    Returns:
        Of each way the seconds of its best round, and what it gave in the last.
    """
    device, given = torch.device(device), {}
    best = dict.fromkeys(ways, float("inf"))
    for _, (way, run) in itertools.product(range(rounds), ways.items()):
        wait(device)
        started = time.perf_counter()
        given[way] = run()
        wait(device)
        best[way] = min(best[way], time.perf_counter() - started)
    return best, given


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
