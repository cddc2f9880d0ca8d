"""Run folders: each belongs to one run and describes it.

``settings.json`` stores the settings, datasets, versions, commit and machine, and an entry for each start. A
folder rejects runs with other settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import torch

import liqe_core
from liqe_core.data.labelled import LabelledImages
from liqe_core.evaluation.distributed import ALONE, Ranks
from liqe_core.files import CHECKOUT, first_few, json_sha256, only_one, proc_value, write_json
from liqe_core.training.profiles import Profile
from liqe_core.training.resume import ANEW

#: Pattern of the temporary files of a process that was killed while writing.
PARTS = ".*.part*"
#: Patterns of the files of a run. `restart` removes only these.
PRODUCTS = ("settings.json", "*.csv", "best_*.safetensors", "state_*", PARTS)

#: Version of ``settings.json``. A folder with another version is neither resumed nor read.
FORMAT = 2


class RunFolderError(ValueError):
    """Raised if a run folder belongs to another run. The message says what to do."""


def run_folder(settings: Profile, root: str | Path) -> Path:
    """Return the folder below `root` for a run with these settings; each combination has its own."""
    digest = json_sha256(settings.deciding())[:8]
    name = f"{settings.model.variant}_session-{settings.session}_seed-{settings.seed}_{digest}"
    return Path(root) / "train" / name


@contextlib.contextmanager
def claimed(
    folder: str | os.PathLike, description: Mapping, ranks: Ranks = ALONE, restart: bool = False
) -> Iterator[Path]:
    """Create or reopen the folder of a run, and lock it within the block.

    Args:
        description: the result of `describe`.
        restart: remove the files of an earlier run.

    Raises:
        BusyError: if another process uses the folder.
        RunFolderError: if it belongs to a run with other settings or data.
    """
    folder = Path(folder)
    with contextlib.ExitStack() as stack:
        if ranks.leads:
            folder.mkdir(parents=True, exist_ok=True)
            # The lock file is in the run folder, which several machines may share.
            stack.enter_context(only_one(folder, doing="training in", lock=folder / ".in_use"))
            for pattern in PRODUCTS if restart else (PARTS,):
                for product in folder.glob(pattern):
                    product.unlink()
            _take(folder, description)
        ranks.wait()
        yield folder


def is_finished(folder: Path) -> bool:
    """Return whether the last file of the run exists."""
    return (Path(folder) / "results.csv").is_file()


def read_results(folder: str | os.PathLike) -> pd.DataFrame:
    """Read ``results.csv`` of a finished run, with exact numbers."""
    return pd.read_csv(Path(folder) / "results.csv")  # exact from pandas 3.1 on


def read_description(folder: str | os.PathLike) -> tuple[Profile, dict]:
    """Read the settings of a run, and the complete content of its ``settings.json``.

    Raises:
        ValueError: if the file cannot be read or is of another version.
    """
    description = json.loads((Path(folder) / "settings.json").read_text(encoding="utf-8"))
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"settings.json does not have format {FORMAT}; train the run again")
    return Profile.model_validate(description["settings"]), description


def describe(settings: Profile, sets: Sequence[LabelledImages], ranks: Ranks = ALONE) -> dict:
    """Return the description of a run for its folder: settings, data, versions, code and machine."""
    processor = proc_value("cpuinfo", "model name") or platform.processor() or platform.machine()
    machine = {"system": platform.system(), "processor": processor, "cores": os.cpu_count()}
    machine |= {"threads": torch.get_num_threads(), "device": str(ranks.device)}
    machine |= {"processes": ranks.world_size}
    if ranks.device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(ranks.device)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    versions |= {"open_clip": open_clip.__version__, "liqe_core": liqe_core.__version__}
    return {
        "format": FORMAT,
        "settings": settings.model_dump(),
        "data": {s.name: {"images": len(s), **_checksums(s.table, s, range(len(s)))} for s in sets},
        "used": {s.name: _used(s, settings.session) for s in sets},
        "left_out": {s.name: dict(s.left_out) for s in sets if s.left_out},
        "versions": versions,
        "code": _commit(),
        "machine": machine,
    }


def fingerprint(table: pd.DataFrame) -> str:
    """Return a checksum of a label table."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def differences(old: Mapping, new: Mapping, ignore: Sequence[str] = ()) -> list[str]:
    """Return ``name: old -> new`` for each entry that differs between two nested dictionaries."""
    before, after = (pd.json_normalize([content]).to_dict("records")[0] for content in (old, new))
    pairs = {key: [flat.get(key, "missing") for flat in (before, after)] for key in before | after}
    differing = {key: pair for key, pair in pairs.items() if key not in ignore and pair[0] != pair[1]}
    return [f"{key}: {pair[0]!r} -> {pair[1]!r}" for key, pair in differing.items()]


def _take(folder: Path, description: Mapping) -> None:
    """Assign the folder to the run, or check that it belongs to it."""
    path = folder / "settings.json"
    description = json.loads(json.dumps(description))  # the form in which the file is read
    start: dict[str, object] = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    if not path.exists():
        if products := [p.name for pattern in PRODUCTS for p in folder.glob(pattern)]:
            problem = f"contains {', '.join(products[:4])} but no settings.json to identify the run"
            raise RunFolderError(f"{folder}: {problem}; {ANEW}")
        write_json(path, {**description, "starts": [start]})
        return
    try:
        settings, old = read_description(folder)
        wanted = Profile.model_validate(description["settings"])
        changed = differences(settings.deciding(), wanted.deciding())
        part = "data" if is_finished(folder) else "used"
        changed += differences(old[part], description[part])
    except (ValueError, KeyError, AttributeError, TypeError):
        raise RunFolderError(f"{path}: damaged or of another version; {ANEW}") from None
    if changed:
        problem = f"belongs to a run with other settings or data (saved -> new): {first_few(changed)}"
        raise RunFolderError(f"{folder}: {problem}; give the settings of that run, {ANEW}")
    if is_finished(folder):
        return
    for part in ("data", "versions", "code", "machine"):
        if moved := differences(old.get(part) or {}, description[part] or {}):
            start[part] = moved
    # The data of the last start is used for testing.
    write_json(path, {**old, "data": description["data"], "starts": [*old.get("starts", []), start]})


def _used(dataset: LabelledImages, session: int) -> dict[str, str]:
    """Return checksums of the training and validation data, which determine the weights of a run."""
    used = np.sort(np.concatenate([dataset.part(session, part) for part in ("train", "val")]))
    labels = dataset.table[["image", "mos", "distortion_group", "scenes"]].iloc[used]
    return _checksums(labels.assign(part=dataset.table[f"session_{session}"]), dataset, used)


def _checksums(
    labels: pd.DataFrame, dataset: LabelledImages, rows: Sequence[int] | np.ndarray
) -> dict[str, str]:
    """Return checksums of the labels and of eight images spread over the rows.

    The checksums of all images would take minutes.
    """
    digest = hashlib.sha256()
    for number in sorted({i * len(rows) // 8 for i in range(8)} if len(rows) else ()):
        pixels = np.ascontiguousarray(dataset.images[int(rows[number])])
        digest.update(repr(pixels.shape).encode() + pixels.tobytes())
    return {"labels_sha256": fingerprint(labels), "some_images_sha256": digest.hexdigest()}


def _commit() -> dict:
    """Return the commit of the checkout, and whether files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "modified": None}
