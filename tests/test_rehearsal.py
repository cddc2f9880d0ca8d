"""The README's three commands from end to end, on drawn images in the layouts of the real archives: fetch,
unpack, verify, pack; the authors' weights, small and random; training, six sets, two steps; the tables."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from support.hub import LABELLED, stand_in
from support.models import pyiqa_file

from liqe_core import LIQE, checkpoints
from liqe_core.commands import notebooks
from liqe_core.commands.main import main
from liqe_core.data.manifests import TRAINING_SETS, load_manifest
from liqe_core.data.verification import status
from liqe_core.evaluation.measuring import measure
from liqe_core.files import CHECKOUT
from liqe_core.prompts import VARIANTS
from liqe_core.training.prepare import labelled
from liqe_core.training.profiles import profile

#: What makes minutes of days; the rest is the profile `paper`.
SMALL = {"architecture": "LIQE-smoke", "batch_sizes": dict.fromkeys(TRAINING_SETS, 2), "device": "cpu"}
SMALL |= {"epochs": 1, "steps": 2, "windows": 3, "learning_rate": 1e-3}


@pytest.fixture
def hub(tmp_path, monkeypatch, openai_state, openai_small):
    """A local replacement for the hub with all datasets, and empty local folders."""
    names = [*TRAINING_SETS, "tid2013"]
    with stand_in(tmp_path, monkeypatch, names) as hub:
        shutil.copy(CHECKOUT / "data_manifests" / "published.yaml", tmp_path / "manifests")
        monkeypatch.setenv("LIQE_RUNS", str(tmp_path / "runs"))
        official = dataclasses.replace(checkpoints.PUBLISHED["official"], architecture=openai_small)
        monkeypatch.setitem(checkpoints.PUBLISHED, "official", official)
        monkeypatch.setattr(notebooks, "can_build_site", lambda: False)  # the site has tests of its own
        hub.files[f"{checkpoints.HUB}/{official.file}"] = pyiqa_file(openai_state)
        yield hub


def in_a_line(heading):
    """A column's heading as the figure of the table has it, without its line break."""
    return heading.replace("\n", " ")


# Dask kills a worker that ends slowly; its open resources are not closed by our code.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_three_commands_from_nothing_to_the_tables(hub, tmp_path, small_liqe, capfd):
    def liqe(*words):
        code = main(list(map(str, words)))
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    small_liqe.save(tmp_path / "start.safetensors")
    changes = SMALL | {"pretrained": str(tmp_path / "start.safetensors")}
    words = [word for name, value in changes.items() for word in ("--set", name, json.dumps(value))]

    # Without data, the second and the third command print what to do, and download nothing.
    code, out, err = liqe("check")
    assert code == 1 and "liqe data fetch koniq10k" in out and err
    code, _, err = liqe("sweep", "--profile", "paper", *words)
    assert code == 1 and all(f"liqe data fetch {name}" in err for name in TRAINING_SETS)
    assert hub.asked == [] and not (tmp_path / "runs").exists()

    # liqe data fetch paper, and one of the unseen sets
    code, out, err = liqe("data", "fetch", "paper", "tid2013", "--yes", "--quiet")
    assert (code, err) == (0, ""), err
    for name in (*TRAINING_SETS, "tid2013"):
        now = status(load_manifest(name))
        assert (now.state, now.found) == ("complete", len(LABELLED[name]))
    assert liqe("data", "verify", "--quiet")[0] == 0
    assert liqe("data", "pack", *TRAINING_SETS, "--quiet")[0] == 0

    # make paper-check
    code, out, err = liqe("check")
    assert code == 0, err
    assert "CC BY-NC-SA" in err
    results = pd.read_csv(tmp_path / "runs" / "paper" / "check" / "official" / "results.csv")
    within = results[results["protocol"] == "within-set"]
    within = within.pivot(index="dataset", columns="metric", values="value")
    assert list(within.index) == sorted(TRAINING_SETS) and within.notna().all(axis=None)
    bid = labelled("bid", profile("paper"))
    (by_hand,) = measure(LIQE.from_checkpoint("official"), [bid], 1, "test").to_dict("records")
    measured = within.loc["bid", ["SRCC", "PLCC", "scene accuracy", "distortion accuracy"]].tolist()
    names = ["srcc", "plcc", "scene_accuracy", "distortion_accuracy"]
    assert measured == pytest.approx([by_hand[name] for name in names])
    asked = len(hub.asked)

    # make paper, of two variants and sessions; that a sweep's workers train is held by its own tests
    variants = (VARIANTS[-1], VARIANTS[0])
    for session in (1, 2):
        for variant in variants:
            cell = ["--set", "variant", variant, "--set", "session", session, "--set", "seed", session]
            code, _, err = liqe("train", "--profile", "paper", *words, *cell)
            assert code == 0, err
    sweep = ["sweep", "--profile", "paper", *words, "--sessions", 1, 2, "--seeds", 1, "--variants", *variants]
    code, out, err = liqe(*sweep, "--workers", 1, "--dashboard", "127.0.0.1:0")
    assert code == 0, out + err
    assert "4 of 4 cells are done" in out
    tables = ["notebooks", "10_paper_tables", "--profile", "paper"]
    code, out, err = liqe(*tables, "-p", "changes", json.dumps(changes))
    assert code == 0, err
    assert len(hub.asked) == asked, "everything was available locally"
    tables = tmp_path / "runs" / "paper" / "paper_tables"
    text = pd.read_csv(tables / "within_set.csv", index_col="method").rename(columns=in_a_line)
    names = ["LIQE", "official, session 1", "ours (2 sessions)", "ours, best by average"]
    assert list(text.index[-4:]) == names
    value = float(text.loc["official, session 1", "bid SRCC"].split()[0])
    assert value == pytest.approx(within.loc["bid", "SRCC"], abs=6e-4)
    assert text.iloc[-3:].map(lambda cell: "no " not in cell).all(axis=None), "every cell is filled"
    unseen = pd.read_csv(tables / "unseen.csv", index_col="method").rename(columns=in_a_line)
    assert all(np.isfinite(float(unseen.loc[row, "tid2013 SRCC"])) for row in ("official", "ours"))
    assert (tables / "confusion_scene.csv").exists() and (tables / "confusion_distortion.csv").exists()
    assert pd.read_csv(tables / "excluded.csv").empty
