"""What the figures are drawn from."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from liqe_core.figures.saving import image_table
from liqe_core.studies.realign import realign


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    quality = rng.uniform(size=200)
    noisy = {name: quality + 0.3 * rng.normal(size=200) for name in ("ours", "theirs", "third")}
    return pd.DataFrame(noisy, index=[f"{i}.png" for i in range(200)])


@pytest.fixture(scope="module")
def images(scores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i, name in enumerate(scores.index):
        Image.new("RGB", (40 + i % 7, 30), (i, 255 - i, 90)).save(folder / name)
    return image_table(scores.index, folder)


@pytest.fixture(scope="module")
def realigned():
    x = np.linspace(1, 5, 120)
    sets = {"straight": 20 * x, "bent": 1 / (1 + np.exp(3.5 - x)), "broken": -x}
    frames = [pd.DataFrame({"dataset": name, "mos": y, "prediction": x}) for name, y in sets.items()]
    return realign(pd.concat(frames, ignore_index=True))
