"""A run folder: one run at a time, and it says by itself what it was and what it is.

``settings.json`` holds settings, datasets, versions, code and machine, and a line for each start. A folder
takes the run it was made for and no other.
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

#: What a process leaves that was killed while it wrote.
PARTS = ".*.part*"
#: What a run writes, by pattern; `restart` removes these and nothing else.
PRODUCTS = ("settings.json", "*.csv", "best_*.safetensors", "state_*", PARTS)

#: Of ``settings.json``. A folder of another format is neither resumed nor read.
FORMAT = 2


class RunFolderError(ValueError):
    """The folder is of another run; the message says which and what to do."""


def run_folder(settings: Profile, root: str | Path) -> Path:
    """Where a run of these settings belongs below `root`; other settings get another folder."""
    digest = json_sha256(settings.deciding())[:8]
    name = f"{settings.model.variant}_session-{settings.session}_seed-{settings.seed}_{digest}"
    return Path(root) / "train" / name


@contextlib.contextmanager
def claimed(
    folder: str | os.PathLike, description: Mapping, ranks: Ranks = ALONE, restart: bool = False
) -> Iterator[Path]:
    """The folder of a run, created or found again, for the length of the block.

    Args:
        description: from `describe`.
        restart: remove what an earlier run left there.

    Raises:
        BusyError: another process is at work in it.
        RunFolderError: it is of a run with other settings or data.
    """
    folder = Path(folder)
    with contextlib.ExitStack() as stack:
        if ranks.leads:
            folder.mkdir(parents=True, exist_ok=True)
            # In the folder itself, which processes on several machines may share.
            stack.enter_context(only_one(folder, doing="training in", lock=folder / ".in_use"))
            for pattern in PRODUCTS if restart else (PARTS,):
                for product in folder.glob(pattern):
                    product.unlink()
            _take(folder, description)
        ranks.wait()
        yield folder


def is_finished(folder: Path) -> bool:
    """Whether the run's last file is there."""
    return (Path(folder) / "results.csv").is_file()


def read_results(folder: str | os.PathLike) -> pd.DataFrame:
    """``results.csv`` of a finished run, every number as it was."""
    return pd.read_csv(Path(folder) / "results.csv")  # exact from pandas 3.1 on


def read_description(folder: str | os.PathLike) -> tuple[Profile, dict]:
    """The settings of a run, and all of its ``settings.json``.

    Raises:
        ValueError: it cannot be read, or is of another version.
    """
    description = json.loads((Path(folder) / "settings.json").read_text(encoding="utf-8"))
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"settings.json is not of format {FORMAT}")
    return Profile.model_validate(description["settings"]), description


def describe(settings: Profile, sets: Sequence[LabelledImages], ranks: Ranks = ALONE) -> dict:
    """What a run folder says about its run: settings, data, versions, code, machine."""
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
    """Equal for equal label tables."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def differences(old: Mapping, new: Mapping, ignore: Sequence[str] = ()) -> list[str]:
    """``name: old -> new`` for every entry that differs between two nested dictionaries."""
    before, after = (pd.json_normalize([content]).to_dict("records")[0] for content in (old, new))
    pairs = {key: [flat.get(key, "not there") for flat in (before, after)] for key in before | after}
    differing = {key: pair for key, pair in pairs.items() if key not in ignore and pair[0] != pair[1]}
    return [f"{key}: {pair[0]!r} -> {pair[1]!r}" for key, pair in differing.items()]


def _take(folder: Path, description: Mapping) -> None:
    """Make the folder this run's, or make sure that it is."""
    path = folder / "settings.json"
    description = json.loads(json.dumps(description))  # as it will be read back
    start: dict[str, object] = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    if not path.exists():
        if products := [p.name for pattern in PRODUCTS for p in folder.glob(pattern)]:
            problem = f"holds {', '.join(products[:4])} and no settings.json to say of which run"
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
        problem = f"the run there has other settings or data (its own -> these): {first_few(changed)}"
        raise RunFolderError(f"{folder}: {problem}; give the settings of that run, {ANEW}")
    if is_finished(folder):
        return
    for part in ("data", "versions", "code", "machine"):
        if moved := differences(old.get(part) or {}, description[part] or {}):
            start[part] = moved
    # The data of the last start is what the run will be tested on.
    write_json(path, {**old, "data": description["data"], "starts": [*old.get("starts", []), start]})


def _used(dataset: LabelledImages, session: int) -> dict[str, str]:
    """What of a dataset decides how a run trains and which weights it keeps, as checksums."""
    used = np.sort(np.concatenate([dataset.part(session, part) for part in ("train", "val")]))
    labels = dataset.table[["image", "mos", "distortion_group", "scenes"]].iloc[used]
    return _checksums(labels.assign(part=dataset.table[f"session_{session}"]), dataset, used)


def _checksums(
    labels: pd.DataFrame, dataset: LabelledImages, rows: Sequence[int] | np.ndarray
) -> dict[str, str]:
    """Of labels, and of eight images spread over the rows: all would take minutes."""
    digest = hashlib.sha256()
    for number in sorted({i * len(rows) // 8 for i in range(8)} if len(rows) else ()):
        pixels = np.ascontiguousarray(dataset.images[int(rows[number])])
        digest.update(repr(pixels.shape).encode() + pixels.tobytes())
    return {"labels_sha256": fingerprint(labels), "some_images_sha256": digest.hexdigest()}


def _commit() -> dict:
    """The commit of the checkout that the package runs from, and whether files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "modified": None}
