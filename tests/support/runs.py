"""Run folders as training leaves them, without training."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from liqe_core.files import write_csv, write_json
from liqe_core.training.profiles import profile
from liqe_core.training.runs import FORMAT, run_folder


def write_run(root, finished=True, srcc=None, data="abc", skipped=0, name="smoke", **changes):
    """Write the folder of a run, without weights.

    Args:
        srcc: its SRCC by dataset, or a number for `mini`; None: higher for more tasks.
        data: identifies its images and labels. skipped: batches skipped at its last step.
        name: the profile. changes: changed settings of the profile.
    """
    settings = profile(name, **changes)
    folder = run_folder(settings, root)
    session, seed, count = settings.session, settings.seed, 4
    parts = {"data": {"mini": {"labels_sha256": data}}, "versions": {}, "code": {}}
    write_json(folder / "settings.json", {"format": FORMAT, "settings": settings.model_dump()} | parts)
    steps = pd.DataFrame({"epoch": range(count), "step": range(count), "learning_rate": 1e-3})
    write_csv(folder / "steps.csv", steps.assign(skipped=[0] * (count - 1) + [skipped]))
    epochs = pd.DataFrame({"epoch": range(count), "srcc": np.linspace(0.1, 0.4, count) + session / 100})
    for task in settings.model.variant.split("+"):
        epochs[f"{task}_loss"], epochs[f"{task}_weight"] = np.linspace(1, 0.5, count), 1.0
    write_csv(folder / "epochs.csv", epochs)
    if finished:
        srcc = 0.5 + len(settings.model.variant) / 100 if srcc is None else srcc
        reached = srcc if isinstance(srcc, Mapping) else {"mini": srcc}
        same = {"checkpoint": "quality", "session": session, "seed": seed}
        rows = [same | {"dataset": dataset, "srcc": value} for dataset, value in reached.items()]
        write_csv(folder / "results.csv", pd.DataFrame(rows))
    return folder
