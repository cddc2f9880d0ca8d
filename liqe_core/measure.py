"""Measuring a model on a part of each data set: predictions, agreement with people, accuracies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from liqe_core import evaluate
from liqe_core.checkpoints import read_recipe
from liqe_core.crops import cut
from liqe_core.datasets import LabelledPictures, targets
from liqe_core.distributed import Ranks
from liqe_core.files import write_csv
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality, marginal
from liqe_core.profiles import Profile


@torch.no_grad()
def predict(
    model: LIQE,
    pictures: LabelledPictures,
    rows: Sequence[int],
    batch_size: int = 16,
    ranks: Ranks | None = None,
    autocast: Callable = nullcontext,
) -> Tensor:
    """(n, Q, S, D) joint probabilities of pictures by row number, from the crops used in testing.

    The text is embedded once; the crops of `batch_size` pictures go through the image tower together, while
    the next ones are cut; several processes take a share each. The model is left in evaluation mode.

    Args:
        autocast: makes the context to compute in.
    """
    model.eval()
    ranks = ranks or Ranks(device=model.device)
    mine = rows[ranks.share(len(rows))]
    batches = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]

    def crops(batch: Sequence[int]) -> list[Tensor]:
        cuts = []
        for row in batch:
            pixels = pictures.pictures[row]
            windows = model.geometry.test_windows(pixels.shape[1], pixels.shape[0])
            if len(windows) == 0:
                raise ValueError(
                    f"{pictures.name}/{pictures.table['image'].iloc[row]}: {pixels.shape[1]} x "
                    f"{pixels.shape[0]}, smaller than a crop of {model.geometry.window}; leave it out"
                )
            cuts.append(cut(pixels, windows, model.geometry.window))
        return cuts

    joint = [torch.empty(0, *model.grid.shape, device=model.device)]
    with ThreadPoolExecutor(1) as reader, autocast():
        text = model.text()
        ahead = reader.submit(crops, batches[0]) if batches else None
        for number in range(len(batches)):
            ready = ahead.result()
            if number + 1 < len(batches):
                ahead = reader.submit(crops, batches[number + 1])
            joint.append(model.joint_of(ready, text))
    return ranks.gather(torch.cat(joint), len(rows)).cpu()


def measure(
    model: LIQE,
    sets: Sequence[LabelledPictures],
    session: int,
    part: str,
    ranks: Ranks | None = None,
    autocast: Callable = nullcontext,
) -> pd.DataFrame:
    """Predict a part of every data set and compare with its labels.

    Args:
        ranks, autocast: see `predict`.

    Returns:
        A row a data set: ``dataset, pictures, srcc, krcc, plcc, rmse`` and, for the axes that the grid has,
        ``scene_accuracy, distortion_accuracy``.
    """
    rows = []
    for of in sets:
        chosen = of.part(session, part)
        joint = predict(model, of, chosen, ranks=ranks, autocast=autocast)
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


def test(
    folder: Path, sets: Sequence[LabelledPictures], settings: Profile, ranks: Ranks | None = None
) -> pd.DataFrame:
    """Measure every kept checkpoint of a run on the test parts, in float32, and write ``results.csv``.

    Checkpoints of one epoch are one model and are measured once.
    """
    ranks = ranks or Ranks()
    ranks.wait()  # for the one that writes the checkpoints: all must find the same
    frames, of_epoch = [], {}
    for path in sorted(Path(folder).glob("best_*.safetensors")):
        epoch = read_recipe(path).get("epoch", path)
        if epoch not in of_epoch:
            model = LIQE.from_checkpoint(path, device=ranks.device)
            of_epoch[epoch] = measure(model, sets, settings.session, "test", ranks)
        table = of_epoch[epoch].copy()
        table.insert(0, "checkpoint", path.stem.removeprefix("best_"))
        frames.append(table)
    results = pd.concat(frames, ignore_index=True)
    results.insert(0, "seed", settings.seed)
    results.insert(0, "session", settings.session)
    if ranks.leads:
        write_csv(Path(folder) / "results.csv", results)
    return results


test.__test__ = False  # not one for pytest to collect
