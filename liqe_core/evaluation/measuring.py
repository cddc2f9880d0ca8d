"""Evaluate a model on a part of each dataset: predictions, correlations with scores, and accuracies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from liqe_core import agreement
from liqe_core.checkpoints import read_recipe
from liqe_core.data.labelled import LabelledImages, targets
from liqe_core.evaluation.distributed import ALONE, Ranks
from liqe_core.files import write_csv
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality, marginal
from liqe_core.scoring import predict_joint

#: Images in one forward pass of the image tower.
BATCH_SIZE = 16


def predict(
    model: LIQE,
    images: LabelledImages,
    rows: Sequence[int] | np.ndarray,
    ranks: Ranks = ALONE,
    autocast: Callable = nullcontext,
    seed: int | None = None,
) -> Tensor:
    """Predict the joint probabilities of images by row number, from their testing crops.

    Each of several processes computes a share.

    Args:
        rows: row numbers of the images.
        autocast: a function that returns the context for the forward pass.
        seed: seed of random windows (see `LabelledImages.testing_crops`); None: evenly spaced windows.

    Returns:
        (n, Q, S, D) on the CPU.

    Raises:
        ImageError: if an image is smaller than a crop. The message names it.
    """
    crops_of = partial(images.testing_crops, geometry=model.geometry, seed=seed)
    with autocast():
        joint, _ = predict_joint(model, crops_of, rows[ranks.share(len(rows))], BATCH_SIZE)
    return ranks.gather(joint, len(rows)).cpu()


def measure(
    model: LIQE,
    sets: Sequence[LabelledImages],
    session: int,
    part: str,
    ranks: Ranks = ALONE,
    autocast: Callable = nullcontext,
) -> pd.DataFrame:
    """Predict a part of each dataset and compare the predictions with the labels.

    Args:
        part: ``train``, ``val`` or ``test`` of the session.
        ranks, autocast: see `predict`.

    Returns:
        One row per dataset: ``dataset, images, srcc, krcc, plcc, rmse`` and, for the axes of the grid,
        ``scene_accuracy, distortion_accuracy``.
    """
    rows = []
    for dataset in sets:
        chosen = dataset.part(session, part)
        joint = predict(model, dataset, chosen, ranks=ranks, autocast=autocast)
        labels = targets(dataset.table.iloc[chosen], model.grid)
        row = {"dataset": dataset.name, "images": len(chosen)}
        scored = ~labels["mos"].isnan()
        row |= agreement.agreement(expected_quality(joint)[scored].numpy(), labels["mos"][scored].numpy())
        accuracies = {"scene": agreement.scene_accuracy, "distortion": agreement.distortion_accuracy}
        for axis in model.grid.axes[1:]:
            row[f"{axis}_accuracy"] = accuracies[axis](marginal(joint, axis).numpy(), labels[axis].numpy())
        rows.append(row)
    return pd.DataFrame(rows)


def measure_kept(
    folder: Path, sets: Sequence[LabelledImages], session: int, seed: int, ranks: Ranks = ALONE
) -> pd.DataFrame:
    """Evaluate each checkpoint of a run on the test parts in float32, and write ``results.csv``.

    Checkpoints of the same epoch are the same model and are evaluated once.

    Args:
        folder: the run folder.
        session: the session of the test parts.
        seed: the seed of the run, for the table.
    """
    tables, of_epoch = {}, {}
    for path in sorted(Path(folder).glob("best_*.safetensors")):
        epoch = read_recipe(path).get("epoch", path)
        if epoch not in of_epoch:
            model = LIQE.from_checkpoint(path, device=ranks.device)
            of_epoch[epoch] = measure(model, sets, session, "test", ranks)
        tables[path.stem.removeprefix("best_")] = of_epoch[epoch]
    results = pd.concat(tables, names=["checkpoint"]).reset_index("checkpoint").reset_index(drop=True)
    results.insert(0, "seed", seed)
    results.insert(0, "session", session)
    if ranks.leads:
        write_csv(Path(folder) / "results.csv", results)
    return results
