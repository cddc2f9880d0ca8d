"""A model on whole data sets that it never saw."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from liqe_core.crops import CropGeometry
from liqe_core.data.labelled import LabelledPictures
from liqe_core.evaluation.measuring import predict
from liqe_core.studies import unseen


@pytest.fixture
def get(photograph):
    """Three data sets of six crops of a photograph; one has constant scores, one is damaged."""

    def found(name):
        if name == "damaged":
            raise ValueError("the store is\ndamaged")
        mos = [1.0] * 6 if name == "constant" else [float(i) for i in range(6)]
        table = pd.DataFrame({"image": [f"{i}.png" for i in range(6)], "mos": mos})
        pictures = [np.ascontiguousarray(photograph[40 * i : 40 * i + 48, :64]) for i in range(6)]
        return LabelledPictures(name, table, pictures)

    return found


def test_each_set_gets_its_measures_or_its_reason(small_liqe, get, monkeypatch):
    monkeypatch.setattr(
        unseen, "what_is_missing", lambda name: "no pictures: get it" if name == "far" else ""
    )
    names = ["good", "known", "far", "damaged", "constant"]
    table, reasons = unseen.measure_unseen(small_liqe, names, get, trained_on=["known"])
    assert set(table["dataset"]) == {"good"} and set(table["metric"]) == {"SRCC", "PLCC", "KRCC", "RMSE"}
    assert (table["pictures"] == 6).all() and table["value"].notna().all()
    assert reasons["known"].startswith("trained on it") and reasons["far"] == "no pictures: get it"
    assert reasons["damaged"] == "no result: the store is damaged"
    assert reasons["constant"] == "not defined: constant scores"


def test_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_DATA", str(tmp_path))
    assert unseen.what_is_missing("tid2013") == "no pictures: liqe data fetch tid2013"
    assert unseen.what_is_missing("agiqa1k").startswith("no pictures: get it from")
    assert unseen.what_is_missing("uhdiqa").startswith("no manifest")
    table, reasons = unseen.measure_unseen(None, ["spaq"], None)
    assert table.empty and reasons["spaq"].startswith("no pictures")


def a_set(name, sizes, photograph) -> LabelledPictures:
    table = pd.DataFrame(
        {"image": [f"{i}.png" for i in range(len(sizes))], "mos": np.arange(len(sizes)) % 5.0}
    )
    pictures = [np.ascontiguousarray(photograph[9 * i : 9 * i + h, :w]) for i, (w, h) in enumerate(sizes)]
    return LabelledPictures(name, table, pictures)


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(unseen, "what_is_missing", lambda name: "")


def test_a_picture_below_a_crop_is_left_out_counted_and_told(small_liqe, photograph, here):
    sizes = [(64, 48), (31, 64), (64, 64), (50, 40), (64, 10), (33, 32), (64, 64)]
    of = a_set("flive", sizes, photograph)
    large = [i for i, size in enumerate(sizes) if min(size) >= 32]
    rest = LabelledPictures(
        "flive", of.table.iloc[large].reset_index(drop=True), [of.pictures[i] for i in large]
    )
    table, reasons = unseen.measure_unseen(small_liqe, ["flive"], lambda name: of)
    expected, _ = unseen.measure_unseen(small_liqe, ["flive"], lambda name: rest)
    assert not reasons and (table["pictures"] == 5).all() and (table["left_out"] == 2).all()
    assert table["value"].tolist() == expected["value"].tolist() and (expected["left_out"] == 0).all()
    told = "2 of 7 are smaller than a crop of 32: flive/1.png (31 x 64), flive/4.png (64 x 10)"
    assert set(table["told"]) == {told} and set(expected["told"]) == {""}
    small = a_set("flive", [(20, 20)] * 7, photograph)
    table, reasons = unseen.measure_unseen(small_liqe, ["flive"], lambda name: small)
    assert table.empty
    assert reasons["flive"].startswith(
        "no result: 7 of 7 are smaller than a crop of 32: flive/0.png (20 x 20)"
    )
    assert reasons["flive"].endswith("flive/4.png (20 x 20) and 2 more")


def test_public_windows_are_random_and_seeded_in_three_sets_alone(small_liqe, photograph, here):
    def measured(name, **how):
        of = a_set(name, [(200, 160)] * 8, photograph)
        return unseen.measure_unseen(small_liqe, [name], lambda _: of, **how)[0]["value"].tolist()

    for name in unseen.RANDOM_WINDOWS:
        even, public = measured(name), measured(name, windows="public", seed=1)
        assert public != even and public == measured(name, windows="public", seed=1)
        assert public != measured(name, windows="public", seed=2)
    assert measured("flive") == measured("flive", windows="public", seed=1)
    with pytest.raises(ValueError, match="windows is 'random': choose even or public"):
        measured("spaq", windows="random")


def test_their_prediction_is_that_of_the_windows_drawn(small_liqe, photograph):
    """By hand: the row's own generator, a grid with stride 32 on large pictures, too, not mirrored."""
    of = a_set("spaq", [(200, 160), (64, 64)], photograph)
    geometry = dataclasses.replace(small_liqe.geometry, wide_from=128)
    crops = of.testing_crops(1, geometry, seed=3)
    places = [(y, x) for y in (0, 32) for x in (0, 32)]
    drawn = np.random.default_rng((3, 1)).integers(4, size=15)
    for crop, number in zip(crops, drawn, strict=True):
        y, x = places[number]
        assert np.array_equal(crop.permute(1, 2, 0), of.pictures[1][y : y + 32, x : x + 32])
    corners = [(y, x) for y in range(0, 160 - 31, 32) for x in range(0, 200 - 31, 32)]
    drawn = np.random.default_rng((3, 0)).integers(len(corners), size=15)
    for crop, number in zip(of.testing_crops(0, geometry, seed=3), drawn, strict=True):
        y, x = corners[number]
        assert np.array_equal(crop.permute(1, 2, 0), of.pictures[0][y : y + 32, x : x + 32])
    assert len(set(drawn)) < 15 or len(corners) > 30, "with replacement"
    joint = predict(small_liqe, of, [1], seed=3)
    with torch.no_grad():
        assert torch.allclose(joint[0], small_liqe(crops[None])[0], atol=1e-6)


def test_nine_windows_are_enough_for_fifteen_draws(photograph):
    of = a_set("pipal", [(288, 288)], photograph)
    crops = of.testing_crops(0, CropGeometry(), seed=0)
    assert crops.shape == (15, 3, 224, 224) and len({c.numpy().tobytes() for c in crops}) <= 9
    assert len(of.testing_crops(0, CropGeometry())) == 9
