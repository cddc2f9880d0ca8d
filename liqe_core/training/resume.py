"""The state of a run on disk, so that stopping it anywhere costs minutes and changes nothing.

A state is two files, ``state_0000400.safetensors`` (every tensor) and ``state_0000400.json`` (everything
else, and the checksum of the first), where 400 is how many steps had been taken. The JSON is written last
and carries its own checksum: a state is whole or recognised as torn. The last two are kept.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from liqe_core.files import atomic_path, file_sha256, is_disk_full, json_sha256, write_json

KEPT = 2
log = logging.getLogger(__name__)


class StateError(RuntimeError):
    """The saved states of a run cannot be used; the message says what to do."""


def save_state(folder: Path, steps: int, tensors: Mapping[str, Tensor], content: Mapping) -> None:
    """Write a state and remove all but the last `KEPT`.

    Args:
        steps: taken so far; the state's name.
        tensors: on any device.
        content: what JSON can hold; floats come back bit for bit, NaN and infinity too.
    """
    path = Path(folder) / f"state_{steps:07d}.safetensors"
    with atomic_path(path) as part:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part)
        checksum = file_sha256(part)
    whole = {"tensors_sha256": checksum, **content}
    write_json(path.with_suffix(".json"), {"sha256": json_sha256(whole), **whole})
    for old in _saved(folder)[KEPT:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict] | None:
    """The latest state that is whole: (tensors, content), or None where none was ever saved.

    Raises:
        StateError: there are states, and all are damaged.
    """
    damaged = []
    for path in _saved(folder):
        try:
            whole = json.loads(path.read_text(encoding="utf-8"))
            checksum = whole.pop("sha256")
            tensors = path.with_suffix(".safetensors")
            if checksum != json_sha256(whole) or whole.pop("tensors_sha256") != file_sha256(tensors):
                raise ValueError("checksum")
            return load_file(tensors), whole
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            damaged.append(path.stem)
            log.warning("%s: %s is torn or damaged (%s); trying the one before it", folder, path.stem, error)
    if damaged:
        raise StateError(
            f"{folder}: the saved states {', '.join(damaged)} are all damaged; give restart=True (or another "
            "folder) to train from the beginning"
        )
    return None


def remove_states(folder: Path) -> None:
    """Remove what a finished run no longer needs."""
    for path in [*Path(folder).glob("state_*.json"), *Path(folder).glob("state_*.safetensors")]:
        path.unlink(missing_ok=True)


def pack(clip: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, the optimiser's moments and torch's random states, by name."""
    tensors = {f"weights/{name}": value for name, value in clip.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": value for name, value in moments.items()}
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    return tensors


def unpack(tensors: Mapping[str, Tensor], clip: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put back what `pack` gave."""
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}, "random": {}}
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        parts[part][name] = value
    clip.load_state_dict(parts["weights"])
    moments: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in parts["optimizer"].items():
        number, name = key.split("/")
        parameter = parameters[int(number)]
        if (
            value.shape == parameter.shape
        ):  # fused AdamW walks memory: a moment must lie in it as its parameter does
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        moments.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    torch.set_rng_state(parts["random"]["cpu"])
    if "cuda" in parts["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(parts["random"]["cuda"])


@contextlib.contextmanager
def space_explained(folder: Path) -> Iterator[None]:
    """A full disk as an error that says what was kept and how to go on.

    Raises:
        OSError: instead of any writer's own error for it.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not is_disk_full(error):
            raise
        saved = _saved(folder)
        kept = f"the state after {int(saved[0].stem[6:])} steps is kept" if saved else "no state is there yet"
        raise OSError(
            errno.ENOSPC, f"no space left for {folder}: {kept}; free some and start the same command again"
        ) from error


def _saved(folder: Path) -> list[Path]:
    return sorted(Path(folder).glob("state_*.json"), reverse=True)
