"""Baselines of a quality model: constant answers, file size, BRISQUE, ridge regression on embeddings."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from liqe_core.data.labelled import LabelledImages
from liqe_core.data.store import KeptWindows, PackedStore
from liqe_core.images import ImageError, read_ahead, read_image
from liqe_core.intake.progress import tqdm

#: Penalties of the ridge regression; leave-one-out validation on the training part chooses one.
PENALTIES = tuple(10.0**power for power in range(0, 7))


def constant(files: Sequence[Path]) -> np.ndarray:
    """Return (n,) zeros: a constant score, whose rank correlation counts as 0."""
    return np.zeros(len(files))


def commonest(labels: pd.Series) -> float:
    """Compute the accuracy of the majority-class baseline: always the commonest word of these images.

    As in `agreement.scene_accuracy`, an image with k words gets the k commonest words.

    Args:
        labels: for each image a word, a tuple or list of words, or a missing value.

    Returns:
        0 to 1; NaN if no image is labelled.
    """
    tuples = [tuple(label) if isinstance(label, tuple | list) else (label,) for label in labels.dropna()]
    words = [word for word, _ in Counter(itertools.chain.from_iterable(tuples)).most_common()]
    found = sum(len(set(label) & set(words[: len(label)])) for label in tuples)
    count = sum(map(len, tuples))
    return found / count if count else float("nan")


def commonest_of(sets: Iterable[LabelledImages], session: int) -> pd.DataFrame:
    """Compute `commonest` on the test part of every dataset.

    Returns:
        A row for each dataset: `dataset`, `session`, `scene_accuracy`, `distortion_accuracy`.
    """
    rows = []
    for dataset in sets:
        table = dataset.table.iloc[dataset.part(session, "test")]
        accuracies = commonest(table["scenes"]), commonest(table["distortion_group"])
        rows.append((dataset.name, session, *accuracies))
    return pd.DataFrame(rows, columns=["dataset", "session", "scene_accuracy", "distortion_accuracy"])


def file_size(files: Sequence[Path]) -> np.ndarray:
    """Return (n,) file sizes in bytes."""
    return np.array([float(file.stat().st_size) for file in files])


def brisque(files: Sequence[Path]) -> np.ndarray:
    """Compute (n,) BRISQUE scores (Mittal, Moorthy, Bovik 2012) with the package ``brisque``.

    The scores are negated, so that higher is better. An image that the package cannot score has NaN.

    Raises:
        ImportError: the package is not installed.
    """
    try:
        from brisque import BRISQUE
    except ImportError:
        raise ImportError("BRISQUE needs its package: pip install 'liqe-core[brisque]'") from None

    class Brisque(BRISQUE):
        def scale_features(self, features):
            # Some features are arrays with one element, which NumPy 2.4 and later do not convert to scalars.
            return super().scale_features([np.squeeze(feature) for feature in features])

    model = Brisque(url=False)

    def score(file: Path) -> float:
        try:
            return -float(model.score(np.asarray(read_image(file))))
        except (ImageError, ValueError, ArithmeticError):
            return float("nan")

    return np.array(list(tqdm(read_ahead(score, files), "BRISQUE", len(files))))


BLIND: Mapping[str, Callable[[Sequence[Path]], np.ndarray]] = {
    "constant": constant,
    "file size": file_size,
    "BRISQUE": brisque,
}


def files_of(dataset: LabelledImages, rows: Sequence[int] | np.ndarray) -> list[Path]:
    """Return the image files of a packed dataset, by row.

    Raises:
        TypeError: the dataset is not packed.
    """
    store = dataset.images
    if not isinstance(store, PackedStore):
        raise TypeError(f"{dataset.name} is not packed, so its files are unknown: pack it first")
    return [store.source.folder / name for name in store.index["file"].iloc[rows]]


def ridge(
    dataset: LabelledImages, session: int, test: Sequence[tuple[LabelledImages, Sequence[int] | np.ndarray]]
) -> list[np.ndarray]:
    """Predict scores by ridge regression from the mean embedding of an image's windows.

    Args:
        dataset: a dataset with kept windows; its training part fits the regression and chooses the penalty.
        test: datasets with kept windows, and the row numbers of the images to predict.

    Returns:
        The predictions for each dataset of `test`, in the order of its rows.
    """
    rows = dataset.part(session, "train")
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))
    model.fit(mean_embeddings(dataset, rows), dataset.table["mos"].to_numpy(float)[rows])
    return [model.predict(mean_embeddings(tested, chosen)) for tested, chosen in test]


def mean_embeddings(dataset: LabelledImages, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return (rows, F) float32: the mean embedding of each image's kept windows.

    Raises:
        TypeError: the dataset has images instead of embeddings.
    """
    kept = dataset.images
    if not isinstance(kept, KeptWindows):
        raise TypeError(f"{dataset.name} has images, not embeddings: call embeddings.kept_windows first")
    return np.stack([kept[row][0].astype(np.float32).mean(axis=0) for row in rows])
