"""Runs that are killed at random and given again until one ends by itself.

As a script it does so with processes of its own: a hundred times ``liqe score`` over 200 pictures, or twenty
times ``liqe train``, and compares what is left with what a run leaves that nobody disturbs.

    python tests/support/killing.py score [RUNS [PICTURES]]
    python tests/support/killing.py train [RUNS]
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def killed_until_done(
    start: Callable[[], int], seconds: float, rng: random.Random, kills: int, after: Callable[[], None]
) -> list[int]:
    """Start a process, kill it within so many seconds, start it again; after so many kills let it end.

    Args:
        start: begins the process; gives its id.
        seconds: that a run takes which is not killed.
        after: called after each kill.

    Returns:
        How each ended: its exit code, or the negative number of the signal.
    """
    codes = []
    while not codes or codes[-1] not in (0, 1):
        process = start()
        if len(codes) < kills:
            time.sleep(rng.uniform(0, 0.6 * seconds))  # most are killed before they are done
            with contextlib.suppress(ProcessLookupError):  # it was faster
                os.kill(process, rng.choice(SIGNALS))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
        after()
        if len(codes) > kills + 1:
            raise RuntimeError(f"does not end when it is let: {codes}")
    return codes


def _score(folder: Path, runs: int = 100, pictures: int = 200) -> None:
    """Tables are to be equal, byte for byte."""
    import numpy as np
    import torch
    from PIL import Image

    from liqe_core import LIQE

    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for i in range(pictures):
        pixels = rng.integers(0, 256, (40 + i, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"pictures/{i}.png")
    torch.manual_seed(0)
    LIQE.from_clip("LIQE-smoke", pretrained=None).save(folder / "model")
    command = ["score", str(folder / "pictures"), "--checkpoint", str(folder / "model"), "--csv"]
    _repeated(command, folder, runs, lambda out: {"table": out.read_bytes()})


def _train(folder: Path, runs: int = 20) -> None:
    """Weights are to have one sha256; a state is saved after every step."""
    from liqe_core.files import file_sha256

    command = ["train", "--profile", "smoke", "-s", "save_seconds", "0", "--out"]
    _repeated(
        command, folder, runs, lambda out: {f.name: file_sha256(f) for f in sorted(out.glob("*.safetensors"))}
    )


def _repeated(command: list[str], folder: Path, runs: int, left: Callable[[Path], dict]) -> None:
    """command: but for its last argument, the place of what it makes. left: what is compared of that."""
    whole, killed = folder / "whole", folder / "killed"
    liqe = [sys.executable, "-m", "liqe_core", *command]
    began = time.monotonic()
    subprocess.run([*liqe, str(whole)], check=True, capture_output=True)
    seconds, expected = time.monotonic() - began, left(whole)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for run in range(runs):
        codes = killed_until_done(
            lambda: subprocess.Popen([*liqe, str(killed)], **quiet).pid,
            seconds,
            random.Random(run),
            6,
            lambda: None,
        )
        same = left(killed) == expected
        print(f"run {run}: ended with {codes}: {'the same' if same else 'ANOTHER'}", flush=True)
        assert same
        shutil.rmtree(killed) if killed.is_dir() else killed.unlink()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        {"score": _score, "train": _train}[sys.argv[1]](Path(made), *map(int, sys.argv[2:]))
