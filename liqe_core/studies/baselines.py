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

from liqe_core.data.labelled import LabelledPictures
from liqe_core.data.store import KeptWindows, PackedStore
from liqe_core.images import PictureError, read_ahead, read_picture
from liqe_core.intake.progress import tqdm

#: Strengths of the ridge's penalty that leave-one-out on the training part chooses from.
PENALTIES = tuple(10.0**power for power in range(0, 7))


def constant(files: Sequence[Path]) -> np.ndarray:
    """(n,) zeros: the same answer about every picture, whose rank correlation counts as 0."""
    return np.zeros(len(files))


def commonest(labels: pd.Series) -> float:
    """The accuracy of an answer that does not look: always the commonest word of these very pictures.

    Counted as `agreement.scene_accuracy` does: of a picture with k words the k commonest are said.

    Args:
        labels: of each picture a word, a tuple or list of words, or nothing.

    Returns:
        0 to 1; NaN where nothing is labelled.
    """
    told = [tuple(each) if isinstance(each, tuple | list) else (each,) for each in labels.dropna()]
    words = [word for word, _ in Counter(itertools.chain.from_iterable(told)).most_common()]
    found = sum(len(set(each) & set(words[: len(each)])) for each in told)
    count = sum(map(len, told))
    return found / count if count else float("nan")


def commonest_of(sets: Iterable[LabelledPictures], session: int, part: str = "test") -> pd.DataFrame:
    """`commonest` of a part of every data set: a row a set, `dataset`, `session`, `scene_accuracy`,
    `distortion_accuracy`, as what a model reaches is called."""
    rows = []
    for of in sets:
        table = of.table.iloc[of.part(session, part)]
        scene, distortion = commonest(table["scenes"]), commonest(table["distortion_group"])
        row = {"dataset": of.name, "session": session}
        rows.append(row | {"scene_accuracy": scene, "distortion_accuracy": distortion})
    return pd.DataFrame(rows)


def file_size(files: Sequence[Path]) -> np.ndarray:
    """(n,) bytes on the disk: what a compressor thinks of a picture."""
    return np.array([float(file.stat().st_size) for file in files])


def brisque(files: Sequence[Path], progress: bool = True) -> np.ndarray:
    """(n,) BRISQUE (Mittal, Moorthy, Bovik 2012) by the package of that name, turned round so that higher is
    better; NaN for a picture that it cannot take.

    Raises:
        ImportError: the package is not installed; says how.
    """
    try:
        from brisque import BRISQUE
    except ImportError:
        raise ImportError(
            "BRISQUE needs its package: pip install 'liqe-core[brisque]' (it compiles)"
        ) from None

    class Brisque(BRISQUE):
        def scale_features(self, features):
            # Some are arrays of one number, which NumPy from 2.4 on does not take for a number.
            return super().scale_features([np.squeeze(feature) for feature in features])

    model = Brisque(url=False)

    def score(file: Path) -> float:
        try:
            return -float(model.score(np.asarray(read_picture(file))))
        except (PictureError, ValueError, ArithmeticError):
            return float("nan")

    found = tqdm(read_ahead(score, list(files)), "BRISQUE", len(files), disable=not progress)
    return np.array(list(found))


BLIND: Mapping[str, Callable[[Sequence[Path]], np.ndarray]] = {
    "constant": constant,
    "file size": file_size,
    "BRISQUE": brisque,
}


def files_of(of: LabelledPictures, rows: Sequence[int] | np.ndarray) -> list[Path]:
    """The picture files of a packed set, by row.

    Raises:
        TypeError: the set is not packed.
    """
    if not isinstance(of.pictures, PackedStore):
        raise TypeError(f"{of.name} is not packed: its files are not known")
    return [of.pictures.source.folder / name for name in of.pictures.index["file"].iloc[rows]]


def ridge(
    of: LabelledPictures, session: int, test: Sequence[tuple[LabelledPictures, Sequence[int] | np.ndarray]]
) -> list[np.ndarray]:
    """Ridge regression from the mean embedding of a picture's windows to its score.

    Args:
        of: a set with kept windows, whose training part is learned from; the penalty is chosen on it, too.
        test: sets with kept windows, and the row numbers of the pictures to predict.

    Returns:
        For each of `test` the predictions, in the order of its rows.
    """
    rows = of.part(session, "train")
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))
    model.fit(_means(of, rows), of.table["mos"].to_numpy(float)[rows])
    return [model.predict(_means(each, chosen)) for each, chosen in test]


def _means(of: LabelledPictures, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    kept = of.pictures
    if not isinstance(kept, KeptWindows):
        raise TypeError(
            f"{of.name}: pictures, not what a frozen tower said of them (embeddings.kept_windows)"
        )
    return np.stack([kept[row][0].astype(np.float32).mean(axis=0) for row in rows])
