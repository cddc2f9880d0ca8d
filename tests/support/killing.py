"""Runs of ``liqe score`` that are killed at random and given again until one ends by itself.

As a script it does so a hundred times over 200 pictures, with processes of its own:

    python tests/support/killing.py [RUNS [PICTURES]]
"""

import contextlib
import os
import random
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


def _hundred(runs: int = 100, pictures: int = 200) -> None:
    import numpy as np
    import torch
    from PIL import Image

    from liqe_core import LIQE

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "pictures").mkdir()
        for i in range(pictures):
            Image.fromarray(rng.integers(0, 256, (40 + i, 64, 3), np.uint8)).save(
                folder / f"pictures/{i}.png"
            )
        torch.manual_seed(0)
        LIQE.from_clip("LIQE-smoke", pretrained=None).save(folder / "model")
        command = [sys.executable, "-m", "liqe_core", "score", str(folder / "pictures")]
        command += ["--checkpoint", str(folder / "model"), "--csv"]
        began = time.monotonic()
        subprocess.run([*command, str(folder / "whole.csv")], check=True, capture_output=True)
        seconds = time.monotonic() - began
        expected, table = (folder / "whole.csv").read_bytes(), folder / "killed.csv"
        for run in range(runs):
            codes = killed_until_done(
                lambda: (
                    subprocess.Popen(
                        [*command, str(table)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                    ).pid
                ),
                seconds,
                random.Random(run),
                6,
                lambda: None,
            )
            same = table.read_bytes() == expected
            table.unlink()
            print(
                f"run {run}: ended with {codes}: {'the same table' if same else 'ANOTHER TABLE'}", flush=True
            )
            assert same


if __name__ == "__main__":
    _hundred(*map(int, sys.argv[1:]))
