"""The tables of the open benchmark, where the answer is known."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from support.data import kept_answers

from liqe_core.agreement import scene_accuracy, srcc
from liqe_core.checkpoints import PACKAGED
from liqe_core.files import CHECKOUT
from liqe_core.prompts import SCENES
from liqe_core.studies.open_benchmark import KEPT
from liqe_core.studies.open_tables import (
    card_table,
    difference_table,
    level_table,
    parts,
    run_table,
    scenes_found,
)
from liqe_core.studies.scene_checks import SIDES, by_class, changing


@pytest.fixture(scope="module")
def pages():
    """The text of the pages that report results of liqe-tiny."""
    paths = [CHECKOUT / name for name in ("README.md", "docs/index.md", "docs/results.md")]
    paths.append(PACKAGED["liqe-tiny"].with_suffix(".md"))
    return {path.stem: path.read_text("utf-8") for path in paths}


@pytest.fixture
def tables():
    """200 images with scores, 60 with distortions and scenes; two arms, one of which is better."""
    rng = np.random.default_rng(0)
    mos = rng.uniform(0, 1, 200)
    true = pd.DataFrame({"dataset": "biq2021", "image": [f"{i}.jpg" for i in range(200)], "mos": mos})
    true = true.assign(true_distortion=None, scenes="", reference=None, near_duplicate=np.arange(200) < 20)
    made = pd.DataFrame({"dataset": "made", "image": [f"{i}.png" for i in range(60)], "mos": np.nan})
    made["true_distortion"] = ["blur", "noise", "blur"] * 20
    made["scenes"] = ["plant;landscape", "", "animal"] * 20
    made = made.assign(reference=None, near_duplicate=False)
    true = pd.concat([true, made], ignore_index=True)
    runs = []
    for arm, noise in (("good", 0.05), ("bad", 1.0)):
        for seed in (1, 2):
            quality = np.r_[mos + noise * rng.normal(size=200), np.zeros(60)]
            answers = {"arm": arm, "seed": seed, "scene": "landscape", "distortion": "blur"}
            runs.append(true[["dataset", "image"]].assign(quality=quality, **answers))
    return true, pd.concat(runs, ignore_index=True)


def test_measures_of_each_set_and_without_near_duplicates(tables):
    true, predicted = tables
    found = run_table(predicted, true)
    run = found[(found["arm"] == "good") & (found["seed"] == 1)].set_index("dataset")
    assert list(run.index) == ["biq2021", "biq2021 without near-duplicates", "made"]
    assert run["images"].tolist() == [200, 180, 60]
    kept = predicted[(predicted["arm"] == "good") & (predicted["seed"] == 1)].iloc[20:200]
    assert run["srcc"].iloc[1] == srcc(kept["quality"].to_numpy(), true["mos"].iloc[20:200].to_numpy())
    assert np.isnan(run["srcc"].iloc[2]) and np.isnan(run["distortion_accuracy"].iloc[0])
    assert run["distortion_accuracy"].iloc[2] == pytest.approx(2 / 3)
    assert run["distortion_commonest"].iloc[2] == pytest.approx(2 / 3), "that arm always predicts blur"
    assert run["scene_commonest"].iloc[2] == pytest.approx(2 / 3), "plant and landscape, and plant for animal"
    assert np.isnan(run[["scene_commonest", "distortion_commonest"]].iloc[0].astype(float)).all()
    assert run["scene_accuracy"].iloc[2] == pytest.approx(1 / 3), "one label of three; missing is wrong"


def test_scenes_are_counted_as_the_training_script_counts():
    rng, words = np.random.default_rng(2), np.array(["animal", "human", "plant", "night"])
    p, hot = rng.random((50, 4)), rng.random((50, 4)) < 0.4
    likeliest = words[np.argsort(-p, axis=1)]
    named = [";".join(row[: max(1, k)]) for row, k in zip(likeliest, hot.sum(axis=1), strict=True)]
    table = pd.DataFrame({"scenes": [";".join(words[row]) for row in hot], "scene": named})
    found = scenes_found(table)
    assert found["labels"].sum() == hot.sum()
    assert found["found"].sum() / hot.sum() == pytest.approx(scene_accuracy(p, hot))


def test_the_card_counts_photographs_not_images():
    """Half of twenty photographs are predicted correctly, in all their versions."""
    made = pd.DataFrame({"photograph": np.repeat(np.arange(20), 25)})
    made["image"] = [f"{i}.png" for i in range(500)]
    made["reference"] = made["photograph"].map("{}.jpg".format)
    made = made.assign(dataset="open-distorted", mos=made.index / 500.0, quality=1.0 + made.index, scenes="")
    made["true_distortion"] = ["blur"] * 300 + ["noise"] * 200
    made = made.assign(near_duplicate=False, scene="")
    made["distortion"] = made["true_distortion"].where(made["photograph"] % 2 == 0, "contrast")
    card = card_table(made).set_index("measure")
    named = card.loc["distortion_accuracy"]
    assert named["reached"] == 0.5 and named["commonest"] == 0.6 and named["images"] == 500
    assert named["high"] - named["low"] > 0.35, "twenty draws, not five hundred, which give 0.09"
    ranked = card.loc["srcc"]
    assert ranked["reached"] == pytest.approx(1) and ranked["low"] == pytest.approx(1)
    scenes = made.assign(dataset="scenes", scenes=["plant;animal", "animal"] * 250, scene="animal;human")
    card = card_table(scenes)
    assert len(card) == 1 and card["reached"].item() == pytest.approx(2 / 3)
    assert card["commonest"].item() == 1, "animal, then plant"


def difference_cells(folder=""):
    """The differences of a kept table as the pages write them, by dataset, arm and reference."""
    table = pd.read_csv(KEPT / folder / "differences.csv").query("split == 'public'")
    cells = [f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})" for row in table.itertuples()]
    return pd.Series(cells, pd.MultiIndex.from_frame(table[["dataset", "arm", "reference"]]))


def test_pages_have_the_numbers_of_the_kept_answers(pages):
    """The README leaves out the measure that is flattered by near-duplicates."""
    for row in card_table(kept_answers()).itertuples():
        reached = f"{row.reached:.3f} ({row.low:.3f} to {row.high:.3f}) |"
        assert re.search(
            rf"\| {row.images} \| .* \| {re.escape(reached)} {row.commonest:.3f} \|", pages["liqe-tiny"]
        )
        flattered = row.dataset == "biq2021" and row.measure == "srcc"
        assert f"| {row.images:,} | {reached}" in pages["README"] or flattered
    kept = difference_cells()
    frozen, labelled, tuned = (
        [(f"{way}Q+S+D", f"{way}{other}") for other in ("Q", "shuffled")]
        for way in ("", "labelled ", "tuned ")
    )
    tables = (frozen + labelled, [*tuned, ("pseudo-labelled", "Q")])
    datasets = ("biq2021 without near-duplicates", "hevc", "hevc as shown")
    for name, pairs in itertools.product(datasets, tables):
        assert " | ".join(kept[name, *pair] for pair in pairs) in pages["results"]


def test_pages_have_the_numbers_of_the_study_with_a_trained_tower(pages):
    """Of both scene weights; the README has the difference from quality alone."""
    results, readme = (" ".join(pages[name].split()) for name in ("results", "README"))

    now, first_weight = difference_cells(), difference_cells("scene-weight-1")
    biq, hevc = "biq2021 without near-duplicates", "hevc as shown"
    for way in ("", "tuned "):
        assert all(now[name, f"{way}Q+S+D", f"{way}Q"] in readme for name in (biq, hevc))
    assert now[biq, "tuned shuffled", "tuned Q"] in results
    for reference in ("tuned Q", "tuned shuffled"):
        assert first_weight[hevc, "tuned Q+S+D", reference] in results
    behind = first_weight[biq, "tuned Q+S+D", "tuned Q"]
    assert behind == "-0.009 (-0.015 to -0.004)" and "0.009 (0.004 to 0.015) behind Q" in results
    ahead = first_weight[biq, "tuned Q+S+D", "tuned shuffled"]
    assert ahead == "+0.008 (+0.000 to +0.015)" and "0.008 (0.000 to 0.015) ahead of shuffled" in results
    first = pd.read_csv(KEPT / "scene-weight-1/runs.csv").query("split == 'public' and dataset == @biq")
    means = first.groupby("arm")[["srcc", "scene_accuracy"]].mean()
    assert "from {:.3f} and {:.3f} to".format(*means["srcc"][["tuned Q+S+D", "tuned shuffled"]]) in results
    assert f"({means['scene_accuracy']['tuned Q+S+D']:.2f} of the labels found)" in results
    runs = pd.read_csv(KEPT / "runs.csv").query("split == 'public'")
    runs = runs.pivot_table("srcc", ["dataset", "seed"], "arm")
    behind_q, ahead_of_shuffled = (
        runs["tuned Q+S+D"] - runs[f"tuned {other}"] for other in ("Q", "shuffled")
    )
    worst = f"{-behind_q[biq].min():.3f} behind Q on BIQ2021 and {-behind_q[hevc].min():.3f} behind on the"
    assert worst in results and behind_q[biq].idxmin() == behind_q[hevc].idxmin() == 5
    others = [f"{behind_q[name].drop(5).mean():.3f}" for name in (biq, hevc)]
    assert f"the other four are {others[0]} and {others[1]}" in results
    assert (ahead_of_shuffled[biq].drop(5) > 0).all()
    assert f"by {ahead_of_shuffled[biq].drop(5).mean():.3f} on average" in results


def test_the_card_counts_distortions_of_tid2013_and_quality_by_size(pages):
    card = " ".join(pages["liqe-tiny"].split())
    tid = pd.read_csv(KEPT / "tid2013-samples.csv")
    right = (tid["distortion"] == tid["true_distortion"]).sum()
    assert f"Of {len(tid)} images of TID2013" in card and f"{right} are named correctly" in card
    sizes = pd.read_csv(KEPT / "sizes.csv").groupby("dataset")
    for _, part in sizes:
        *first, last = (f"{part[f'quality {side}'].mean():.2f}" for side in SIDES)
        assert f"{', '.join(first)} and {last}" in card


def test_pages_say_how_often_scenes_are_right_and_change_with_the_size(pages):
    """In the model card by class, as `by_class` counts."""
    pages = {name: " ".join(page.split()) for name, page in pages.items()}
    sizes = pd.read_csv(KEPT / "sizes.csv").query("dataset == 'biq2021'")
    share = f" {round(100 * changing(sizes))} of {len(sizes)} "
    assert share in pages["README"] and share in pages["results"]
    samples = pd.read_csv(KEPT / "koniq10k-samples.csv")
    likeliest, labels = samples["scene"].str.split(";").str[0], samples["scenes"].str.split(";")
    right = sum(word in words for word, words in zip(likeliest, labels, strict=True))
    assert all(f"{right} of {len(samples)}" in page for page in pages.values())
    answers = kept_answers()
    faults = answers[(answers["dataset"] == "biq2021") & answers["true_distortion"].notna()]
    named = (faults["distortion"] == faults["true_distortion"]).sum()
    assert f"{named} of {len(faults)} of BIQ2021" in pages["results"]
    assert f"{len(faults)} labelled test images with an obvious distortion, {named} " in pages["liqe-tiny"]
    for dataset in ("scenes", "biq2021"):
        classes = by_class(answers[answers["dataset"] == dataset])
        for row in classes[classes.index.isin(SCENES)].itertuples():
            assert f"`{row.Index}` {row.right:.0f} of {row.images:.0f}" in pages["liqe-tiny"]


def test_pages_have_the_numbers_of_the_sources_left_out():
    sources = pd.read_csv(KEPT / "sources.csv")
    counts = sources.groupby("scene")[["images", "right"]].sum()
    accuracy, others = counts["right"] / counts["images"], counts.loc["others"]
    numbers = f"{accuracy.mean():.3f}", f"{others['right']} of {others['images']}"
    numbers += (f"{accuracy.drop('others').mean():.3f}",)
    for page in (CHECKOUT / "docs" / "results.md", PACKAGED["liqe-tiny"].with_suffix(".md")):
        assert all(number in page.read_text("utf-8") for number in numbers)


def test_the_part_of_tid2013_is_also_measured_a_reference_at_a_time(tables):
    true, _ = tables
    tid = true.head(120).assign(dataset="tid2013-part", reference=["i01", "i02"] * 60, near_duplicate=False)
    found = {name: len(part) for name, part in parts(tid)}
    assert found == {"tid2013-part": 120, "tid2013-part i01": 60, "tid2013-part i02": 60}


def test_images_of_a_single_reference_are_drawn_one_by_one(tables):
    """Two references are too few for an interval, but the images of one of them are not."""
    true, predicted = tables
    tid = true.head(120).assign(dataset="tid2013-part", reference=["i01", "i02"] * 60, near_duplicate=False)
    good = predicted[(predicted["arm"] == "good") & (predicted["seed"] == 1)].assign(dataset="tid2013-part")
    found = level_table({"good": good}, tid).set_index("dataset")
    assert np.isnan(found.loc["tid2013-part", "low"])
    assert (found["low"].iloc[1:] < found["srcc"].iloc[1:]).all()


def test_a_measurable_difference_is_reported(tables):
    true, predicted = tables
    pairs = [("good", "bad"), ("bad", "good"), ("good", "good"), ("good", "absent")]
    found = difference_table(predicted, true, pairs)
    whole = found[found["dataset"] == "biq2021"]
    assert whole["verdict"].tolist() == ["better", "worse", "not measurable"]
    assert whole["difference"].iloc[0] == -whole["difference"].iloc[1] > 0.2
    assert (whole["low"] <= whole["difference"]).all() and (whole["difference"] <= whole["high"]).all()
    assert whole[["runs", "better"]].to_numpy().tolist() == [[2, 2], [2, 0], [2, 0]]
    assert "made" not in set(found["dataset"]), "these images have no MOS"


def test_a_constant_answer_counts_as_no_correlation(tables):
    true, predicted = tables
    good = predicted[(predicted["arm"] == "good") & (predicted["seed"] == 1)]
    found = level_table({"good": good, "constant": good.assign(quality=0.0)}, true)
    found = found.set_index(["dataset", "method"])
    assert found.loc[("biq2021", "constant"), ["srcc", "low", "high"]].tolist() == [0, 0, 0]
    assert found.loc[("biq2021", "good"), "srcc"] > 0.9
    assert found.loc[("biq2021 without near-duplicates", "good"), "images"] == 180
