import math

import pytest
import torch

from liqe_core import Prediction, PromptGrid

GRID = PromptGrid(
    quality=["bad", "fair", "good"], scene=["day", "night"], distortion=["blur", "noise"],
    template="{quality} {scene} {distortion}",
)  # fmt: skip

#: (1, 3, 2, 2), sums to 1
JOINT = torch.tensor(
    [[[[0.05, 0.10], [0.00, 0.05]], [[0.20, 0.10], [0.05, 0.05]], [[0.10, 0.20], [0.05, 0.05]]]]
)


def test_marginals_and_quality_by_hand():
    prediction = Prediction(JOINT, GRID, ("a.jpg",))
    torch.testing.assert_close(prediction.quality_distribution, torch.tensor([[0.2, 0.4, 0.4]]))
    torch.testing.assert_close(prediction.scene, torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(prediction.distortion, torch.tensor([[0.45, 0.55]]))
    assert float(prediction.quality) == pytest.approx(0.2 * 1 + 0.4 * 2 + 0.4 * 3)
    assert prediction.quality_names == ("bad", "fair", "good") and len(prediction) == 1
    assert prediction.scene_names == ("day", "night") and prediction.distortion_names == ("blur", "noise")


def test_frame_by_hand():
    row = Prediction(JOINT, GRID, ("a.jpg",)).to_frame().iloc[0]
    assert list(row.index) == [
        "image", "quality", "scene", "scene_probability", "distortion", "distortion_probability"
    ]  # fmt: skip
    assert row.image == "a.jpg" and row.quality == pytest.approx(2.2)
    assert row.scene == "day" and row.scene_probability == pytest.approx(0.75)
    assert row.distortion == "noise" and row.distortion_probability == pytest.approx(0.55)


def test_frame_of_skipped_images():
    joint = torch.cat([JOINT, torch.full_like(JOINT, torch.nan)])
    frame = Prediction(joint, GRID, ("a.jpg", "b.jpg"), {1: "b.jpg: no such file"}).to_frame()
    assert frame.scene.tolist() == ["day", None] and math.isnan(frame.quality[1])
    assert math.isnan(frame.scene_probability[1]) and frame.error.tolist() == [None, "b.jpg: no such file"]


@pytest.mark.parametrize(
    "variant, columns", [("quality", 2), ("quality+scene", 4), ("quality+distortion", 4)]
)
def test_frame_has_the_axes_that_the_grid_has(variant, columns):
    grid = PromptGrid.variant(variant)
    joint = torch.rand(2, *grid.shape)
    assert Prediction(joint, grid, ("a", "b")).to_frame().shape == (2, columns)
    assert Prediction(joint[:0], grid, ()).to_frame().shape == (0, columns)
