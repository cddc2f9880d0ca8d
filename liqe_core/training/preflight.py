"""Checks before the first training step: missing datasets, empty parts, memory and disk space."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from liqe_core.data.labelled import LabelledImages
from liqe_core.data.splits import PARTS
from liqe_core.evaluation.distributed import ALONE, Ranks
from liqe_core.files import first_few, proc_value
from liqe_core.model import LIQE
from liqe_core.training.batches import geometry_of
from liqe_core.training.precision import type_of_products
from liqe_core.training.profiles import Profile
from liqe_core.training.resume import KEPT

#: Values stored for the backward pass per token and block, in units of the block's width. Measured;
#: notebook 90 compares the estimate with the peak.
VALUES_PER_TOKEN = 23


def chosen(settings: Profile, sets: Sequence[LabelledImages], ranks: Ranks = ALONE) -> list:
    """Return the datasets of the profile in its order, after checking that they can be trained on.

    Raises:
        ValueError: if a dataset is missing, has an empty part, an image smaller than a crop, or an image
            without a score (unless no image of the dataset has a score and all have a scene or distortion
            label); or if the batch is too small for the processes or for a pair to rank.
    """
    by_name = {s.name: s for s in sets}
    if missing := [name for name in settings.data.batch_sizes if name not in by_name]:
        raise ValueError(f"batch_sizes needs the dataset {', '.join(missing)}; add it to sets, or remove it")
    found, window = [by_name[name] for name in settings.data.batch_sizes], geometry_of(settings).window
    for dataset in found:
        small = {} if settings.data.enlarge else dataset.too_small(window)
        table = dataset.table
        labelled = table["scenes"].map(bool) | table["distortion"].notna()
        teaches_no_quality = table["mos"].isna().all() and labelled.all()
        for part in PARTS:
            rows = table.iloc[dataset.part(settings.session, part)]
            fault = f"{dataset.name}: the {part} part has"
            if names := [f"{name} ({small[name]})" for name in rows["image"] if name in small]:
                fault += (
                    f" {len(names)} images smaller than a crop of {window} x {window}: {first_few(names)}"
                )
                raise ValueError(f"{fault}; give unfit='leave out', enlarge=True, or larger images")
            unscored = rows["image"][~np.isfinite(rows["mos"].to_numpy(float))].tolist()
            # A score missing by mistake would otherwise go unnoticed.
            if unscored and not teaches_no_quality:
                raise ValueError(f"{fault} images without mos: {first_few(unscored)}; score or remove them")
            if rows["mos"].nunique() < 2 and not teaches_no_quality and settings.model.freeze != "all":
                if part == "train":
                    raise ValueError(f"{fault} no two different scores; check the scores and the split")
                warnings.warn(f"{fault} no two different scores, so its SRCC will be NaN", stacklevel=3)
    processes, images = ranks.world_size, sum(settings.data.batch_sizes.values())
    if processes > 1 and settings.model.batch_norm == "learned":
        raise ValueError(f"batch_norm 'learned' does not support {processes} processes; give 'frozen'")
    if images < processes:
        raise ValueError(f"{processes} processes share {images} images; start fewer, or raise batch_sizes")
    scored = [dataset.name for dataset in found if dataset.table["mos"].notna().any()]
    learns = scored and settings.model.freeze != "all"
    if learns and all(settings.data.batch_sizes[name] == 1 for name in scored):
        raise ValueError(
            "a batch has no pair of images to rank, so quality cannot be learned; give batch_sizes from 2"
        )
    return found


def check(settings: Profile, model: LIQE, folder: Path, ranks: Ranks) -> None:
    """Check that there is enough memory and disk space for the run.

    Raises:
        MemoryError: if a step is estimated to need more memory than is free.
        OSError: if the checkpoints do not fit on the disk.
    """
    check_memory(settings, model, ranks)
    need, free = disk_space(model), shutil.disk_usage(folder).free
    if ranks.leads and need > free:
        problem = f"the checkpoints of this run need {need / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free"
        raise OSError(f"{folder}: {problem}; free some space, or give a folder on another disk")


def check_memory(settings: Profile, model: LIQE, ranks: Ranks) -> int:
    """Estimate the memory of a step and check that it is free.

    Returns:
        Bytes needed in addition to the weights.

    Raises:
        MemoryError: if less memory is free.
    """
    need, free = step_memory(settings, model, ranks.world_size), free_memory(ranks.device)
    if need > free:
        problem = f"a step is estimated to need {need / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free"
        advice = "give gradient_checkpointing=True, smaller batch_sizes or fewer crops"
        raise MemoryError(f"{ranks.device}: {problem}; {advice}")
    return need


def step_memory(settings: Profile, model: LIQE, world_size: int = 1) -> int:
    """Estimate the bytes for training in addition to the weights: gradients, optimiser moments, activations.

    For image towers that are not transformers, only gradients and moments are counted.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    images = -(-sum(settings.data.batch_sizes.values()) // world_size)
    towers = []
    vision = model.architecture["vision_cfg"]
    if settings.model.freeze not in ("image", "all") and isinstance(vision.get("patch_size"), int):
        tokens = 1 + (vision["image_size"] // vision["patch_size"]) ** 2
        towers.append((images * settings.steps.crops * tokens, vision["width"], vision["layers"]))
    text = model.architecture["text_cfg"]
    if settings.model.freeze not in ("text", "all") and "layers" in text:
        tokens = model.text.tree.tokens if model.text.tree else model.text.tokens
        towers.append((tokens.numel(), text["width"], text["layers"]))
    half = type_of_products(settings.machine.precision, model.device.type)
    checkpointing = settings.machine.gradient_checkpointing
    blocks, size = 0, 3 if half else 4  # average bytes per value
    for tokens, width, layers in towers:
        values = layers + VALUES_PER_TOKEN if checkpointing else layers * VALUES_PER_TOKEN
        blocks += tokens * width * values * size
    return 12 * trained + blocks


def disk_space(model: LIQE) -> int:
    """Return the maximum bytes on disk: four checkpoints, the saved states, and one being written."""
    weights = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return 4 * (4 * weights + (KEPT + 1) * (weights + 2 * trained))


def free_memory(device: torch.device) -> int:
    """Return the free bytes of memory on a device; for a CPU, within the limit of its container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if available := proc_value("meminfo", "MemAvailable"):
        free = 1024 * int(available.split()[0])
    else:
        free = 4096 * (os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 40)
    with contextlib.suppress(OSError, ValueError, KeyError):  # no container, or no limit ("max")
        group = Path("/sys/fs/cgroup")
        usage = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(usage["inactive_file"])  # without file cache
        free = min(free, int((group / "memory.max").read_text()) - used)
    return free
