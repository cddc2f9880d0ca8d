"""The open benchmark: on tables where the answer is known, and once through on a toy set."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.data import own_set
from support.open_tables import kept_answers
from support.training import settings, small_set

from liqe_core.agreement import scene_accuracy, srcc
from liqe_core.checkpoints import PACKAGED, read_checkpoint
from liqe_core.data.labelled import LabelledPictures
from liqe_core.data.manifests import load_manifest
from liqe_core.data.splits import SESSION_COLUMNS
from liqe_core.files import CHECKOUT
from liqe_core.prompts import VARIANTS
from liqe_core.studies import open_benchmark as study
from liqe_core.training.prepare import labelled
from liqe_core.training.profiles import PROFILES


@pytest.fixture
def tables():
    """200 scored pictures, 60 of a set with distortions and scenes; two arms, one of which knows more."""
    rng = np.random.default_rng(0)
    mos = rng.uniform(0, 1, 200)
    true = pd.DataFrame({"dataset": "biq2021", "image": [f"{i}.jpg" for i in range(200)], "mos": mos})
    true = true.assign(true_distortion=None, scenes="", reference=None, near_duplicate=np.arange(200) < 20)
    other = pd.DataFrame({"dataset": "made", "image": [f"{i}.png" for i in range(60)], "mos": np.nan})
    other = other.assign(
        true_distortion=["blur", "noise", "blur"] * 20,
        scenes=["plant;landscape", "", "animal"] * 20,
        reference=None,
        near_duplicate=False,
    )
    true = pd.concat([true, other], ignore_index=True)
    runs = []
    for arm, noise in (("good", 0.05), ("bad", 1.0)):
        for seed in (1, 2):
            quality = np.r_[mos + noise * rng.normal(size=200), np.zeros(60)]
            said = {"arm": arm, "seed": seed, "scene": "landscape", "distortion": "blur"}
            runs.append(true[["dataset", "image"]].assign(quality=quality, **said))
    return true, pd.concat(runs, ignore_index=True)


def test_measures_of_each_set_and_without_near_duplicates(tables):
    true, predicted = tables
    found = study.run_table(predicted, true)
    one = found[(found["arm"] == "good") & (found["seed"] == 1)].set_index("dataset")
    assert list(one.index) == ["biq2021", "biq2021 without near-duplicates", "made"]
    assert one["pictures"].tolist() == [200, 180, 60]
    of = predicted[(predicted["arm"] == "good") & (predicted["seed"] == 1)].iloc[20:200]
    assert one["srcc"].iloc[1] == srcc(of["quality"].to_numpy(), true["mos"].iloc[20:200].to_numpy())
    assert np.isnan(one["srcc"].iloc[2]) and np.isnan(one["distortion_accuracy"].iloc[0])
    assert one["distortion_accuracy"].iloc[2] == pytest.approx(2 / 3)
    assert one["distortion_commonest"].iloc[2] == pytest.approx(2 / 3), "blur, which that arm always says"
    assert one["scene_commonest"].iloc[2] == pytest.approx(2 / 3), "plant and landscape, and plant for animal"
    assert np.isnan(one[["scene_commonest", "distortion_commonest"]].iloc[0].astype(float)).all()
    assert one["scene_accuracy"].iloc[2] == pytest.approx(1 / 3), "one label of three; none is no answer"


def test_scenes_are_counted_as_the_training_script_counts():
    rng, words = np.random.default_rng(2), np.array(["animal", "human", "plant", "night"])
    p, hot = rng.random((50, 4)), rng.random((50, 4)) < 0.4
    likeliest = words[np.argsort(-p, axis=1)]
    table = pd.DataFrame(
        {
            "scenes": [";".join(words[row]) for row in hot],
            "scene": [";".join(row[: max(1, k)]) for row, k in zip(likeliest, hot.sum(axis=1), strict=True)],
        }
    )
    found = study.scenes_found(table)
    assert found["labels"].sum() == hot.sum()
    assert found["found"].sum() / hot.sum() == pytest.approx(scene_accuracy(p, hot))


def test_the_card_counts_photographs_not_pictures():
    """Of twenty photographs half are named rightly, whatever was made of them."""
    made = pd.DataFrame({"photograph": np.repeat(np.arange(20), 25)})
    made = made.assign(
        image=[f"{i}.png" for i in range(500)], reference=made["photograph"].map("{}.jpg".format)
    )
    made = made.assign(dataset="open-distorted", mos=made.index / 500.0, quality=1.0 + made.index, scenes="")
    made["true_distortion"] = ["blur"] * 300 + ["noise"] * 200
    made = made.assign(near_duplicate=False, scene="")
    made["distortion"] = made["true_distortion"].where(made["photograph"] % 2 == 0, "contrast")
    card = study.card_table(made).set_index("measure")
    named = card.loc["distortion named, of eleven"]
    assert named["reached"] == 0.5 and named["commonest"] == 0.6 and named["count"] == 500
    assert named["high"] - named["low"] > 0.35, "twenty draws, not five hundred, which give 0.09"
    ranked = card.loc["SRCC with the scores"]
    assert ranked["reached"] == pytest.approx(1) and ranked["low"] == pytest.approx(1)
    scenes = made.assign(dataset="open-scenes", scenes=["plant;animal", "animal"] * 250, scene="animal;human")
    card = study.card_table(scenes)
    assert card["measure"].tolist() == ["scenes named, of nine"] and card["reached"].item() == pytest.approx(
        2 / 3
    )
    assert card["commonest"].item() == 1, "animal, then plant"


def test_the_card_and_readme_say_what_the_kept_answers_give():
    card = PACKAGED["liqe-tiny"].with_suffix(".md").read_text("utf-8")
    readme, front = ((CHECKOUT / of).read_text("utf-8") for of in ("README.md", "notebooks/site/index.md"))
    for row in study.card_table(kept_answers()).itertuples():
        reached = f"{row.reached:.3f} ({row.low:.3f} to {row.high:.3f}) | {row.commonest:.3f}"
        line = f"| {row.pictures} | {row.count} | {row.measure} | {reached} |"
        assert line in card, line
        if row.pictures != "BIQ2021, public test part":
            line = f"| {row.count:,} | {row.reached:.3f} ({row.low:.3f} to {row.high:.3f}) |"
            assert line in readme, line
        if row.pictures.startswith(("the same, without", "HEVC", "the same, all")):
            for page in (readme, front):
                assert f" {row.reached:.2f} on " in page, row
            assert f"| {row.reached:.2f} | 0 |" in front, row
        if row.measure.endswith(("of eleven", "of nine")):
            assert f"| {100 * row.reached:.0f} % | {100 * row.commonest:.0f} % |" in front, row


def test_readme_says_what_the_kept_differences_give():
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    kept = pd.read_csv(study.KEPT / "differences.csv").query("split == 'public'")
    kept = kept.set_index(["dataset", "arm", "reference"])

    def said(*of):
        row = kept.loc[of]
        return f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"

    judged = "biq2021 without near-duplicates"
    for name in (judged, "open-distorted", "hevc", "hevc as shown"):
        line = f"{said(name, 'Q+S+D', 'Q')} | {said(name, 'Q+S+D', 'shuffled')} |"
        assert line in readme, line
    levels = pd.read_csv(study.KEPT / "levels.csv").query("split == 'public' and dataset == @judged")
    reached = levels.set_index("method")["srcc"].map("{:.3f}".format)
    beside = "Q {Q}, ridge regression on the same frozen features {ridge}, the size of the file {file size}"
    assert beside.format(**reached) in readme and f"and training, {reached['BRISQUE']}." in readme
    others = [
        (name, *pair) for name in (judged, "hevc as shown") for pair in study.PAIRS if pair[0] == "BIQ2021 Q"
    ]
    tuned = [(name, "tuned Q+S+D", "tuned Q") for name in (judged, "open-distorted", "hevc as shown")]
    for of in [*others, *tuned]:
        assert said(*of) in readme, (of, said(*of))
        assert kept.loc[of, "runs"] == 5 and "five runs of each" in readme


def test_what_is_shipped_fits_the_box():
    path, found = PACKAGED["liqe-tiny"], read_checkpoint("liqe-tiny")
    assert path.stat().st_size <= 16e6
    assert found.geometry["count"] == 15 and len(found.grid["quality"]) == 5
    assert found.recipe["session"] == 1 and not Path(found.recipe["pretrained"]).is_absolute()


def test_the_part_of_tid2013_is_also_measured_a_reference_at_a_time(tables):
    true, _ = tables
    tid = true.head(120).assign(dataset="tid2013-part", reference=["i01", "i02"] * 60, near_duplicate=False)
    found = {name: len(of) for name, of in study.parts(tid)}
    assert found == {"tid2013-part": 120, "tid2013-part i01": 60, "tid2013-part i02": 60}


def test_a_photograph_of_another_part_is_not_trained_on_in_disguise(monkeypatch):
    parts = dict.fromkeys(SESSION_COLUMNS, "train")
    photographs = pd.DataFrame({"image": [f"i/ss ({i}).jpg" for i in range(400)], "reference": None, **parts})
    made = pd.DataFrame({"image": ["a.png", "b.png", "c.png"], **parts})
    made["reference"] = ["bsds.jpg", "i/ss (0).jpg", "i/ss (399).jpg"]
    sets = [
        LabelledPictures("biq2021", photographs, [None] * 400),
        LabelledPictures("open-distorted", made, [None] * 3),
    ]
    monkeypatch.setattr(study, "sets_for", lambda *_: sets)
    assert study.split_sets(None, "public") is sets
    biq, distorted = study.split_sets(None, "neighbours")
    of, seen = biq.table.set_index("image"), set()
    for session in SESSION_COLUMNS:
        assert distorted.table[session][0] == "train"
        for row in (1, 2):
            part = of.loc[made["reference"][row], session]
            assert (distorted.table[session][row] == "train") == (part == "train")
            assert distorted.table[session][row] not in ("val", "test")
            seen.add(part)
    assert seen == {"train", "val", "test"}


def test_a_difference_is_told_where_there_is_one(tables):
    true, predicted = tables
    pairs = [("good", "bad"), ("bad", "good"), ("good", "good"), ("good", "absent")]
    found = study.difference_table(predicted, true, pairs)
    whole = found[found["dataset"] == "biq2021"]
    assert whole["verdict"].tolist() == ["better", "worse", "cannot be told"]
    assert whole["difference"].iloc[0] == -whole["difference"].iloc[1] > 0.2
    assert (whole["low"] <= whole["difference"]).all() and (whole["difference"] <= whole["high"]).all()
    assert whole[["runs", "better"]].to_numpy().tolist() == [[2, 2], [2, 0], [2, 0]]
    assert "made" not in set(found["dataset"]), "nobody scored those"


def test_an_interval_covers_what_is_known():
    # of a bivariate normal with correlation r the rank correlation is 6/pi asin(r/2)
    rng, inside = np.random.default_rng(1), 0
    expected = 6 / np.pi * np.arcsin(0.6 / 2)
    for _ in range(20):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 150).T
        low, high = study.srcc_interval(x, y)
        assert low < srcc(x, y) < high
        inside += low < expected < high
    assert 16 <= inside <= 20


def test_a_constant_answer_counts_as_no_correlation(tables):
    true, predicted = tables
    good = predicted[(predicted["arm"] == "good") & (predicted["seed"] == 1)]
    found = study.level_table({"good": good, "constant": good.assign(quality=0.0)}, true)
    found = found.set_index(["dataset", "method"])
    assert found.loc[("biq2021", "constant"), ["srcc", "low", "high"]].tolist() == [0, 0, 0]
    assert found.loc[("biq2021", "good"), "srcc"] > 0.9
    assert found.loc[("biq2021 without near-duplicates", "good"), "pictures"] == 180


def test_every_arm_is_a_profile_that_can_be():
    names = [arm.name for arm in study.ARMS]
    assert len(set(names)) == len(names) and study.REFERENCE in names
    assert {name for pair in study.PAIRS for name in pair} <= set(names)
    made = [study.settings_of(arm, 3) for arm in study.ARMS]
    assert all(one.seed == 3 and one.name == "open-frozen" for one in made)
    assert {one.control for one in made} >= {"shuffled labels", "quality alone", "separate heads"}
    same = [one for one in made if "biq2021" in one.batch_sizes and len(one.batch_sizes) == 3]
    tuned = [one for one in same if not one.keep_windows]
    assert [one.variant for one in tuned] == [VARIANTS[0], VARIANTS[-1]]
    for arms in (tuned, [one for one in same if one.keep_windows]):
        assert len({tuple(one.batch_sizes.items()) for one in arms}) == 1, "the same batches for every arm"


def test_pictures_that_were_shown_at_another_size_are_tested_at_both(tmp_path, monkeypatch):
    manifest = own_set(tmp_path, count=10, width=60, height=40)
    manifest.path.write_text(manifest.path.read_text() + "shown: 2160\n")
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(study, "UNSEEN", ("holiday",))
    monkeypatch.setattr(study, "load_manifest", lambda _: load_manifest(manifest.path))
    monkeypatch.setattr(study, "labelled", lambda name, *of, **how: labelled(str(manifest.path), *of, **how))
    tests = study.test_sets(settings(resize_to=80), [], progress=False)
    assert [of.name for of in tests] == ["holiday", "holiday as shown"]
    assert all(len(study.test_rows(of)) == 10 for of in tests), "all of both"
    assert list(study.labels(tests)["dataset"].unique()) == ["holiday", "holiday as shown"]


def test_the_study_on_a_toy_set_trains_each_arm_once(tmp_path, monkeypatch):
    toy = settings(architecture="LIQE-mini", batch_norm="frozen", freeze="image", keep_windows=True, epochs=1)
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PROFILES, "toy", toy)
    monkeypatch.setattr(study, "UNSEEN", ())
    monkeypatch.setattr(study, "sets_for", lambda *_: [small_set(tmp_path / "mini")])
    arms = [arm for arm in study.ARMS if arm.name in ("Q", "Q+S+D", "heads")]
    arms.append(
        study.Arm(
            "tuned", "its image tower trains", {"keep_windows": False, "unlocked_groups": 2, "measured": 2}
        )
    )
    monkeypatch.setitem(study.SPLITS, "public", [arm.name for arm in arms])
    study.train_and_predict(arms, (1,), tmp_path, "toy", progress=False)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "toy").rglob("*")}
    study.train_and_predict(arms, (1,), tmp_path, "toy", progress=False)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "toy").rglob("*")} == written

    predicted = study.gathered(tmp_path, "toy")
    assert set(predicted["arm"]) == {arm.name for arm in arms} and predicted.groupby("arm").size().eq(6).all()
    results = study.run_table(predicted, study.labels([small_set(tmp_path / "mini")])).set_index("arm")
    for arm in ("Q", "Q+S+D", "heads"):
        kept = pd.read_csv(tmp_path / "toy" / "public" / f"{arm}-1" / "results.csv").set_index("checkpoint")
        assert results.loc[arm, "srcc"] == pytest.approx(kept.loc["quality", "srcc"])
        if arm == "Q":
            assert np.isnan(results.loc[arm, "distortion_accuracy"]), "that arm says nothing of distortions"
        else:
            for measure in ("distortion_accuracy", "scene_accuracy"):
                assert results.loc[arm, measure] == pytest.approx(kept.loc["quality", measure])
