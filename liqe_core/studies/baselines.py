"""What a quality model has to beat: guesses that do not look, BRISQUE, and a ridge on the same features."""

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

#: Strengths of the ridge's penalty that leave-one-out on the training part chooses from.
PENALTIES = tuple(10.0**power for power in range(0, 7))


def constant(files: Sequence[Path]) -> np.ndarray:
    """(n,) zeros: the same answer about every image, whose rank correlation counts as 0."""
    return np.zeros(len(files))


def commonest(labels: pd.Series) -> float:
    """The accuracy of an answer that does not look: always the commonest word of these very images.

    Counted as `agreement.scene_accuracy` does: of an image with k words the k commonest are said.

    Args:
        labels: of each image a word, a tuple or list of words, or nothing.

    Returns:
        0 to 1; NaN where nothing is labelled.
    """
    tuples = [tuple(label) if isinstance(label, tuple | list) else (label,) for label in labels.dropna()]
    words = [word for word, _ in Counter(itertools.chain.from_iterable(tuples)).most_common()]
    found = sum(len(set(label) & set(words[: len(label)])) for label in tuples)
    count = sum(map(len, tuples))
    return found / count if count else float("nan")


def commonest_of(sets: Iterable[LabelledImages], session: int) -> pd.DataFrame:
    """`commonest` of the test part of every dataset: a row a dataset, `dataset`, `session`, `scene_accuracy`,
    `distortion_accuracy`, as what a model reaches is called."""
    rows = []
    for dataset in sets:
        table = dataset.table.iloc[dataset.part(session, "test")]
        accuracies = commonest(table["scenes"]), commonest(table["distortion_group"])
        rows.append((dataset.name, session, *accuracies))
    return pd.DataFrame(rows, columns=["dataset", "session", "scene_accuracy", "distortion_accuracy"])


def file_size(files: Sequence[Path]) -> np.ndarray:
    """(n,) bytes on the disk: what a compressor thinks of an image."""
    return np.array([float(file.stat().st_size) for file in files])


def brisque(files: Sequence[Path]) -> np.ndarray:
    """(n,) BRISQUE (Mittal, Moorthy, Bovik 2012) by the package of that name, turned round so that higher is
    better; NaN for an image that it cannot take.

    Raises:
        ImportError: the package is not installed; says how.
    """
    try:
        from brisque import BRISQUE
    except ImportError:
        raise ImportError("BRISQUE needs its package: pip install 'liqe-core[brisque]'") from None

    class Brisque(BRISQUE):
        def scale_features(self, features):
            # Some are arrays of one number, which NumPy from 2.4 on does not take for a number.
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
    """The image files of a packed set, by row.

    Raises:
        TypeError: the set is not packed.
    """
    store = dataset.images
    if not isinstance(store, PackedStore):
        raise TypeError(f"{dataset.name} is not packed: its files are not known")
    return [store.source.folder / name for name in store.index["file"].iloc[rows]]


def ridge(
    dataset: LabelledImages, session: int, test: Sequence[tuple[LabelledImages, Sequence[int] | np.ndarray]]
) -> list[np.ndarray]:
    """Ridge regression from the mean embedding of an image's windows to its score.

    Args:
        dataset: with kept windows; its training part is learned from, the penalty is chosen on it, too.
        test: sets with kept windows, and the row numbers of the images to predict.

    Returns:
        For each of `test` the predictions, in the order of its rows.
    """
    rows = dataset.part(session, "train")
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))
    model.fit(mean_embeddings(dataset, rows), dataset.table["mos"].to_numpy(float)[rows])
    return [model.predict(mean_embeddings(tested, chosen)) for tested, chosen in test]


def mean_embeddings(dataset: LabelledImages, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """(rows, F) float32: the mean of each image's kept windows.

    Raises:
        TypeError: the set has images, not embeddings of them.
    """
    kept = dataset.images
    if not isinstance(kept, KeptWindows):
        raise TypeError(f"{dataset.name}: images, not embeddings of them (embeddings.kept_windows)")
    return np.stack([kept[row][0].astype(np.float32).mean(axis=0) for row in rows])
