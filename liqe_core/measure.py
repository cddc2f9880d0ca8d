"""Measuring a model on a part of each data set: predictions, agreement with people, accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from liqe_core import evaluate
from liqe_core.crops import cut
from liqe_core.datasets import LabelledPictures, targets
from liqe_core.files import write_csv
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality, marginal
from liqe_core.profiles import Profile


@torch.no_grad()
def predict(model: LIQE, pictures: LabelledPictures, rows: Sequence[int], batch_size: int = 16) -> Tensor:
    """(n, Q, S, D) joint probabilities of pictures by row number, from the crops used in testing.

    The model is left in evaluation mode.
    """
    model.eval()
    joint = []
    for start in range(0, len(rows), batch_size):
        crops = []
        for row in rows[start : start + batch_size]:
            pixels = pictures.pictures[row]
            windows = model.geometry.test_windows(pixels.shape[1], pixels.shape[0])
            crops.append(cut(pixels, windows, model.geometry.window))
        joint.append(model.joint_of(crops).cpu())
    return torch.cat(joint) if joint else torch.empty(0, *model.grid.shape)


def measure(model: LIQE, sets: Sequence[LabelledPictures], session: int, part: str) -> pd.DataFrame:
    """Predict a part of every data set and compare with its labels.

    Returns:
        A row a data set: ``dataset, pictures, srcc, krcc, plcc, rmse`` and, for the axes that the grid has,
        ``scene_accuracy, distortion_accuracy``.
    """
    rows = []
    for of in sets:
        chosen = of.part(session, part)
        joint = predict(model, of, chosen)
        labels = targets(of.table.iloc[chosen], model.grid)
        row = {"dataset": of.name, "pictures": len(chosen)}
        row |= evaluate.agreement(expected_quality(joint), labels["mos"])
        if "scene" in model.grid.axes:
            row["scene_accuracy"] = evaluate.scene_accuracy(marginal(joint, "scene"), labels["scene"])
        if "distortion" in model.grid.axes:
            row["distortion_accuracy"] = evaluate.distortion_accuracy(
                marginal(joint, "distortion"), labels["distortion"]
            )
        rows.append(row)
    return pd.DataFrame(rows)


def test(folder: Path, sets: Sequence[LabelledPictures], settings: Profile) -> pd.DataFrame:
    """Measure every kept checkpoint of a run on the test parts, and write ``results.csv``."""
    frames = []
    for path in sorted(Path(folder).glob("best_*.safetensors")):
        table = measure(LIQE.from_checkpoint(path), sets, settings.session, "test")
        table.insert(0, "checkpoint", path.stem.removeprefix("best_"))
        frames.append(table)
    results = pd.concat(frames, ignore_index=True)
    results.insert(0, "seed", settings.seed)
    results.insert(0, "session", settings.session)
    write_csv(Path(folder) / "results.csv", results)
    return results


test.__test__ = False  # not one for pytest to collect
