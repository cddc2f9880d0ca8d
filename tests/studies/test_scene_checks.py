"""Checks of scenes, on answers and embeddings whose truth is known."""

import pandas as pd
import pytest
from support.data import own_set

from liqe_core.data.labelled import packed_set
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
            self.frame = pd.DataFrame({"scene": ["night" if max(i.size) > 400 else "plant" for i in images]})
            return self

        def to_frame(self):
            return self.frame

    answers = scene_checks.at_sizes(BySize(), dataset, [0, 2], (256, 400, 800))
    assert answers["image"].tolist() == dataset.table["image"].iloc[[0, 2]].tolist()
    assert answers.iloc[0, 1:].tolist() == ["plant", "plant", "night"]
    assert scene_checks.changing(answers) == 1.0
    assert scene_checks.changing(answers[["image", "256", "400"]]) == 0.0
