"""Run folders as training leaves them, without training."""

import numpy as np
import pandas as pd

from liqe_core.files import write_csv, write_json
from liqe_core.training.profiles import profile
from liqe_core.training.runs import run_folder


def write_run(root, finished=True, **changes):
    """The folder of a run of profile `smoke`, without weights; the more tasks, the higher its SRCC."""
    settings = profile("smoke", **changes)
    folder = run_folder(settings, root)
    session, seed, count = settings.session, settings.seed, 4
    parts = {"data": {"mini": {"pictures": 24}}, "versions": {}, "code": {}}
    write_json(folder / "settings.json", {"settings": settings.to_dict()} | parts)
    steps = {"epoch": range(count), "step": range(count), "learning_rate": 1e-3, "skipped": 0}
    write_csv(folder / "steps.csv", pd.DataFrame(steps))
    epochs = pd.DataFrame({"epoch": range(count), "srcc": np.linspace(0.1, 0.4, count) + session / 100})
    for task in settings.variant.split("+"):
        epochs[f"{task}_loss"], epochs[f"{task}_weight"] = np.linspace(1, 0.5, count), 1.0
    write_csv(folder / "epochs.csv", epochs)
    if finished:
        srcc = 0.5 + len(settings.variant) / 100
        row = {"checkpoint": "quality", "dataset": "mini", "session": session, "seed": seed, "srcc": srcc}
        write_csv(folder / "results.csv", pd.DataFrame([row]))
    return folder
