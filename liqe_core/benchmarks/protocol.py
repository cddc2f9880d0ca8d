"""What the rest of the protocol costs: larger grids, the data, evaluation, and so all ten sessions."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import pandas as pd
import torch
from open_clip.tokenizer import SimpleTokenizer

from liqe_core.benchmarks.arithmetic import in_turns
from liqe_core.crops import CropGeometry
from liqe_core.data.labelled import LabelledPictures
from liqe_core.evaluation.ranks import Ranks
from liqe_core.model import LIQE
from liqe_core.prefix_tree import PrefixTree
from liqe_core.prompts import PromptGrid
from liqe_core.text import tokenize
from liqe_core.training.batches import READERS, TrainingBatches, batches_ahead
from liqe_core.training.distributed import torch_device
from liqe_core.training.precision import Precision

#: Pictures of the paper's six sets together, and the parts of them that are measured each time.
PAPER_PICTURES, VALIDATION_PART, TEST_PART = 23_591, 0.1, 0.2


def trie_cost(counts: Sequence[int] = (50, 495, 5_000, 50_000), context: int = 77) -> pd.DataFrame:
    """How many positions the text tower computes for grids of growing size, padded and as a tree.

    Returns:
        A row a grid: ``prompts``, ``padded_tokens``, ``tree_nodes``, ``packed_tokens`` (with what the cut
        into sequences repeats), ``times_fewer``, ``build_seconds``.
    """
    tokenizer, rows = SimpleTokenizer(context_length=context), []
    for count in counts:
        grid = a_grid(count)
        started = time.perf_counter()
        tokens = tokenize(grid, tokenizer, context)
        tree = PrefixTree.from_tokens(tokens)
        rows.append(
            {
                "prompts": len(grid),
                "padded_tokens": tokens.numel(),
                "tree_nodes": tree.nodes,
                "packed_tokens": tree.tokens.numel(),
                "times_fewer": tokens.numel() / tree.tokens.numel(),
                "build_seconds": time.perf_counter() - started,
            }
        )
    return pd.DataFrame(rows)


def a_grid(prompts: int) -> PromptGrid:
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


def loader_throughput(
    sets: Sequence[LabelledPictures],
    step_seconds: float,
    pictures: int = 48,
    crops: int = 3,
    window: int = 224,
    batches: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Batches cut ahead of time, against what a step of that length consumes.

    Args:
        sets: pictures at least as large as the window.
        step_seconds: as `steps` measured it for as many pictures.

    Returns:
        One row: ``readers, batches_per_second, consumed_per_second, times_enough``.
    """
    sizes = {s.name: pictures // len(sets) for s in sets}
    drawn = TrainingBatches(sets, sizes, 1, PromptGrid(), CropGeometry(window=window), crops, seed)
    list(batches_ahead(drawn, 0, 0, 2, Ranks()))  # pages in
    started = time.perf_counter()
    for _ in batches_ahead(drawn, 0, 0, batches, Ranks()):
        pass
    rate = batches / (time.perf_counter() - started)
    row = {"readers": READERS, "batches_per_second": rate, "consumed_per_second": 1 / step_seconds}
    return pd.DataFrame([row | {"times_enough": rate * step_seconds}])


def scoring_seconds(
    architecture: str = "ViT-B-32-quickgelu",
    pictures: int = 4,
    precision: str = "float32",
    device: str = "auto",
) -> float:
    """Seconds a picture in an evaluation: 15 crops, the text embedded already."""
    place = torch_device(device)
    model, how = LIQE.from_clip(architecture, None, device=place), Precision(precision, place)
    window = model.geometry.window
    crops = [torch.randint(256, (15, 3, window, window), dtype=torch.uint8) for _ in range(pictures)]
    with torch.no_grad(), how.autocast():
        text = model.text()
        best, _ = in_turns({"scoring": lambda: model.joint_of(crops, text)}, 3, place)
    return best["scoring"] / pictures


def ten_sessions(
    step_seconds: float, scoring: float, public_step_seconds: float, public_text_seconds: float
) -> pd.DataFrame:
    """The paper's protocol, from measured parts: ten sessions of 80 epochs of 200 steps.

    Ours validates every epoch and tests the kept checkpoints, four at most. The public way validates and
    tests every epoch, and embeds the text anew for each 16 pictures.

    Args:
        step_seconds, public_step_seconds: at the paper's batch.
        scoring: seconds a picture, from `scoring_seconds`.
        public_text_seconds: a padded text pass.

    Returns:
        A row a way: ``way, training_hours, evaluation_hours, hours``.
    """
    validation, tested = PAPER_PICTURES * VALIDATION_PART, PAPER_PICTURES * TEST_PART
    ours = 80 * validation * scoring + 4 * tested * scoring
    public = 80 * (validation + tested) * (scoring + public_text_seconds / 16)
    rows = []
    for way, step, evaluation in (("public", public_step_seconds, public), ("ours", step_seconds, ours)):
        hours = [10 * seconds / 3600 for seconds in (80 * 200 * step, evaluation)]
        rows.append(
            {"way": way, "training_hours": hours[0], "evaluation_hours": hours[1], "hours": sum(hours)}
        )
    return pd.DataFrame(rows)
