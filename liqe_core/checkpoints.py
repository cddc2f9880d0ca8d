"""Read and write checkpoints without running code from a file.

Four formats are recognised by content: the public LIQE file (a plain state dict), the output of its training
script (``{'model_state_dict': ...}``), pyiqa's file (``{'params': {'clip_model.*': ...}}``), and this
project's format: safetensors with a JSON header that stores the CLIP architecture, the grid, the crop
geometry and the recipe. Wrapper dictionaries and name prefixes of other programs are removed.

The authors' weights are also available by name (`PUBLISHED`). They are downloaded at first use, and their
checksum is pinned from then on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from liqe_core import towers
from liqe_core.crops import CLIP_STATISTICS, Statistics
from liqe_core.files import atomic_path, cache_dir, file_sha256, first_few, mistaken, write_json
from liqe_core.intake.transfers import DiskFullError, FetchError, RemoteFile, fetch_file, hub_file
from liqe_core.prompts import PromptGrid
from liqe_core.towers import Architecture, Clip

#: The key of this project's header in a safetensors file, and the version of the format.
HEADER, VERSION = "liqe_core", 1

#: Weights in the package, by name.
PACKAGED = {"liqe-tiny": Path(__file__).parent / "weights" / "liqe-tiny.safetensors"}

#: The two sources of the authors' weights, in the author's port to IQA-PyTorch, and their licence.
HUB = "chaofengc/IQA-PyTorch-Weights"
SECOND = "https://github.com/zwx8981/IQA-PyTorch/releases/download/Weights/"
LICENCE = "CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/): not for commercial use"


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that can be downloaded by name.

    Attributes:
        file: name of the file at both sources.
        variant: the grid of the weights, a name for `PromptGrid.variant`.
        architecture: open_clip name or configuration.
    """

    file: str
    variant: str
    architecture: Architecture | str = "ViT-B-32-quickgelu"


#: The authors' model of the six datasets, trained on the first split, and their model of KonIQ-10k's scores.
PUBLISHED = {
    "official": Published("liqe_mix.pt", "quality+scene+distortion"),
    "official-koniq": Published("liqe_koniq.pt", "quality"),
}

#: Entries of OpenAI's archives that are not weights.
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")

#: Keys under which training programs store a state dict.
WRAPPERS = ("model_state_dict", "params", "params_ema", "state_dict", "model")

#: Prefixes of the parameter names of a nested model: DataParallel, torch.compile, `LIQE` itself, pyiqa.
PREFIXES = re.compile(r"((module|_orig_mod|clip|clip_model)\.)+")


class CheckpointError(ValueError):
    """Raised if a checkpoint cannot be used. The message names the file, the key and the problem."""


@dataclasses.dataclass
class Checkpoint:
    """The content of a checkpoint file. Entries that a file of another format does not store are None.

    Attributes:
        state_dict: float32 tensors by parameter name in open_clip.
        architecture: the open_clip configuration of the model.
        grid: arguments of `PromptGrid`.
        geometry: arguments of `CropGeometry`.
        statistics: mean and standard deviation that normalise the crops.
        recipe: the settings and results of the training run; empty if not stored.
    """

    state_dict: dict[str, Tensor]
    architecture: dict[str, Any]
    grid: dict[str, Any] | None = None
    geometry: dict[str, Any] | None = None
    statistics: Statistics | None = None
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_checkpoint(path: str | PathLike[str], architecture: Architecture | str | None = None) -> Checkpoint:
    """Read a checkpoint in any of the four formats. Half-precision weights are converted to float32.

    Args:
        path: a file, or a name in `PACKAGED` or `PUBLISHED` if no file has this name.
        architecture: open_clip name or configuration, for a file that does not store it. By default, it is
            inferred from the tensor shapes, with attention heads 64 wide and QuickGELU, as in all OpenAI
            models.

    Raises:
        CheckpointError: if the file is missing, not a checkpoint, would run code when loaded, or does not
            determine the architecture. For a name in `PUBLISHED`, also if the download fails, the weights do
            not fit the architecture, or the file differs from the one at first use.
    """
    if str(path) in PUBLISHED and not Path(path).is_file():
        return _read_published(str(path), architecture)
    path = located(path)
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if not start:
        raise CheckpointError(f"{path}: the file is empty; copy or download it again")
    if mistake := mistaken(start):
        raise CheckpointError(f"{path}: not a checkpoint but {mistake}")
    if start[8:9] == b"{":  # safetensors: 8 bytes with the length of the header, then the header in JSON
        content: object
        content, header = _read_safetensors(path)
    else:
        content, header = _read_torch(path), {}
    state_dict = {}
    for key, value in _unwrapped(path, content).items():
        if key in NOT_WEIGHTS:
            continue
        sparse = isinstance(value, Tensor) and value.layout != torch.strided
        if not isinstance(value, Tensor) or sparse or value.is_meta or value.is_quantized:
            raise CheckpointError(f"{path}: {key!r} is {type(value).__name__}; expected a dense tensor")
        if not value.is_floating_point() and value.dtype != torch.int64:  # int64: counters of batch norms
            raise CheckpointError(f"{path}: {key!r} is a {value.dtype} tensor; save it as float32")
        state_dict[key] = value.detach().float()
    try:
        if architecture is None:
            architecture = header.get("architecture") or towers.openai_architecture(state_dict)
        elif isinstance(architecture, str):
            if not header:
                _warn_of_gelu(path, architecture)
            architecture = towers.architecture(architecture)
        if not isinstance(architecture, Mapping):
            raise towers.ArchitectureError(f"architecture is {architecture!r}; expected a dictionary")
        if header:
            _refuse_larger(architecture, state_dict)
    except towers.ArchitectureError as error:
        raise CheckpointError(f"{path}: {error}") from None
    known = {k: header[k] for k in ("grid", "geometry", "recipe") if header.get(k)}
    if header:
        known["statistics"] = _statistics(path, header.get("statistics", CLIP_STATISTICS))
    return Checkpoint(state_dict, dict(architecture), **known)


def _refuse_larger(architecture: Architecture, state_dict: Mapping[str, Tensor]) -> None:
    """Reject a header that describes a larger model than the weights in the file.

    Building such a model could take hours or all memory.

    Raises:
        ArchitectureError: if a size in the header exceeds the number of weights. The message names the part.
    """
    weights = sum(value.numel() for value in state_dict.values())
    for part, sizes in architecture.items():
        values = sizes.values() if isinstance(sizes, Mapping) else [sizes]
        numbers = [number for value in values for number in (value if isinstance(value, list) else [value])]
        if any(isinstance(number, (int, float)) and number > weights for number in numbers):
            raise towers.ArchitectureError(
                f"the header describes a {part} larger than the {weights} weights of the file; get it again"
            )


def is_weights(path: str | PathLike[str]) -> bool:
    """Return whether the argument is a file or a name in `PACKAGED` or `PUBLISHED`."""
    return Path(path).is_file() or path in PACKAGED or path in PUBLISHED


def located(path: str | PathLike[str]) -> Path:
    """Return the checkpoint file of a path or a name; for a name in `PUBLISHED`, its downloaded copy.

    Raises:
        CheckpointError: if the file does not exist.
    """
    path = Path(path)
    if not path.is_file():
        named = PUBLISHED.get(str(path))
        path = cache_dir("weights") / named.file if named else PACKAGED.get(str(path), path)
    if not path.is_file():
        fault = "a folder, not a file" if path.is_dir() else "no such file"
        names = ", ".join([*(name for name, file in PACKAGED.items() if file.is_file()), *PUBLISHED])
        raise CheckpointError(f"{path}: {fault}; check the path, or give one of the names {names}")
    return path


def _warn_of_gelu(path: Path, architecture: str) -> None:
    """Warn if OpenAI's weights may be loaded with GELU instead of QuickGELU.

    The weights fit both, but the model computes a different function.
    """
    name = architecture.replace("/", "-")
    if f"{name}-quickgelu" in open_clip.list_models():
        warnings.warn(
            f"{path}: loaded as {name} with GELU activations; OpenAI's weights and models trained from "
            f"them, for example LIQE.pt, need QuickGELU: give architecture {name}-quickgelu",
            stacklevel=4,
        )


def first_sight(path: Path) -> dict[str, str]:
    """Return the ``sha256`` and ``url`` of published weights at first use; {} before."""
    record = path.with_suffix(".json")
    return json.loads(record.read_text("utf-8")) if record.is_file() else {}


def _read_published(name: str, architecture: Architecture | str | None) -> Checkpoint:
    """Read published weights from the cache folder, and download them at first use.

    The authors publish no checksum. The checksum of the first valid file (finite weights that fit the
    architecture) is therefore saved, and other files are rejected from then on.
    """
    published = PUBLISHED[name]
    path = cache_dir("weights") / published.file
    known = first_sight(path)
    fetched = "" if path.is_file() else _fetch_published(name, path, known)
    try:
        sha256 = file_sha256(path)
        if known and sha256 != known["sha256"]:
            raise CheckpointError(
                f"{path}: checksum differs (SHA-256 {sha256}, at first use {known['sha256']}); to accept "
                f"the new file, delete {path.with_suffix('.json')}"
            )
        checkpoint = read_checkpoint(path, published.architecture)
        if not known:
            load_weights(towers.build(checkpoint.architecture), checkpoint.state_dict, path)
    except CheckpointError as error:
        advice = f"to download it again, delete {path}"
        if fetched:
            path.unlink()
            advice = f"the download from {fetched} was deleted; try again, or put the right file there"
        raise CheckpointError(f"{name}: {error}; {advice}") from None
    if not known:
        write_json(path.with_suffix(".json"), {"sha256": sha256, "url": fetched})
        origin = fetched or "an existing file"
        print(
            f"{name}: {path.name}, SHA-256 {sha256}, from {origin}, saved at {path}\nlicence: {LICENCE}",
            file=sys.stderr,
        )
    if architecture is not None:
        checkpoint = read_checkpoint(path, architecture)
    return dataclasses.replace(checkpoint, grid=PromptGrid.variant(published.variant).to_dict())


def _fetch_published(name: str, path: Path, known: Mapping[str, str]) -> str:
    """Download weights from the hub, at the commit of first use, or from the second address if that fails."""
    sha256, newest = known.get("sha256"), hub_file(HUB, path.name, kind="model")
    second = RemoteFile(SECOND + path.name, sha256)
    url = known["url"] if known.get("url") not in (None, "", second.url) else newest.url
    failures = []
    for source in (RemoteFile(url, sha256, newest.page), second):
        try:
            return fetch_file(source, path)
        except DiskFullError as error:
            raise CheckpointError(f"{name}: {error}") from error
        except FetchError as error:
            failures.append(str(error))
    raise CheckpointError(
        f"{name}: {path.name} cannot be downloaded. {'. '.join(failures)}. Alternatively, get it from one of "
        f"these addresses in a browser and put it at {path}, or give the path of a file"
    )


def _statistics(path: Path, entry: object) -> Statistics:
    try:
        mean, std = (tuple(map(float, values)) for values in entry)  # type: ignore[attr-defined]
        if len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0:
            return Statistics(mean, std)
    except (TypeError, ValueError, OverflowError):
        pass
    raise CheckpointError(f"{path}: statistics are {entry!r}; expected three means and three deviations")


def read_recipe(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the recipe of a checkpoint in this project's format, without its weights.

    Raises:
        CheckpointError: if the file is missing, damaged or of another version.
    """
    _, header = _read_safetensors(Path(path), with_tensors=False)
    return header.get("recipe") or {}


def _read_safetensors(path: Path, with_tensors: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            tensors = {key: file.get_tensor(key) for key in (file.keys() if with_tensors else ())}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); check the path") from None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: damaged or truncated ({error}); copy or download it again") from None
    if header is None:  # safetensors of another program
        return tensors, {}
    if not isinstance(header, dict) or header.get("version") != VERSION:
        problem = f"the liqe_core header does not have format version {VERSION}"
        raise CheckpointError(f"{path}: {problem}; update liqe_core, or save the weights again")
    return tensors, header


def _read_torch(path: Path) -> object:
    try:
        # The public training script stores its results as NumPy scalars beside the weights.
        # An open file instead of a path, because torch guesses the format from some suffixes.
        with torch.serialization.safe_globals(_numpy_scalars()), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises many types
        advice = "check its content, or copy or download it again"
        if "TorchScript" in str(error):
            advice = "a TorchScript archive holds code; save its state dict, or use pretrained='openai'"
        elif culprit := re.search(r"(?i)unsupported (global|class)[: ]+(GLOBAL )?(\S+)", str(error)):
            advice = f"it holds more than tensors and could run code when loaded ({culprit[3]}); get the "
            advice += "weights as a plain state dict or as safetensors"
        raise CheckpointError(f"{path}: not a checkpoint that torch can read; {advice}") from None


def _numpy_scalars() -> list[Any]:
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")]
    # Files written with NumPy 1 refer to the same function under its old module name.
    return [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")] + [np.dtype, *kinds]


def _unwrapped(path: Path, content: object) -> dict[str, object]:
    """Return the state dict in the content of a file, with parameter names as in open_clip."""
    for _ in WRAPPERS:  # bounded, because a dictionary can contain itself
        inner = [content[key] for key in WRAPPERS if isinstance(content, Mapping) and key in content]
        content = next((value for value in inner if isinstance(value, Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        found = f"an empty {type(content).__name__}" if content == {} else type(content).__name__
        raise CheckpointError(
            f"{path}: contains {found}, not a dictionary of tensors; give a file of weights"
        )
    if odd := [key for key in content if not isinstance(key, str)]:
        raise CheckpointError(f"{path}: an entry has the key {odd[0]!r}; expected a parameter name")
    return {key[prefix.end() if (prefix := PREFIXES.match(key)) else 0 :]: content[key] for key in content}


def load_weights(clip: Clip, state_dict: Mapping[str, Tensor], source: str | PathLike[str]) -> None:
    """Load weights into a model after checking all of them.

    Raises:
        CheckpointError: for missing or unexpected keys, wrong shapes, NaN or infinity. The message lists the
            keys by problem.
    """
    wanted = clip.state_dict()
    faults = {
        "missing": [key for key in wanted if key not in state_dict],
        "unexpected": [key for key in state_dict if key not in wanted],
        "of another shape": [
            f"{key} {tuple(value.shape)} instead of {tuple(wanted[key].shape)}"
            for key, value in state_dict.items()
            if key in wanted and value.shape != wanted[key].shape
        ],
        "with NaN or infinity": [key for key, value in state_dict.items() if not value.isfinite().all()],
    }
    if any(faults.values()):
        listed = "; ".join(f"{fault}: {first_few(keys)}" for fault, keys in faults.items() if keys)
        raise CheckpointError(f"{source}: the weights do not fit the architecture: {listed}")
    clip.load_state_dict(state_dict)


def write_checkpoint(
    path: str | PathLike[str],
    state_dict: Mapping[str, Tensor],
    header: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a checkpoint in this project's format: safetensors with a complete header.

    Args:
        path: the file; replaced atomically.
        header: ``architecture, grid, geometry, statistics, recipe``, as in `Checkpoint`.
        dtype: dtype of floating-point weights in the file; None: unchanged.
    """
    content = json.dumps({"version": VERSION, **header})
    tensors = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for key, value in state_dict.items()
    }
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={HEADER: content})
