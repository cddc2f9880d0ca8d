import numpy as np
import pandas as pd
import pytest

from liqe_core.data.tables import LabelError
from liqe_core.studies import gmad
from liqe_core.studies.gmad import attack_resistance, compete, gmad_pairs, preference, quality_levels


def brute_force(scores, attacker, defender, low, high):
    """The furthest pair within a level by looking at every pair; the first in table order of equals."""
    table = scores[[attacker, defender]].dropna()
    group = table[(table[defender] >= low) & (table[defender] <= high)]
    apart = np.subtract.outer(group[attacker].to_numpy(), group[attacker].to_numpy())
    if apart.size == 0 or apart.max() == 0:
        return None, 0.0
    better, worse = np.unravel_index(apart.argmax(), apart.shape)
    return (group.index[better], group.index[worse]), apart.max()


def test_pairs_equal_brute_force_on_2000_random_scores():
    rng = np.random.default_rng(5)
    quality = rng.normal(size=2000)
    # One decimal makes ties plenty, some rows are missing, and the index is not the row number.
    scores = pd.DataFrame(
        {"a": (quality + rng.normal(size=2000)).round(1), "b": quality.round(1)},
        index=[f"photo {i}" for i in rng.permutation(2000)],
    )
    scores.iloc[rng.choice(2000, 50, replace=False), 0] = np.nan
    for attacker, defender in [("a", "b"), ("b", "a")]:
        pairs = gmad_pairs(scores, attacker, defender, levels=4)
        assert (pairs["dropped"] == 50).all()
        assert (pairs["reason"] == "").sum() >= 3
        for row in pairs.itertuples():
            best, gap = brute_force(scores, attacker, defender, row.low, row.high)
            if best is None:
                assert row.reason and pd.isna(row.better)
                continue
            assert (row.better, row.worse) == best
            assert row.gap == pytest.approx(gap, abs=0)
            assert row.defender_better == scores.at[row.better, defender]
            assert row.attacker_worse == scores.at[row.worse, attacker]


def test_pairs_by_hand():
    # The defender's range is 0..10; two levels of width 0.4 are [0.5, 4.5] and [5.5, 9.5].
    scores = pd.DataFrame(
        {"defender": [0, 1, 2, 4, 5, 6, 9, 10.0], "attacker": [9, 3, 3, 7, 0, 2, 2, 8.0]},
        index=list("abcdefgh"),
    )
    low, high = gmad_pairs(scores, "attacker", "defender", width=0.4).itertuples()
    assert (low.name, low.count, low.low, low.high) == ("low", 3, pytest.approx(0.5), pytest.approx(4.5))
    assert (low.better, low.worse, low.gap) == ("d", "b", 4.0), "b and c tie: the first in the table"
    assert low.gap_percent == pytest.approx(100 * 4 / 9), "the attacker's range is 0..9"
    assert low.share == 3 / 8
    assert (high.name, high.count) == ("high", 2)
    assert high.reason == "attacker gives all images of this level the same score"
    assert pd.isna(high.gap) and pd.isna(high.better)


def test_equal_width_levels_are_windows_around_the_centres():
    levels = quality_levels(np.array([0.0, 100.0]), levels=6, width=0.18)
    assert levels["low"].to_numpy() == pytest.approx([0, 16, 32.667, 49.333, 66, 82.667], abs=1e-3)
    assert levels["high"].to_numpy() == pytest.approx([17.333, 34, 50.667, 67.333, 84, 100], abs=1e-3)
    assert list(levels["name"]) == ["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]


def test_levels_without_a_pair_say_why():
    scores = pd.DataFrame({"d": [0.0, 0.0, 10.0, 7.5], "a": [1.0, 2.0, 3.0, 4.0]})
    pairs = gmad_pairs(scores, "a", "d", levels=2)
    assert list(pairs["reason"]) == ["no image at this level", "a single image at this level"]
    assert list(pairs["count"]) == [0, 1]
    numbers = pd.DataFrame({"d": [0.0, 3, 4, 9, 10], "a": [0.0, 1, 2, 3, 4]})
    numbered = gmad_pairs(numbers, "a", "d", width=0.4)
    assert list(numbered["better"]) == [2, None] and isinstance(numbered.at[0, "better"], int), "2, not 2.0"


def test_a_constant_defender_is_attacked_over_all_images():
    pairs = gmad_pairs(pd.DataFrame({"d": [3.0] * 4, "a": [1.0, 4.0, 0.0, 2.0]}), "a", "d")
    assert list(pairs["better"]) == [1, 1] and list(pairs["worse"]) == [2, 2]


def test_bad_settings_name_themselves():
    scores = pd.DataFrame({"a": [1.0, 2.0], "b": [np.nan, np.inf]})
    with pytest.raises(KeyError, match="'c'"):
        gmad_pairs(scores, "a", "c")
    with pytest.raises(ValueError, match="nothing can compete"):
        gmad_pairs(scores, "a", "b")
    with pytest.raises(ValueError, match="levels=0"):
        quality_levels(np.arange(3.0), levels=0)
    with pytest.raises(ValueError, match=r"width=1\.5"):
        quality_levels(np.arange(3.0), width=1.5)
    with pytest.raises(ValueError, match="two rows are called 'x'"):
        gmad_pairs(pd.DataFrame({"a": [1, 2], "b": [2, 1]}, index=["x", "x"]), "a", "b")
    with pytest.raises(ValueError, match="two scorers"):
        compete(scores[["a"]])


@pytest.fixture
def three_scorers():
    rng = np.random.default_rng(0)
    quality = rng.uniform(size=3000)
    noisy = {name: quality + s * rng.normal(size=3000) for name, s in [("good", 0.02), ("fair", 0.2)]}
    return pd.DataFrame(noisy | {"poor": rng.uniform(size=3000)})


def test_compete_meets_every_other_over_the_same_images(three_scorers):
    three_scorers.loc[7, "poor"] = np.nan
    three_scorers["note"] = "text is no score"
    pairs = compete(three_scorers, levels=3)
    assert len(pairs) == 3 * 2 * 3
    assert (pairs["dropped"] == 1).all()
    good = pairs[pairs["defender"] == "good"].groupby("attacker")["count"].sum()
    assert good["fair"] == good["poor"], "row 7 is out for all"


def test_attack_and_resistance_by_hand():
    # Two levels, of 30 and 10 images, so weights 3/4 and 1/4; i attacks j and j attacks i.
    pairs = pd.DataFrame({"defender": [*"jjii"], "attacker": [*"iijj"]}, index=[10, 11, 12, 13])
    pairs["share"], pairs["gap_percent"] = [0.3, 0.1, 0.3, 0.1], [80.0, 40.0, 50.0, np.nan]
    pairs["reason"] = ["", "", "", "no image at this level"]
    apart = gmad.disagreement(pairs)
    assert apart.at["i", "j"] == pytest.approx(0.75 * 80 + 0.25 * 40)
    assert apart.at["j", "i"] == pytest.approx(50), "the level that holds a pair has all the weight"
    attack, resistance, ranking = attack_resistance(pairs, {10: 80, 11: 40, 12: 50})
    pd.testing.assert_frame_equal(attack, apart)  # people agree with the attackers
    assert resistance.at["j", "i"] == pytest.approx(100 - 70)
    assert resistance.at["i", "j"] == pytest.approx(50)
    assert np.isnan(attack.to_numpy().diagonal()).all()
    assert list(ranking.index) == ["i", "j"]
    assert ranking.sum().to_numpy() == pytest.approx(0)

    # People see i's first pair the other way round: i's attack suffers, and j still does not resist.
    judged = attack_resistance(pairs, preference={10: -60, 11: 20, 12: 50})
    assert judged.attack.at["i", "j"] == pytest.approx(0.75 * -60 + 0.25 * 20)
    assert judged.resistance.at["j", "i"] == pytest.approx(0.75 * 40 + 0.25 * 80)
    assert list(judged.ranking.index) == ["j", "i"]
    with pytest.raises(ValueError, match="pair 12"):
        attack_resistance(pairs, preference={10: 1, 11: 2})
    with pytest.raises(ValueError, match="outside -100"):
        attack_resistance(pairs, preference={10: 1, 11: 2, 12: 300})


def test_people_who_see_the_true_quality_find_the_scorer_that_knows_more(three_scorers):
    rng = np.random.default_rng(0)
    quality = pd.Series(rng.uniform(size=3000))  # the fixture's first draw
    pairs = compete(three_scorers, levels=6)
    people = preference(pairs, quality)
    ranking = attack_resistance(pairs, people).ranking
    assert list(ranking.index) == ["good", "fair", "poor"]
    assert ranking["resistance"].is_monotonic_decreasing
    table = gmad.how_often_right(gmad.who_was_right(pairs, people)).set_index(["side", "scorer"])
    assert table.loc[("attacker", "good"), "share"] > 0.9 > table.loc[("attacker", "poor"), "high"]
    assert (table["pairs"] >= 6).all() and (table["low"] <= table["share"]).all()


def test_mos_give_preferences_for_pairs():
    scores = pd.DataFrame({"x": [1.0, 1.05, 2.0], "y": [3.0, 1.0, 2.0]}, index=["a", "b", "c"])
    pairs = compete(scores, levels=2, width=0.5)
    preferred = preference(pairs, pd.Series({"c": 5.0, "b": 3.0, "a": 2.0, "unseen": 7.0}))
    judged = pairs.assign(preference=pd.Series(preferred)).set_index(["attacker", "name"])
    assert judged.loc[("y", "low"), ["better", "worse"]].tolist() == ["a", "b"]
    assert judged.loc[("y", "low"), "preference"] == pytest.approx(-20), (
        "people contradict: 2 against 3, of 2 to 7"
    )
    assert set(preferred) == set(pairs.index[pairs["reason"] == ""])
    with pytest.raises(KeyError):
        preference(pairs, pd.Series({"a": 1.0, "c": 2.0}))


def test_who_was_right_and_how_often_by_hand():
    pairs = pd.DataFrame({"attacker": [*"iiiijj"], "defender": [*"jjjjii"]})
    pairs["better"], pairs["worse"] = [*"aceag", None], [*"bdfhb", None]
    pairs["gap_percent"] = [90.0, 50, 40, 10, 30, np.nan]
    pairs["reason"] = [""] * 5 + ["no image at this level"]
    judged = gmad.who_was_right(pairs, {0: 60, 1: 4.9, 2: -30, 3: 5, 4: -4.9}, least=5)
    assert judged["right"].tolist() == ["attacker", "defender", "neither", "attacker", "defender"]
    table = gmad.how_often_right(judged).set_index(["side", "scorer"])
    # The fourth pair shares `a` with the first, which i pulls further apart: of four, three count.
    assert table.loc[("attacker", "i"), ["pairs", "attacker", "defender", "neither"]].tolist() == [3, 1, 1, 1]
    assert table.loc[("defender", "j"), ["pairs", "share"]].tolist() == [3, pytest.approx(1 / 3)]
    row = table.loc[("defender", "i")]
    assert (row["pairs"], row["share"]) == (1, 1)
    # Clopper and Pearson, one success of one: from 0.025 to 1.
    assert (row["low"], row["high"]) == (pytest.approx(0.025), 1)


def test_scores_of_people_from_a_file(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("image;MOS\nb.jpg;3.5\nsub/a.jpg;1\n")
    assert gmad.human_scores(path).to_dict() == {"b.jpg": 3.5, "sub/a.jpg": 1.0}
    path.write_text("image,score\nb.jpg,3\n")
    with pytest.raises(LabelError, match=r"scores.csv, line 1: no column 'mos'"):
        gmad.human_scores(path)


def test_a_competition_without_any_pair_is_all_missing():
    pairs = compete(pd.DataFrame({"x": [1.0, 2.0], "y": [2.0, 1.0]}))
    assert (pairs["reason"] != "").all()
    attack, resistance, ranking = attack_resistance(pairs, {})
    assert gmad.disagreement(pairs).isna().all(axis=None)
    assert attack.isna().all(axis=None) and resistance.isna().all(axis=None)
    assert list(ranking.index) == ["x", "y"]
