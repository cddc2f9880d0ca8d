"""``liqe score``: nothing lost, nothing silent, and no traceback for a mistake of the user's."""

import contextlib
import dataclasses
import errno
import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.data import write_image
from support.interrupting import SIGNALS, Job, liqe
from support.models import of_twelve_prompts
from support.training import CrashError, crash

from liqe_core import LIQE, checkpoints, scoring
from liqe_core.commands.main import main
from liqe_core.commands.score_files import clear_parts
from liqe_core.files import only_one, unescaped
from liqe_core.images import ImageError


def score(model, *arguments):
    return main(["score", "--checkpoint", model, *map(str, arguments)])


def shards(folder):
    """The files of a run's shards, and the images in each."""
    return {
        path: [json.loads(line)["image"] for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }


@contextlib.contextmanager
def after_batches(count, act):
    """In the block, `act` is called when a run has scored so many batches; gives the images of all batches
    that were scored."""
    whole, begun = scoring.joint_by_batch, []

    def counting(model, crops_of, batches, *options):
        for number, result in enumerate(whole(model, crops_of, batches, *options)):
            if number == count:
                act()
            begun.extend(batches[number])
            yield result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "joint_by_batch", counting)
        yield begun


def test_a_shard_with_a_changed_image_or_a_torn_file_is_scored_again(model, folder):
    score(model, "images", "--csv", "whole.csv", "--batch-size", 4)
    with after_batches(5, crash), pytest.raises(CrashError):
        score(model, "images", "--csv", "t.csv", "--batch-size", 4)
    ((path, images),) = shards(folder / "t.csv.shards").items()
    for damage in (
        lambda: os.utime(folder / images[3], ns=(1, 1)),
        lambda: path.write_text(path.read_text()[:-40]),
        lambda: path.write_text("[1]\n" * 16),
        lambda: path.unlink(),
    ):
        damage()
        with after_batches(5, crash) as begun, pytest.raises(CrashError):
            score(model, "images", "--csv", "t.csv", "--batch-size", 4)
        assert begun[:16] == images
    assert score(model, "images", "--csv", "t.csv", "--batch-size", 4) == 1
    assert (folder / "t.csv").read_bytes() == (folder / "whole.csv").read_bytes()


def test_unreadable_files_are_tried_again_and_broken_files_are_not(model, folder):
    images = ["images/07b.png", "images/missing.png", "http://127.0.0.1:9/a.png"]
    (folder / "list").write_text("\n".join([*images, *[f"images/{i:02}.png" for i in range(20)]]))
    run = ["--from-file", "list", "--csv", "t.csv", "--batch-size", 1]
    for path in ("images/missing.png", None):
        with after_batches(22, crash), pytest.raises(CrashError):
            score(model, *run)
        (kept,) = shards(folder / "t.csv.shards").values()
        assert kept[:3] == images
        if path:
            write_image(folder / path, 40, 40, seed=1)
    assert score(model, *run) == 1
    table = pd.read_csv("t.csv")
    assert table.loc[table["error"].notna(), "image"].tolist() == [images[0], images[2]]


def test_another_run_is_not_continued(model, folder, capsys):
    with after_batches(2, crash), pytest.raises(CrashError):
        score(model, "images", "--csv", "t.csv")
    options = {"--geometry": "standalone", "--batch-size": 5, "--enlarge-to": 200, "--orientation": "apply"}
    for option in (options | {"--precision": "bfloat16"}).items():
        assert score(model, "images", "--csv", "t.csv", *option) == 1
        message = capsys.readouterr().err
        assert "t.csv.shards" in message and option[0] in message and "--restart" in message
    changed = LIQE.from_checkpoint(model)
    with torch.no_grad():
        changed.clip.logit_scale.add_(0.1)
    changed.save(folder / "other")
    assert score(str(folder / "other"), "images", "--csv", "t.csv") == 1
    assert "checkpoint" in capsys.readouterr().err
    about = json.loads((folder / "t.csv.shards/about.json").read_text())
    about["version of liqe_core, torch or Pillow"].pop(0)  # as before the form was written down
    for content, word in [(json.dumps(about), "version"), ("[]", "damaged"), ('{"shard": 1', "--restart")]:
        (folder / "t.csv.shards/about.json").write_text(content)
        assert score(model, "images", "--csv", "t.csv") == 1 and word in capsys.readouterr().err
    assert score(str(folder / "other"), "images/01.png", "--csv", "t.csv", "--restart") == 0
    assert len(pd.read_csv("t.csv")) == 1


def test_an_unrelated_folder_is_not_modified(model, folder, capsys):
    (folder / "t.csv.shards").mkdir()
    (folder / "t.csv.shards" / "mine.txt").touch()
    for options in ([], ["--restart"]):
        assert score(model, "images", "--csv", "t.csv", *options) == 1
        assert "t.csv.shards: " in capsys.readouterr().err
    assert (folder / "t.csv.shards" / "mine.txt").exists()


@pytest.mark.slow
def test_killed_at_random_the_table_is_the_same(model, folder):
    """LIQE_KILLS=100 does so at length."""
    images = ("images", "images/../images", folder / "images")  # 63 names, four shards
    command = ("score", "--checkpoint", model, *images, "--batch-size", "1", "--csv")
    whole = Job(liqe, (*command, "whole.csv")).start()
    began = time.monotonic()
    whole.join()
    job = Job(liqe, (*command, "killed.csv"), folder / "log")
    kept = {}

    def never_twice():
        now = {path: path.stat().st_mtime_ns for path in shards(folder / "killed.csv.shards")}
        assert kept.items() <= now.items() or not now
        kept.update(now)

    kills = int(os.environ.get("LIQE_KILLS", "5"))
    codes = job.ended_at_random(random.Random(0), kills, 0.6 * (time.monotonic() - began), never_twice)
    log = (folder / "log").read_text()
    assert set(codes) <= {1, 130, 143, *(-number for number in SIGNALS)}, log
    assert (folder / "killed.csv").read_bytes() == (folder / "whole.csv").read_bytes()
    assert "Traceback" not in log
    if {130, 143} & set(codes):
        assert "stopped by SIG" in log
    assert {path.name for path in folder.iterdir()} == {"images", "cache", "whole.csv", "killed.csv", "log"}


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_scores_and_prints_how_to_resume(model, folder, capsys, number, code):
    with after_batches(5, lambda: os.kill(os.getpid(), number)):
        assert score(model, "images", "--csv", "t.csv", "--batch-size", 4) == code
        assert "15 of 21 images are scored and saved in t.csv.shards" in capsys.readouterr().err
        assert sum(map(len, shards(folder / "t.csv.shards").values())) == 16
        assert score(model, "images", "--batch-size", 4) == code
    printed = capsys.readouterr()
    with after_batches(0, lambda: os.kill(os.getpid(), number)):
        assert score(model, "images") == code and capsys.readouterr().out == "", "no empty table"
    assert printed.out.count("images/") == 20 and "--csv FILE" in printed.err


def test_printed_scores_are_not_written_to_disk(model, folder, capsys):
    before = sorted(folder.rglob("*"))
    assert score(model, "images") == 1
    assert sorted(folder.rglob("*")) == before
    quality = LIQE.from_checkpoint(model).score("images/03.png").quality.item()
    assert f"{quality:.6f}" in capsys.readouterr().out


def test_without_a_checkpoint_the_packaged_one_is_taken_with_a_notice(model, folder, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "PACKAGED", {"liqe-tiny": Path(model)})
    assert main(["score", "images"]) == 1
    packaged = capsys.readouterr()
    assert score(model, "images") == 1
    named = capsys.readouterr()
    assert named.out == packaged.out and "liqe-tiny" in packaged.err and "liqe-tiny" not in named.err
    LIQE.from_clip("LIQE-smoke", pretrained=None).save("liqe-tiny")  # a file that is called so wins
    assert main(["score", "images"]) == 1
    mine = capsys.readouterr()
    assert mine.out != packaged.out and mine.err == named.err


@pytest.mark.parametrize("when", ["scoring", "writing the table"])
def test_a_full_disk_is_reported_with_the_saved_scores(model, folder, monkeypatch, capsys, when):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    function = "score_engine.Shard.keep" if when == "scoring" else "score_files.write"
    monkeypatch.setattr(f"liqe_core.commands.{function}", full)
    assert score(model, "images", "--csv", "t.csv") == 1
    message = capsys.readouterr().err
    kept = 0 if when == "scoring" else 20
    assert str(folder) in message and f"{kept} of 21 images" in message and "t.csv.shards" in message
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert score(model, "images", "--csv", "t.csv") == 1 and not (folder / "t.csv.shards").exists()


def test_the_output_path_is_checked_first(model, folder, capsys, monkeypatch):
    (folder / "full").mkdir()
    (folder / "file").touch()
    (folder / "list").write_text("images/03.png\n")
    monkeypatch.setattr(LIQE, "from_checkpoint", lambda *_, **__: pytest.fail("too late"))
    assert score(model, "missing.jpg") == 1 and "missing.jpg: no such file" in capsys.readouterr().err
    for arguments, word in [
        (["--csv", ""], "--csv ''"),
        (["--csv", "full"], "--csv full"),
        (["--csv", model], model),
        (["--csv", "images/03.png"], "images/03.png"),
        (["--csv", "a", "--json", "a"], "same name"),
        (["--csv", "list", "--from-file", "list"], "list"),
        (["--csv", "a", "--max-pixels", "-3"], "--max-pixels -3"),
        (["--csv", "a", "--batch-size", "0"], "--batch-size 0"),
        (["--csv", "a", "--geometry", "round"], "'round'"),
        (["--csv", "a", "--grid", "mood"], "'mood'"),
        (["--csv", "a", "--device", "gpu"], "--device gpu"),
        (["--csv", "a", "--include", "*.jpg"], "no image"),
    ]:
        assert score(model, "images", *arguments) == 1
        assert word in capsys.readouterr().err, arguments
    for images, word in (((), "images"), (["full"], "full: ")):
        assert score(model, *images) == 1
        assert word in capsys.readouterr().err
    with only_one(folder / "a.shards"):
        assert score(model, "images", "--csv", "a") == 1
    assert "another process" in capsys.readouterr().err


def test_images_can_be_enlarged_to_the_size_at_which_people_see_them(model, folder, capsys):
    assert score(model, "images/03.png", "--enlarge-to", "31") == 1
    assert "enlarge_to" in capsys.readouterr().err
    assert score(model, "images/03.png", "--csv", "t.csv", "--enlarge-to", "200") == 0
    enlarged = LIQE.from_checkpoint(model)
    enlarged.geometry = dataclasses.replace(enlarged.geometry, enlarge_to=200)
    quality = enlarged.score("images/03.png").quality.item()
    assert pd.read_csv("t.csv")["quality"].item() == pytest.approx(quality, abs=1e-6)


def test_the_table_is_written_through_a_link(model, folder):
    (folder / "link.csv").symlink_to("kept.csv")
    assert score(model, "images/03.png", "--csv", "link.csv") == 0
    assert (folder / "link.csv").is_symlink() and "images/03.png" in (folder / "kept.csv").read_text()


def test_a_table_goes_to_an_open_file_or_a_device_without_replacing_it(model, folder, capfd):
    for place in ("-", "/dev/stdout", "/dev/fd/1"):
        os.write(1, b"before\n")
        assert score(model, "images/01.png", "--csv", place) == 0
        os.write(1, b"after\n")
        before, *table, after = capfd.readouterr().out.splitlines()
        assert (before, table[0][:13], len(table), after) == ("before", "image,quality", 2, "after")
    assert score(model, "images/01.png", "--json", "/dev/null") == 0 and not os.path.isfile("/dev/null")


def test_files_of_a_running_job_are_not_deleted(folder):
    for name in (".page.0a1b2c3d.part.html", ".page.2.0a1b2c3d.part.html"):
        (folder / name).touch()
    clear_parts(folder / "page.html")
    assert [path.name for path in folder.glob(".page*")] == [".page.2.0a1b2c3d.part.html"]


def test_weights_that_overflow_are_an_error_and_no_empty_cell(folder, capsys):
    liqe = of_twelve_prompts()
    liqe.clip.logit_scale.data.fill_(1e9)
    liqe.save(folder / "overflow.safetensors")
    assert score("overflow.safetensors", "images/03.png", "--csv", "t.csv") == 1
    output = capsys.readouterr()
    assert "0 of 1 images scored" in output.out
    assert "images/03.png: " in output.err and "weights" in output.err
    with pytest.raises(ImageError, match=r"03\.png"):
        liqe.score("images/03.png")
    assert liqe.score("images/03.png", on_error="skip").errors


def test_any_name_is_written_so_that_it_reads_back(model, folder, capsys):
    names = [b"caf\xe9.png", b"a\nb.png", "sch\u00f6n\u2028.png".encode(), rb"back\slash.png", b"\x85.png"]
    (folder / "odd").mkdir()
    for name in names:
        (folder / "odd" / os.fsdecode(name)).write_bytes((folder / "images/00.png").read_bytes())
    assert score(model, "odd", "--csv", "t.csv", "--json", "t.json") == 0
    table = pd.read_csv("t.csv")
    assert {os.fsencode(unescaped(name)) for name in table["image"]} == {b"odd/" + name for name in names}
    lines = [json.loads(line) for line in (folder / "t.json").read_text().splitlines()]
    assert [line["image"] for line in lines] == table["image"].tolist()
    assert [line["quality"] for line in lines] == table["quality"].tolist()
    capsys.readouterr()
    assert score(model, "odd") == 0
    assert rb"caf\xe9.png".decode() in capsys.readouterr().out


def test_forms_agree_and_have_distributions_when_asked(model, folder):
    assert score(model, "images", "--csv", "t.csv", "--json", "t.json", "--distributions") == 1
    table = pd.read_csv("t.csv")
    words = ["quality=bad", "quality=fair", "quality=good", "scene=sea", "scene=sky"]
    assert table.columns.tolist()[-8:] == [*words, "distortion=blur", "distortion=noise", "error"]
    good = table[table["error"].isna()]
    assert np.allclose(good[words[:3]].sum(axis=1), 1) and np.allclose(good[words[3:]].sum(axis=1), 1)
    assert np.allclose(good[words[:3]] @ [1, 2, 3], good["quality"], atol=1e-5)
    assert np.allclose(good[words[3:]].max(axis=1), good["scene_probability"])
    lines = [json.loads(line) for line in (folder / "t.json").read_text().splitlines()]
    assert [line["scene=sea"] for line in lines if not line["error"]] == good["scene=sea"].tolist()
    assert lines[8]["quality"] is None and "no image" not in lines[8]["image"]


def test_parquet(model, folder):
    pytest.importorskip("pyarrow")
    assert score(model, "images", "--parquet", "t.parquet", "--csv", "t.csv") == 1
    tables = pd.read_parquet("t.parquet"), pd.read_csv("t.csv")
    pd.testing.assert_frame_equal(*tables, check_dtype=False, atol=1e-7)


def test_lists_and_patterns(model, folder, monkeypatch, capsys):
    (folder / "list").write_bytes(b"images/01.png\r\n\nimages/02.png\nimages/01.png\n")
    assert score(model, "--from-file", "list", "--csv", "t.csv") == 0
    table = pd.read_csv("t.csv")
    assert table["image"].str[-6:].tolist() == ["01.png", "02.png", "01.png"]
    assert table["quality"][0] == table["quality"][2]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"images/01.png\0images/05.png\0")))
    assert score(model, "--from-file", "-", "--csv", "t.csv") == 0 and len(pd.read_csv("t.csv")) == 2
    (folder / "wide").write_bytes("images/01.png\r\nimages/02.png\r\n".encode("utf-16"))
    assert score(model, "--from-file", "wide", "--csv", "t.csv") == 0 and len(pd.read_csv("t.csv")) == 2
    (folder / "long").write_bytes(b"x" * 5000)
    (folder / "half").write_bytes(b"\xff\xfea")
    for path in ("images/01.png", "long", "half", "not-there", "images"):
        capsys.readouterr()
        assert score(model, "--from-file", path, "--csv", "t.csv") == 1
        output = capsys.readouterr().err
        assert output.startswith(f"error: --from-file {path}: ")
        assert output.count("\n") == 1 and len(output) < 200
    capsys.readouterr()
    assert score(model, "images", "--include", "0*", "--exclude", "*7*", "--csv", "t.csv") == 0
    assert len(pd.read_csv("t.csv")) == 9
    output = capsys.readouterr().err
    assert "not included: 10 (images/10.png, " in output and "excluded: 2" in output


def test_how_images_are_read_can_be_chosen(model, folder):
    with Image.open(folder / "images/19.png") as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(folder / "turned.jpg", exif=exif, quality=95)
        image.convert("RGB").save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-400])
    assert score(model, "cut.jpg", "turned.jpg", "--csv", "a.csv") == 1
    options = ["--truncated", "allow", "--orientation", "apply", "--icc", "srgb", "--max-pixels", "none"]
    assert score(model, "cut.jpg", "turned.jpg", "--csv", "b.csv", *options) == 0
    a, b = pd.read_csv("a.csv"), pd.read_csv("b.csv")
    assert np.isnan(a["quality"][0]) and b["quality"].notna().all() and a["quality"][1] != b["quality"][1]
