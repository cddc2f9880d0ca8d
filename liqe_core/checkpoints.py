"""Reading and writing weights, so that nothing that is loaded can run code.

Four kinds of file are told apart by content: the public LIQE file (a plain state dict), what its training
script saves (``{'model_state_dict': ...}``), pyiqa's (``{'params': {'clip_model.*': ...}}``), and our own:
safetensors with a JSON header that names the CLIP architecture, the grid, the crop geometry and the recipe.
What other programs put around a state dict, and before its names, is taken off.

The authors' weights are also known by name (`PUBLISHED`): fetched at first use, checked, and pinned from then
on.
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

#: The key of our header in a safetensors file, and the version of what is in it.
HEADER, VERSION = "liqe_core", 1

#: Weights that come with the package, by the name that stands for their file.
PACKAGED = {"liqe-tiny": Path(__file__).parent / "weights" / "liqe-tiny.safetensors"}

#: Where the authors' weights are, in their author's port to IQA-PyTorch, and on what terms.
HUB = "chaofengc/IQA-PyTorch-Weights"
SECOND = "https://github.com/zwx8981/IQA-PyTorch/releases/download/Weights/"
LICENCE = "CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/): not for commercial use"


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that are fetched by name.

    Attributes:
        file: its name at either source.
        variant: the grid that they were trained with, of `PromptGrid.variant`.
        architecture: open_clip's name or configuration.
    """

    file: str
    variant: str
    architecture: Architecture | str = "ViT-B-32-quickgelu"


#: The authors' model of the six datasets, trained on the first split, and theirs of KonIQ-10k's scores.
PUBLISHED = {
    "official": Published("liqe_mix.pt", "quality+scene+distortion"),
    "official-koniq": Published("liqe_koniq.pt", "quality"),
}

#: Entries that OpenAI's archives carry beside the weights.
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")

#: What training programs keep a state dict under.
WRAPPERS = ("model_state_dict", "params", "params_ema", "state_dict", "model")

#: What stands before a name when a model was saved within another: by DataParallel, by torch.compile, by
#: `LIQE` itself, by pyiqa.
PREFIXES = re.compile(r"((module|_orig_mod|clip|clip_model)\.)+")


class CheckpointError(ValueError):
    """Weights that cannot be used; the message names the file, the key, and what is wrong with it."""


@dataclasses.dataclass
class Checkpoint:
    """What a file holds.

    Attributes:
        state_dict: parameter name, as in open_clip, to float32 tensor.
        architecture: open_clip's configuration of the model.
        grid: arguments of `PromptGrid`, where the file says.
        geometry: arguments of `CropGeometry`, where the file says.
        statistics: what the crops are scaled by; None: the file is not ours, and does not say.
        recipe: how the weights were trained, where the file says.
    """

    state_dict: dict[str, Tensor]
    architecture: dict[str, Any]
    grid: dict[str, Any] | None = None
    geometry: dict[str, Any] | None = None
    statistics: Statistics | None = None
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_checkpoint(path: str | PathLike[str], architecture: Architecture | str | None = None) -> Checkpoint:
    """Read any of the four kinds. Half-precision weights come back as float32.

    Args:
        path: a file, or a name from `PACKAGED` or `PUBLISHED`, where no file is called so.
        architecture: open_clip's name or configuration, for a file that does not say it. By default the sizes
            are read off the shapes, with attention heads 64 wide and QuickGELU, as in all of OpenAI's models.

    Raises:
        CheckpointError: no such file, not a checkpoint, one that would run code when loaded, or one without
            the tensors that give the architecture; for a name of `PUBLISHED` also: not to be had, not the
            weights of its architecture, or others than at first use.
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
        raise CheckpointError(f"{path}: no weights but {mistake}")
    if start[8:9] == b"{":  # a safetensors file: the header's length in 8 bytes, then the header in JSON
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
            raise CheckpointError(f"{path}: {key!r} is {type(value).__name__}, expected a dense tensor")
        if not value.is_floating_point() and value.dtype != torch.int64:  # as batch norms count
            raise CheckpointError(f"{path}: {key!r} has values of {value.dtype}; save it as float32")
        state_dict[key] = value.detach().float()
    try:
        if architecture is None:
            architecture = header.get("architecture") or towers.openai_architecture(state_dict)
        elif isinstance(architecture, str):
            if not header:
                _warn_of_gelu(path, architecture)
            architecture = towers.architecture(architecture)
        if not isinstance(architecture, Mapping):
            raise towers.ArchitectureError(f"{architecture!r} is no architecture, expected a dictionary")
        if header:
            _refuse_larger(architecture, state_dict)
    except towers.ArchitectureError as error:
        raise CheckpointError(f"{path}: {error}") from None
    known = {k: header[k] for k in ("grid", "geometry", "recipe") if header.get(k)}
    if header:
        known["statistics"] = _statistics(path, header.get("statistics", CLIP_STATISTICS))
    return Checkpoint(state_dict, dict(architecture), **known)


def _refuse_larger(architecture: Architecture, state_dict: Mapping[str, Tensor]) -> None:
    """A header that names a larger model than its file has weights for: to build it would take hours, or all
    memory, only to find it wrong.

    Raises:
        ArchitectureError: it does; says which part.
    """
    weights = sum(value.numel() for value in state_dict.values())
    for part, sizes in architecture.items():
        values = sizes.values() if isinstance(sizes, Mapping) else [sizes]
        numbers = [number for value in values for number in (value if isinstance(value, list) else [value])]
        if any(isinstance(number, (int, float)) and number > weights for number in numbers):
            raise towers.ArchitectureError(
                f"its header names a {part} of more weights than the {weights} in the file; get it again"
            )


def is_weights(path: str | PathLike[str]) -> bool:
    """Whether that is a file, or a name that has weights."""
    return Path(path).is_file() or path in PACKAGED or path in PUBLISHED


def located(path: str | PathLike[str]) -> Path:
    """The file of weights at that path, or under that name: of `PACKAGED`, or of `PUBLISHED`, where those are
    kept once they were fetched.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(path)
    if not path.is_file():
        named = PUBLISHED.get(str(path))
        path = cache_dir("weights") / named.file if named else PACKAGED.get(str(path), path)
    if not path.is_file():
        fault = "a folder, not a file" if path.is_dir() else "no such file"
        names = ", ".join([*(name for name, file in PACKAGED.items() if file.is_file()), *PUBLISHED])
        raise CheckpointError(f"{path}: {fault}; check the path, or give a name that has weights: {names}")
    return path


def _warn_of_gelu(path: Path, architecture: str) -> None:
    """OpenAI's models, which LIQE starts from, compute another function under the other activation, and the
    weights fit both."""
    name = architecture.replace("/", "-")
    if f"{name}-quickgelu" in open_clip.list_models():
        warnings.warn(
            f"{path}: loaded as {name}, whose activation is GELU; OpenAI's weights, and what was trained "
            f"from them, LIQE.pt for one, need QuickGELU: give architecture {name}-quickgelu",
            stacklevel=4,
        )


def first_sight(path: Path) -> dict[str, str]:
    """What was noted of published weights at first use, {} before: ``sha256`` and ``url``."""
    record = path.with_suffix(".json")
    return json.loads(record.read_text("utf-8")) if record.is_file() else {}


def _read_published(name: str, architecture: Architecture | str | None) -> Checkpoint:
    """Weights by name: from the cache folder, where they are put at first use.

    No checksum of them is published, so that of the first file that holds whole and finite weights of the
    right architecture is noted, and any other is refused from then on.
    """
    published = PUBLISHED[name]
    path = cache_dir("weights") / published.file
    known = first_sight(path)
    fetched = "" if path.is_file() else _fetch_published(name, path, known)
    try:
        sha256 = file_sha256(path)
        if known and sha256 != known["sha256"]:
            raise CheckpointError(
                f"{path}: checksum differs (SHA-256 {sha256}, at first use {known['sha256']}); if you want "
                f"the new file, delete {path.with_suffix('.json')}"
            )
        checkpoint = read_checkpoint(path, published.architecture)
        if not known:
            load_weights(towers.build(checkpoint.architecture), checkpoint.state_dict, path)
    except CheckpointError as error:
        advice = f"to fetch it again, delete {path}"
        if fetched:
            path.unlink()
            advice = f"it came from {fetched} and was deleted; try again, or put the right file there"
        raise CheckpointError(f"{name}: {error}; {advice}") from None
    if not known:
        write_json(path.with_suffix(".json"), {"sha256": sha256, "url": fetched})
        origin = fetched or "a file that was there already"
        print(
            f"{name}: {path.name}, SHA-256 {sha256}, from {origin}, kept at {path}\nlicence: {LICENCE}",
            file=sys.stderr,
        )
    if architecture is not None:
        checkpoint = read_checkpoint(path, architecture)
    return dataclasses.replace(checkpoint, grid=PromptGrid.variant(published.variant).to_dict())


def _fetch_published(name: str, path: Path, known: Mapping[str, str]) -> str:
    """Fetch weights from the hub, at the commit of first use, else from the second address."""
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
        f"{name}: {path.name} could not be fetched. {'. '.join(failures)}. Or get it with a browser, from "
        f"either address, and put it at {path}, or give the path of a file instead"
    )


def _statistics(path: Path, entry: object) -> Statistics:
    try:
        mean, std = (tuple(map(float, values)) for values in entry)  # type: ignore[attr-defined]
        if len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0:
            return Statistics(mean, std)
    except (TypeError, ValueError, OverflowError):
        pass
    raise CheckpointError(f"{path}: statistics are {entry!r}, expected three means and three deviations")


def read_recipe(path: str | PathLike[str]) -> dict[str, Any]:
    """How the weights in a file of our own format were trained, without reading them.

    Raises:
        CheckpointError: no such file, damaged, or of another version.
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
        raise CheckpointError(f"{path}: damaged or cut short ({error}); copy or download it again") from None
    if header is None:  # safetensors written by someone else
        return tensors, {}
    if not isinstance(header, dict) or header.get("version") != VERSION:
        problem = f"its header is not one of version {VERSION} of our format"
        raise CheckpointError(f"{path}: {problem}; update liqe_core, or save the weights anew")
    return tensors, header


def _read_torch(path: Path) -> object:
    try:
        # The training script keeps its results as NumPy scalars beside the weights.
        # An opened file, not its path: by the path's suffix torch would guess another format.
        with torch.serialization.safe_globals(_numpy_scalars()), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever it runs into
        advice = "check what it holds, or copy or download it again"
        if "TorchScript" in str(error):
            advice = "a TorchScript archive holds code; save its state dict, or use pretrained='openai'"
        elif culprit := re.search(r"(?i)unsupported (global|class)[: ]+(GLOBAL )?(\S+)", str(error)):
            advice = f"it holds more than tensors, and could run code when loaded ({culprit[3]}); get the "
            advice += "weights as a plain state dict or as safetensors"
        raise CheckpointError(f"{path}: not a checkpoint that torch can read; {advice}") from None


def _numpy_scalars() -> list[Any]:
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")]
    # Files written with NumPy 1 name the same function by its old place.
    return [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")] + [np.dtype, *kinds]


def _unwrapped(path: Path, content: object) -> dict[str, object]:
    """The state dict in what a file holds, by the names that open_clip has."""
    for _ in WRAPPERS:  # a dictionary can hold itself
        inner = [content[key] for key in WRAPPERS if isinstance(content, Mapping) and key in content]
        content = next((value for value in inner if isinstance(value, Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        found = f"an empty {type(content).__name__}" if content == {} else type(content).__name__
        raise CheckpointError(f"{path}: holds {found}, expected a dictionary of tensors")
    if odd := [key for key in content if not isinstance(key, str)]:
        raise CheckpointError(f"{path}: {odd[0]!r} names an entry, expected text, the name of a parameter")
    return {key[prefix.end() if (prefix := PREFIXES.match(key)) else 0 :]: content[key] for key in content}


def load_weights(clip: Clip, state_dict: Mapping[str, Tensor], source: str | PathLike[str]) -> None:
    """Put weights into a model, all of them or none.

    Raises:
        CheckpointError: keys missing or too many, wrong shapes, NaN or infinity; lists them by kind.
    """
    wanted = clip.state_dict()
    faults = {
        "missing": [key for key in wanted if key not in state_dict],
        "not in the model": [key for key in state_dict if key not in wanted],
        "of another shape": [
            f"{key} {tuple(value.shape)} instead of {tuple(wanted[key].shape)}"
            for key, value in state_dict.items()
            if key in wanted and value.shape != wanted[key].shape
        ],
        "with NaN or infinity": [key for key, value in state_dict.items() if not value.isfinite().all()],
    }
    if any(faults.values()):
        listed = "; ".join(f"{fault}: {first_few(keys)}" for fault, keys in faults.items() if keys)
        raise CheckpointError(f"{source}: these weights do not fit the architecture: {listed}")
    clip.load_state_dict(state_dict)


def write_checkpoint(
    path: str | PathLike[str],
    state_dict: Mapping[str, Tensor],
    header: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write our format: safetensors, and a header by which `read_checkpoint` needs nothing else.

    Args:
        path: the file; replaced atomically.
        header: ``architecture, grid, geometry, statistics, recipe``, as in `Checkpoint`.
        dtype: what floating-point weights are rounded to; None: kept.
    """
    content = json.dumps({"version": VERSION, **header})
    tensors = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for key, value in state_dict.items()
    }
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={HEADER: content})
