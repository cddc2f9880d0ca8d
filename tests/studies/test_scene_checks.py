"""Checks of scenes, on answers and embeddings whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from support.data import own_set

from liqe_core.data.labelled import LabelledImages, packed_set
from liqe_core.data.store import KeptWindows
from liqe_core.studies import scene_checks


def test_accuracy_by_class_counts_each_class_alike():
    scenes = ["animal"] * 6 + ["human;plant"] * 2 + ["night"] + [""]
    answers = ["animal"] * 7 + ["plant;human", "animal", "animal"]
    found = scene_checks.by_class(pd.DataFrame({"scenes": scenes, "scene": answers}))
    assert found.loc[["animal", "human", "night"], "images"].tolist() == [6, 2, 1]
    assert found.loc[["animal", "human", "night"], "right"].tolist() == [6, 1, 0]
    accuracy = found["accuracy"]
    assert accuracy["mean over classes"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert accuracy["all images"] == pytest.approx(7 / 9)
    assert accuracy["commonest word, mean over classes"] == pytest.approx(1 / 3)
    assert accuracy["commonest word, all images"] == pytest.approx(6 / 9)


def test_the_same_photographs_are_asked_at_every_size(tmp_path, monkeypatch):
    dataset = packed_set(own_set(tmp_path, count=4, width=90, height=60).path, progress=False)

    class BySize:
        """A model that names the size."""

        def score(self, images):
            sides = pd.Series([max(image.size) for image in images])
            self.frame = pd.DataFrame(
                {"scene": np.where(sides > 400, "night", "plant"), "quality": sides / 400}
            )
            return self

        def to_frame(self):
            return self.frame

    answers = scene_checks.at_sizes(BySize(), dataset, [0, 2], (256, 400, 800))
    assert answers["image"].tolist() == dataset.table["image"].iloc[[0, 2]].tolist()
    assert answers.loc[0, ["256", "400", "800"]].tolist() == ["plant", "plant", "night"]
    assert answers["quality 800"].tolist() == [2, 2]
    assert scene_checks.changing(answers) == 1.0
    assert scene_checks.changing(answers[["image", "256", "400"]]) == 0.0


def test_the_probe_separates_sources_only_if_embeddings_do(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(120, 2, 1, 8)).astype(np.float16)
    values[:30, ..., 0] += 6  # the first source of animals
    np.save(tmp_path / "0000000.npy", values)
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(120)]})
    table["scenes"] = [("animal",)] * 60 + [("plant", "night")] * 60
    table["reference"] = ["a"] * 30 + ["b"] * 30 + ["c", "d"] * 29 + ["rare", "rare"]
    kept = KeptWindows([tmp_path / "0000000.npy"], np.ones(120, int))
    found = scene_checks.source_probe(LabelledImages("own", table, kept)).set_index("scene")
    assert found.loc["animal", "probe"] > 0.95 and found.loc["animal", "commonest"] == 0.5
    assert found.loc["plant", ["sources", "images"]].tolist() == [2, 58], "two images are no source"
    assert found.loc["plant", "probe"] < 0.7
