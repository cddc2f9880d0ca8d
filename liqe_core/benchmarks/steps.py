"""Benchmark of training: time and memory of the text pass, of a step, and of the paper's ten sessions.

Every case is measured in its own process, which reports its peak memory and the rate of matrix products just
before each step: ``python -m liqe_core.benchmarks.steps '{"way": "tree", "images": 6}'``.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch.nn.functional import normalize
from torch.utils.flop_counter import FlopCounterMode

from liqe_core.evaluation.distributed import ALONE, Ranks, torch_device
from liqe_core.files import CHECKOUT, proc_value
from liqe_core.model import LIQE
from liqe_core.prefix_tree import PrefixTree
from liqe_core.prompts import PromptGrid
from liqe_core.text import encode_tree, tokenize
from liqe_core.training.batches import READERS, Batch, TrainingBatches, batches_ahead
from liqe_core.training.precision import Precision
from liqe_core.training.preflight import check_memory
from liqe_core.training.profiles import Profile, profile
from liqe_core.training.step import TrainStep, build_model, build_optimizer

#: The number of images in the paper's six datasets, and the shares for validation and test.
PAPER_IMAGES, VALIDATION_PART, TEST_PART = 23_591, 0.1, 0.2


def timed(run: Callable[[], object], seconds: float = 1.0) -> list[float]:
    """Measure the seconds per call of `run`, for at least `seconds`, after a warm-up call."""
    from torch.utils.benchmark import Timer  # searches for a compiler, and warns if there is no GPU

    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds).times


def product_rate(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, seconds: float = 1.0
) -> float:
    """Measure operations per second in matrix products of ViT-B's sizes: the best of all repetitions."""
    a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((7168, 768), (768, 3072)))
    return 2.0 * 7168 * 768 * 3072 / min(timed(lambda: a @ b, seconds))


def text_pass(architecture: str = "ViT-B-32-quickgelu") -> pd.DataFrame:
    """Measure a text tower on the paper's 495 prompts: padded to its context, and as a prefix tree.

    Returns:
        A row for each method: ``way, tokens, seconds`` (the median), ``times_faster``, ``largest_difference``
        of the embeddings.
    """
    device = torch_device("auto")
    model = LIQE.from_clip(architecture, None, device=device)
    tokens, tree = model.text.tokens.to(device), model.text.tree.to(device)
    ways = {
        "padded": lambda: normalize(model.clip.encode_text(tokens), dim=-1),
        "tree": lambda: normalize(encode_tree(model.clip, tree), dim=-1),
    }
    with torch.no_grad():
        outputs = {way: run() for way, run in ways.items()}
        medians = {way: float(np.median(timed(run))) for way, run in ways.items()}
    difference = (outputs["padded"] - outputs["tree"]).abs().max().item()
    return pd.DataFrame(
        {
            "way": list(ways),
            "tokens": [tokens.numel(), tree.tokens.numel()],
            "seconds": list(medians.values()),
            "times_faster": [medians["padded"] / median for median in medians.values()],
            "largest_difference": [0.0, difference],
        }
    )


@dataclasses.dataclass(frozen=True)
class StepCase:
    """A training step to measure.

    Attributes:
        way: ``tree``, our method; or ``padded``, as in the public code: every prompt padded to the context,
            through `encode_text`, and torch's AdamW.
        images: the number of images in a batch, from three datasets.
        steps: the number of measured steps, after `warm_up` steps; use ``warm_up=0`` if a step takes minutes.
    """

    way: str = "tree"
    images: int = 6
    crops: int = 3
    architecture: str = "ViT-B-32-quickgelu"
    gradient_checkpointing: bool = False
    precision: str = "float32"
    compile: bool = False
    device: str = "auto"
    steps: int = 2
    warm_up: int = 1


def measure_steps(cases: Sequence[Mapping], **common: object) -> pd.DataFrame:
    """Measure training steps, each case in its own process, one after the other.

    Args:
        cases: fields of `StepCase`, such as ``{"way": "padded", "images": 6}``.
        common: fields for all cases.

    Returns:
        A row for each case; see `measure_step`. A case that fails, for example without enough memory, has NaN
        and a message in ``error``.
    """
    rows = []
    for case in cases:
        fields = {**common, **case}
        command = [sys.executable, "-m", "liqe_core.benchmarks.steps", json.dumps(fields)]
        process = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
        if process.returncode == 0:
            rows.append(json.loads(process.stdout.splitlines()[-1]))
        else:
            reason = (process.stderr.strip().splitlines() or [f"killed by signal {-process.returncode}"])[-1]
            rows.append({**fields, "error": reason})
    return pd.DataFrame(rows)


def measure_step(case: StepCase) -> dict:
    """Measure training steps in this process.

    Returns:
        The case and ``seconds`` (the median step), ``best_seconds``, ``peak_gb`` of this process (on a GPU:
        allocated by torch), ``forecast_gb`` (the forecast of `step_memory`, without the weights),
        ``operations``, ``products_per_second`` (the best rate measured before the steps), ``floor_seconds``
        (operations / rate), and ``times_floor`` (the best step / floor).

    Raises:
        MemoryError: the forecast exceeds the free memory.
    """
    device = torch_device(case.device)
    operations = count_operations(case)
    settings = _settings(case)
    model = _model(settings, case.way, device)
    precision = Precision(case.precision, device)
    if case.way == "padded":
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=5e-6)
    else:
        optimizer = build_optimizer(settings, model)
    forecast = check_memory(settings, model, Ranks(device=device))
    batch, weights = random_batch(model, case.images, case.crops), dict.fromkeys(model.grid.axes, 1.0)
    take_step = TrainStep(model, optimizer, precision)
    rates, times = [], []
    for _ in range(case.warm_up + case.steps):  # a Timer would run a slow step three times
        rates.append(product_rate(device, precision.dtype or torch.float32))
        started = time.perf_counter()
        take_step(batch, weights, 5e-6)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    times, floor = times[case.warm_up :], operations / max(rates)
    return {
        **dataclasses.asdict(case),
        "seconds": float(np.median(times)),
        "best_seconds": min(times),
        "peak_gb": peak_memory(device) / 1e9,
        "forecast_gb": forecast / 1e9,
        "operations": operations,
        "products_per_second": max(rates),
        "floor_seconds": floor,
        "times_floor": min(times) / floor,
    }


def count_operations(case: StepCase) -> int:
    """Count multiplications and additions of both towers in a step, forward and backward, on device meta."""
    model = _model(_settings(case).override(compile=False), case.way, "meta")
    window = model.geometry.window
    images = torch.empty(case.images * case.crops, 3, window, window, device="meta")
    with FlopCounterMode(display=False) as counter:
        (model.clip.encode_image(images) @ model.text.embed().T).sum().backward()
    return counter.get_total_flops()


def _settings(case: StepCase) -> Profile:
    names = ("architecture", "gradient_checkpointing", "precision", "compile", "crops")
    changes = {name: getattr(case, name) for name in names}
    # Random weights take the same time, and need no download.
    return profile("paper", pretrained="", batch_sizes={"any": case.images}, **changes)


def _model(settings: Profile, way: str, device: torch.device | str) -> LIQE:
    model = build_model(settings, device)
    if way == "padded":
        model.text.tree = None
    return model


def random_batch(model: LIQE, images: int, crops: int) -> Batch:
    """Make a batch of random images with labels from three datasets, to measure time and memory."""
    generator = torch.Generator().manual_seed(0)
    window, (_, scenes, distortions) = model.geometry.window, model.grid.shape
    return Batch(
        torch.randint(256, (images, crops, 3, window, window), dtype=torch.uint8, generator=generator),
        mos=torch.rand(images, generator=generator, dtype=torch.float64),
        dataset=torch.arange(images) * 3 // images,
        scene=torch.eye(scenes)[torch.arange(images) % scenes],
        distortion=torch.eye(distortions)[torch.arange(images) % distortions],
        images=tuple(f"noise/{n}" for n in range(images)),
    ).map(lambda tensor: tensor.to(model.device))


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process in bytes, in main memory or on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if peak := proc_value("self/status", "VmHWM"):  # ru_maxrss is inherited from the parent
        return 1024 * int(peak.split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def loader_throughput(batches: TrainingBatches, step_seconds: float, count: int = 20) -> pd.DataFrame:
    """Compare the rate at which batches are prepared with the rate at which training consumes them.

    Args:
        step_seconds: seconds per step from `measure_steps`, for the same number of images.
        count: the number of batches.

    Returns:
        One row: ``readers, batches_per_second, consumed_per_second, times_enough``.
    """
    list(batches_ahead(batches, 0, 0, 2, ALONE))  # warm up
    started = time.perf_counter()
    for _ in batches_ahead(batches, 0, 0, count, ALONE):
        pass
    rate = count / (time.perf_counter() - started)
    row = {"readers": READERS, "batches_per_second": rate, "consumed_per_second": 1 / step_seconds}
    return pd.DataFrame([row | {"times_enough": rate * step_seconds}])


def trie_cost(counts: Sequence[int] = (50, 495, 5_000, 50_000)) -> pd.DataFrame:
    """Count the positions that the text tower computes for grids of several sizes, padded and as a tree.

    Returns:
        A row for each grid: ``prompts``, ``padded_tokens``, ``tree_nodes``, ``packed_tokens`` (with the
        prefixes repeated in several sequences), ``times_fewer``, ``build_seconds``.
    """
    tokenizer, rows = SimpleTokenizer(context_length=77), []
    for count in counts:
        grid = grid_of_size(count)
        started = time.perf_counter()
        tokens = tokenize(grid, tokenizer, 77)
        tree = PrefixTree.from_tokens(tokens)
        seconds, padded, packed = time.perf_counter() - started, tokens.numel(), tree.tokens.numel()
        rows.append((len(grid), padded, tree.nodes, packed, padded / packed, seconds))
    columns = ["prompts", "padded_tokens", "tree_nodes", "packed_tokens", "times_fewer", "build_seconds"]
    return pd.DataFrame(rows, columns=columns)


def grid_of_size(prompts: int) -> PromptGrid:
    """Make a grid of this size in the paper's template, with the paper's words or with pairs of words."""
    if prompts == 495:
        return PromptGrid()
    scenes, distortions = {50: (5, 2), 5_000: (40, 25), 50_000: (100, 100)}[prompts]
    first = ("old", "small", "bright", "busy", "quiet", "wooden", "modern", "distant", "wet", "golden")
    spots = ("street", "garden", "kitchen", "harbour", "forest", "station", "market", "beach", "room", "hill")
    faults = ("blur", "noise", "banding", "ringing", "haze", "glare", "grain", "shift", "smear", "flicker")
    return PromptGrid(
        scene=[f"{a} {b}" for a, b in itertools.product(first, spots)][:scenes],
        distortion=[f"{a} {b}" for a, b in itertools.product(first, faults)][:distortions],
    )


def ten_sessions(
    step_seconds: float, scoring: float, public_step_seconds: float, public_text_seconds: float
) -> pd.DataFrame:
    """Estimate the time of the paper's protocol from measured parts: ten sessions of 80 epochs of 200 steps.

    Our code validates every epoch and tests at most four checkpoints. The public code validates and tests
    every epoch, and embeds the text again for every 16 images.

    Args:
        step_seconds, public_step_seconds: seconds per step with the paper's batch.
        scoring: seconds per image, from `scoring.scoring_seconds`.
        public_text_seconds: seconds of a padded text pass.

    Returns:
        A row for each method: ``way, training_hours, evaluation_hours, hours``.
    """
    validation, tested = PAPER_IMAGES * VALIDATION_PART, PAPER_IMAGES * TEST_PART
    ours = 80 * validation * scoring + 4 * tested * scoring
    public = 80 * (validation + tested) * (scoring + public_text_seconds / 16)
    table = pd.DataFrame({"way": ["public", "ours"]})
    table["training_hours"] = 10 * 80 * 200 * np.array([public_step_seconds, step_seconds]) / 3600
    table["evaluation_hours"] = 10 * np.array([public, ours]) / 3600
    table["hours"] = table["training_hours"] + table["evaluation_hours"]
    return table


if __name__ == "__main__":
    print(json.dumps(measure_step(StepCase(**json.loads(sys.argv[1])))))
