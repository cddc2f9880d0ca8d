"""What a training step costs in time and memory, and the text pass alone.

Every step is measured in a process of its own, which says its peak memory and the rate at which it multiplied
matrices just before: ``python -m liqe_core.benchmarks.training '{"way": "tree", "pictures": 6}'``.
"""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from liqe_core.benchmarks.arithmetic import in_turns, product_rate, step_operations, wait
from liqe_core.files import CHECKOUT
from liqe_core.model import LIQE
from liqe_core.text import encode_tree
from liqe_core.training.batches import Batch
from liqe_core.training.distributed import torch_device
from liqe_core.training.precision import Precision
from liqe_core.training.preflight import free_memory, step_memory
from liqe_core.training.profiles import profile
from liqe_core.training.step import build_model, build_optimizer, step_allocation, train_step


def text_pass(
    architecture: str = "ViT-B-32-quickgelu", rounds: int = 3, device: str = "auto"
) -> pd.DataFrame:
    """The paper's 495 prompts through a text tower: padded to its context, and as a prefix tree, in turns.

    Returns:
        A row a way: ``way, tokens, seconds`` (the best of `rounds`), ``times_faster``,
        ``largest_difference`` of the embeddings.
    """
    place = torch_device(device)
    model = LIQE.from_clip(architecture, None, device=place)
    tokens, tree = model.text._tokens.to(place), model.text.tree.to(place)
    ways = {
        "padded": lambda: normalize(model.clip.encode_text(tokens), dim=-1),
        "tree": lambda: normalize(encode_tree(model.clip, tree), dim=-1),
    }
    with torch.no_grad():
        best, outputs = in_turns(ways, rounds, place)
    difference = (outputs["padded"] - outputs["tree"]).abs().max().item()
    return pd.DataFrame(
        {
            "way": list(ways),
            "tokens": [tokens.numel(), tree.tokens.numel()],
            "seconds": list(best.values()),
            "times_faster": [best["padded"] / seconds for seconds in best.values()],
            "largest_difference": [0.0, difference],
        }
    )


def steps(cases: Sequence[Mapping], steps: int = 2, **common) -> pd.DataFrame:
    """Training steps, a process a case, one after the other.

    Args:
        cases: settings of `one_step`, such as ``{"way": "padded", "pictures": 6}``.
        steps: measured in each that does not say how many, after one that is not.
        common: settings for all of them.

    Returns:
        A row a case; see `one_step`. One that there was no memory for has NaN, and ``error`` says so.
    """
    rows = []
    for case in cases:
        settings = {"steps": steps, **common, **case}
        command = [sys.executable, "-m", "liqe_core.benchmarks.training", json.dumps(settings)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
        if done.returncode == 0:
            rows.append(json.loads(done.stdout.splitlines()[-1]))
        else:
            reason = (done.stderr.strip().splitlines() or [f"killed by signal {-done.returncode}"])[-1]
            rows.append({**settings, "error": reason})
    return pd.DataFrame(rows)


def one_step(
    way: str = "tree",
    pictures: int = 6,
    crops: int = 3,
    architecture: str = "ViT-B-32-quickgelu",
    gradient_checkpointing: bool = False,
    precision: str = "float32",
    compile: bool = False,
    device: str = "auto",
    steps: int = 2,
    warm_up: int = 1,
) -> dict:
    """Measure training steps in this process.

    Args:
        way: ``tree``, ours; or ``padded``, the public code's: every prompt padded to the context, through
            `encode_text`, and torch's plain AdamW.
        pictures: a batch, from three data sets.
        warm_up: steps before those that count; 0 where a step takes minutes.

    Returns:
        The settings and ``seconds`` (the median step), ``best_seconds``, ``peak_gb`` of this process (on a
        GPU: what torch held), ``operations``, ``products_per_second`` (measured before each step, the best),
        ``floor_seconds``, their quotient, and ``times_floor``: the best step over it.
    """
    told = {k: v for k, v in locals().items() if k not in ("steps", "warm_up")}
    place = torch_device(device)
    settings = profile(
        "paper",
        architecture=architecture,
        gradient_checkpointing=gradient_checkpointing,
        precision=precision,
        compile=compile,
    )
    settings = settings.override(batch_sizes={"any": pictures})
    object.__setattr__(settings, "pretrained", None)  # random weights cost the same, and need no network
    dtype = Precision(precision, place).dtype or torch.float32
    rates = []
    if way == "padded":
        model = LIQE.from_clip(architecture, None, device=place)
        model.text.tree = None
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=5e-6)
    else:
        model = build_model(settings, place)
        optimizer = build_optimizer(settings, model)
    if (need := step_memory(settings, model)) > (free := free_memory(place)):
        raise MemoryError(f"needs about {need / 1e9:.0f} GB beside the weights, {free / 1e9:.0f} GB are free")
    batch, how = random_batch(model, pictures, crops), Precision(precision, place)
    weights, times = dict.fromkeys(model.grid.axes, 1.0), []
    with contextlib.nullcontext() if way == "padded" else step_allocation(settings, place):
        for _ in range(warm_up + steps):
            rates.append(product_rate(place, dtype))
            wait(place)
            started = time.perf_counter()
            train_step(model, optimizer, batch, weights, 5e-6, precision=how)
            wait(place)
            times.append(time.perf_counter() - started)
    text = tuple((model.text._tokens if way == "padded" else model.text.tree.tokens).shape)
    operations = step_operations(
        model.architecture, pictures, crops, text, 4 if gradient_checkpointing else 3
    )
    times, floor = times[warm_up:], operations / max(rates)
    return {
        **told,
        "seconds": float(np.median(times)),
        "best_seconds": min(times),
        "peak_gb": peak_memory(place) / 1e9,
        "operations": operations,
        "products_per_second": max(rates),
        "floor_seconds": floor,
        "times_floor": min(times) / floor,
    }


def random_batch(model: LIQE, pictures: int, crops: int, seed: int = 0) -> Batch:
    """A batch of noise with labels, from three data sets, for measurements of time and memory."""
    made = torch.Generator().manual_seed(seed)
    window, (_, scenes, distortions) = model.geometry.window, model.grid.shape
    eye = torch.eye
    return Batch(
        torch.randint(256, (pictures, crops, 3, window, window), dtype=torch.uint8, generator=made),
        mos=torch.rand(pictures, generator=made, dtype=torch.float64),
        dataset=torch.arange(pictures) * 3 // pictures,
        scene=eye(scenes)[torch.arange(pictures) % scenes],
        distortion=eye(distortions)[torch.arange(pictures) % distortions],
        images=tuple(f"noise/{n}" for n in range(pictures)),
    ).to(model.device)


def peak_memory(device: torch.device) -> int:
    """Bytes that this process held at most: in memory, or on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # not ru_maxrss: on Linux a new process inherits it from the one that started it
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(one_step(**json.loads(sys.argv[1]))))
