"""What training costs in time and memory: the text pass, a step, and so all ten sessions of the paper.

Every step is measured in a process of its own, which says its peak memory and the rate at which it multiplied
matrices just before: ``python -m liqe_core.benchmarks.steps '{"way": "tree", "images": 6}'``.
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

#: Images of the paper's six sets together, and the parts of them that are measured each time.
PAPER_IMAGES, VALIDATION_PART, TEST_PART = 23_591, 0.1, 0.2


def timed(run: Callable[[], object], seconds: float = 1.0) -> list[float]:
    """The seconds of each call of `run`, for so long, once at least after a call that does not count."""
    from torch.utils.benchmark import Timer  # looks for a compiler, and warns where there is no GPU

    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds).times


def product_rate(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, seconds: float = 1.0
) -> float:
    """Operations a second in products of matrices of the sizes of ViT-B's: the best of a second's tries."""
    a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((7168, 768), (768, 3072)))
    return 2.0 * 7168 * 768 * 3072 / min(timed(lambda: a @ b, seconds))


def text_pass(architecture: str = "ViT-B-32-quickgelu") -> pd.DataFrame:
    """The paper's 495 prompts through a text tower: padded to its context, and as a prefix tree.

    Returns:
        A row a way: ``way, tokens, seconds`` (the median), ``times_faster``, ``largest_difference`` of the
        embeddings.
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
        way: ``tree``, ours; or ``padded``, the public code's: every prompt padded to the context, through
            `encode_text`, and torch's plain AdamW.
        images: a batch, from three datasets.
        steps: that count, after `warm_up` that do not; 0 of these where a step takes minutes.
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
    """Training steps, a process a case, one after the other.

    Args:
        cases: fields of `StepCase`, such as ``{"way": "padded", "images": 6}``.
        common: fields for all of them.

    Returns:
        A row a case; see `measure_step`. One that there was no memory for has NaN, and ``error`` says so.
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
        what torch held), ``forecast_gb``, what `step_memory` expects beside the weights, ``operations``,
        ``products_per_second`` (measured before each step, the best), ``floor_seconds``, their quotient, and
        ``times_floor``: the best step over it.

    Raises:
        MemoryError: the forecast is over what is free.
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
    for _ in range(case.warm_up + case.steps):  # not by a Timer, which would take a slow step three times
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
    """Multiplications and additions of both towers in a step, forward and backward. Nothing is computed."""
    model = _model(_settings(case).override(compile=False), case.way, "meta")
    window = model.geometry.window
    images = torch.empty(case.images * case.crops, 3, window, window, device="meta")
    with FlopCounterMode(display=False) as counter:
        (model.clip.encode_image(images) @ model.text.embed().T).sum().backward()
    return counter.get_total_flops()


def _settings(case: StepCase) -> Profile:
    names = ("architecture", "gradient_checkpointing", "precision", "compile", "crops")
    changes = {name: getattr(case, name) for name in names}
    # Random weights cost the same, and need no network.
    return profile("paper", pretrained="", batch_sizes={"any": case.images}, **changes)


def _model(settings: Profile, way: str, device: torch.device | str) -> LIQE:
    model = build_model(settings, device)
    if way == "padded":
        model.text.tree = None
    return model


def random_batch(model: LIQE, images: int, crops: int) -> Batch:
    """A batch of noise with labels, from three datasets, for measurements of time and memory."""
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
    """Bytes that this process held at most: in memory, or on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if peak := proc_value("self/status", "VmHWM"):  # ru_maxrss is inherited from the process that starts one
        return 1024 * int(peak.split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def loader_throughput(batches: TrainingBatches, step_seconds: float, count: int = 20) -> pd.DataFrame:
    """Batches cut ahead of time, against what a step of that length consumes.

    Args:
        step_seconds: as `measure_steps` says for as many images.
        count: batches that are cut.

    Returns:
        One row: ``readers, batches_per_second, consumed_per_second, times_enough``.
    """
    list(batches_ahead(batches, 0, 0, 2, ALONE))  # pages in
    started = time.perf_counter()
    for _ in batches_ahead(batches, 0, 0, count, ALONE):
        pass
    rate = count / (time.perf_counter() - started)
    row = {"readers": READERS, "batches_per_second": rate, "consumed_per_second": 1 / step_seconds}
    return pd.DataFrame([row | {"times_enough": rate * step_seconds}])


def trie_cost(counts: Sequence[int] = (50, 495, 5_000, 50_000)) -> pd.DataFrame:
    """How many positions the text tower computes for grids of growing size, padded and as a tree.

    Returns:
        A row a grid: ``prompts``, ``padded_tokens``, ``tree_nodes``, ``packed_tokens`` (with what the cut
        into sequences repeats), ``times_fewer``, ``build_seconds``.
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
    """A grid of that many prompts in the paper's template: its own words, or many made of two words each."""
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
    """The paper's protocol, from measured parts: ten sessions of 80 epochs of 200 steps.

    Ours validates every epoch and tests the kept checkpoints, four at most. The public way validates and
    tests every epoch, and embeds the text anew for each 16 images.

    Args:
        step_seconds, public_step_seconds: at the paper's batch.
        scoring: seconds an image, from `scoring.scoring_seconds`.
        public_text_seconds: a padded text pass.

    Returns:
        A row a way: ``way, training_hours, evaluation_hours, hours``.
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
