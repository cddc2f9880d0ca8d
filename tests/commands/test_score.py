"""``liqe score``: nothing lost, nothing silent, and no traceback for a mistake of the user's."""

import contextlib
import dataclasses
import io
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.data import write_picture
from support.killing import killed_until_done
from support.models import of_twelve_prompts

from liqe_core import LIQE
from liqe_core.commands import score_run
from liqe_core.commands.main import main
from liqe_core.commands.score_table import clear_parts
from liqe_core.files import only_one, unescaped
from liqe_core.images import PictureError


@pytest.fixture
def folder(here):
    """Twenty small pictures in ``pictures`` of the current folder, and one that is none."""
    for i in range(20):
        write_picture(here / f"pictures/{i:02}.png", 40, 32 + 3 * i, seed=i)
    (here / "pictures" / "07b.png").write_text("no picture")
    return here


def score(model, *arguments):
    return main(["score", "--checkpoint", model, *map(str, arguments)])


def kept(journal):
    return [
        entry for line in journal.read_text().splitlines() if "file" in (entry := json.loads(line or "{}"))
    ]


class Killed(BaseException):
    """Ends a run as a kill does, but for what lies in memory."""


@contextlib.contextmanager
def stopped_after(batches):
    """A run in the block ends after so many batches; gives those that were begun, of all runs."""
    whole, begun = score_run.joint_by_batch, []

    def stopping(model, crops_of, to_do, *how):
        begun.extend(to_do[:batches])
        for i, part in enumerate(whole(model, crops_of, to_do, *how)):
            if i == batches:
                raise Killed
            yield part

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_run, "joint_by_batch", stopping)
        yield begun


def test_a_run_is_taken_up_and_no_picture_is_scored_twice(model, folder, capsys):
    assert score(model, "pictures", "--csv", "whole.csv", "--batch-size", 3) == 1
    assert not (folder / "whole.csv.journal").exists()
    with stopped_after(2) as begun:
        for _ in range(2):
            with pytest.raises(Killed):
                score(model, "pictures", "--csv", "t.csv", "--batch-size", 3)
    capsys.readouterr()
    assert not (folder / "t.csv").exists() and len(kept(folder / "t.csv.journal")) == 11
    with stopped_after(99) as rest:
        assert score(model, "pictures", "--csv", "t.csv", "--batch-size", 3) == 1
    assert "11 of 21 pictures were scored before" in capsys.readouterr().err
    assert (folder / "t.csv").read_bytes() == (folder / "whole.csv").read_bytes()
    assert not (folder / "t.csv.journal").exists()
    assert max(Counter(picture for batch in begun + rest for picture in batch).values()) == 1


def test_a_batch_of_which_a_part_is_lost_is_computed_again_whole(model, folder):
    score(model, "pictures", "--csv", "whole.csv")
    with stopped_after(2), pytest.raises(Killed):
        score(model, "pictures", "--csv", "t.csv")
    journal = folder / "t.csv.journal"
    torn = journal.read_text()[:-40]
    journal.write_text(torn)
    os.utime(folder / "pictures/03.png", ns=(1, 1))  # looked at again, and with it those of its batch
    with stopped_after(99) as begun:
        assert score(model, "pictures", "--csv", "t.csv") == 1
    assert len(begun) == 3, "each lacked a picture, or was not begun"
    assert (folder / "t.csv").read_bytes() == (folder / "whole.csv").read_bytes()


def test_another_run_is_not_taken_up(model, folder, capsys):
    with stopped_after(1), pytest.raises(Killed):
        score(model, "pictures", "--csv", "t.csv")
    for options, what in [
        (["--geometry", "standalone"], "geometry (--geometry, --enlarge-to)"),
        (["--batch-size", "5"], "--batch-size"),
        (["--enlarge-to", "200"], "geometry (--geometry, --enlarge-to)"),
        (["--orientation", "apply"], "--orientation"),
        (["--precision", "bfloat16"], "--precision"),
    ]:
        assert score(model, "pictures", "--csv", "t.csv", *options) == 1
        said = capsys.readouterr().err
        assert f"t.csv.journal has the scores of a run that was stopped, with another {what};" in said
    other = LIQE.from_checkpoint(model)
    with torch.no_grad():
        other.clip.logit_scale.add_(0.1)
    other.save(folder / "other")
    assert score(str(folder / "other"), "pictures", "--csv", "t.csv") == 1
    assert "with another checkpoint;" in capsys.readouterr().err
    assert score(str(folder / "other"), "pictures/01.png", "--csv", "t.csv", "--restart") == 0
    assert len(pd.read_csv("t.csv")) == 1
    (folder / "u.csv.journal").write_text("image,quality\n")
    assert score(model, "pictures", "--csv", "u.csv") == 1
    assert "is no journal of ours" in capsys.readouterr().err


def test_killed_at_random_the_table_is_the_same(model, folder):
    """Forked processes, which need not import torch again; `support/killing.py` starts whole ones."""
    command = ["pictures", "--csv", "killed.csv", "--batch-size", "1"]
    began = time.monotonic()
    assert score(model, "pictures", "--csv", "whole.csv", "--batch-size", 1) == 1
    seconds = time.monotonic() - began

    def start():
        if process := os.fork():
            return process
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        code = 99
        try:
            log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            code = score(model, *command)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def never_twice():
        if (folder / "killed.csv.journal").exists():
            scored = Counter(entry["file"] for entry in kept(folder / "killed.csv.journal"))
            assert max(scored.values(), default=1) == 1

    codes = killed_until_done(start, seconds, random.Random(0), 8, never_twice)
    assert set(codes) <= {1, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}, (
        folder / "log"
    ).read_text()
    assert (folder / "killed.csv").read_bytes() == (folder / "whole.csv").read_bytes()
    log = (folder / "log").read_text()
    assert "Traceback" not in log
    if {130, 143} & set(codes):
        assert "stopped by SIG" in log
    left = {path.name for path in folder.iterdir()}
    assert left == {"pictures", "cache", "whole.csv", "killed.csv", "log"}


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_what_there_is_and_says_how_to_go_on(
    model, folder, monkeypatch, capsys, number, code
):
    before = signal.getsignal(number)
    whole = score_run.joint_by_batch

    def signalled(*arguments):
        for i, part in enumerate(whole(*arguments)):
            if i == 1:
                os.kill(os.getpid(), number)
            yield part

    monkeypatch.setattr(score_run, "joint_by_batch", signalled)
    assert score(model, "pictures", "--csv", "t.csv") == code
    said = capsys.readouterr().err
    assert "8 of 21 pictures are scored and kept in t.csv.journal; give the same command again" in said
    assert len(kept(folder / "t.csv.journal")) == 8 and signal.getsignal(number) == before
    assert score(model, "pictures") == code
    said = capsys.readouterr()
    assert said.out.count("pictures/") == 8 and "--csv FILE" in said.err


def test_the_place_of_the_table_is_looked_at_first(model, folder, capsys, monkeypatch):
    (folder / "full").mkdir()
    (folder / "file").touch()
    (folder / "list").write_text("pictures/03.png\n")
    os.mkfifo(folder / "pipe")
    monkeypatch.setattr(LIQE, "from_checkpoint", lambda *_, **__: pytest.fail("too late"))
    for arguments, says in [
        (["--csv", "full"], "--csv full: a folder; give the name of a file in it"),
        (["--json", "file/x.json"], "file/x.json: nothing can be written there"),
        (["--csv", model], "which is read; give another name"),
        (["--csv", "pictures/03.png"], "would replace pictures/03.png"),
        (["--csv", "a", "--json", "a"], "two tables of the same name"),
        (["--csv", "list", "--from-file", "list"], "would replace list, which is read"),
        (["--csv", "a", "--json", "a.journal"], "--json a.journal: the name of what is noted as it goes"),
        (["--csv", "pipe"], "--csv pipe: a device or a pipe, which it would replace; give a file"),
        (["--csv", "a", "--max-pixels", "-3"], "--max-pixels -3: give a number from 1, or none"),
        (["--csv", "a", "--batch-size", "0"], "--batch-size 0: give a number from 1"),
        (["--csv", "a", "--geometry", "round"], "unknown crop geometry 'round'"),
        (["--csv", "a", "--enlarge-to", "-3"], "--enlarge-to -3: give a number of pixels"),
        (["--csv", "a", "--grid", "mood"], "unknown variant 'mood'"),
        (["--csv", "a", "--device", "gpu"], "--device gpu: no such device; give cpu, cuda"),
        (["--csv", "a", "--device", "cpu:x"], "no such device"),
        (["--csv", "a", "--include", "*.jpg"], "no picture is left"),
    ]:
        assert score(model, "pictures", *arguments) == 1
        assert says in capsys.readouterr().err, arguments
    if not torch.cuda.is_available():
        assert score(model, "pictures", "--device", "cuda") == 1
        assert "--device cuda: there is none of its kind here; give cpu" in capsys.readouterr().err
    assert main(["score", "--checkpoint", model]) == 1
    assert "no pictures given" in capsys.readouterr().err
    with only_one(folder / "a.journal"):
        assert score(model, "pictures", "--csv", "a") == 1
    assert "another process" in capsys.readouterr().err


def test_pictures_can_be_enlarged_to_the_size_at_which_people_see_them(model, folder, capsys):
    for side in ("31", "769"):
        assert score(model, "pictures/03.png", "--enlarge-to", side) == 1
        says = (
            f"--enlarge-to {side}: give a side from 32, this model's window, to 768, from which on it shrinks"
        )
        assert says in capsys.readouterr().err, side
    assert score(model, "pictures/03.png", "--csv", "t.csv", "--enlarge-to", "200") == 0
    enlarged = LIQE.from_checkpoint(model)
    enlarged.geometry = dataclasses.replace(enlarged.geometry, enlarge_to=200)
    of = enlarged.score("pictures/03.png").quality.item()
    assert pd.read_csv("t.csv")["quality"].item() == pytest.approx(of, abs=1e-6)
    assert of != pytest.approx(LIQE.from_checkpoint(model).score("pictures/03.png").quality.item(), abs=1e-5)


def test_where_a_link_leads_the_table_goes(model, folder):
    (folder / "link.csv").symlink_to("kept.csv")
    assert score(model, "pictures/03.png", "--csv", "link.csv") == 0
    assert (folder / "link.csv").is_symlink() and "pictures/03.png" in (folder / "kept.csv").read_text()


def test_what_another_run_is_writing_is_not_cleared(folder):
    for name in (".page.x1_.part.html", ".page.2.x1_.part.html"):
        (folder / name).touch()
    clear_parts(folder / "page.html")
    assert [path.name for path in folder.glob(".page*")] == [".page.2.x1_.part.html"]


def test_weights_that_overflow_are_an_error_and_no_empty_cell(folder, capsys):
    liqe = of_twelve_prompts()
    liqe.clip.logit_scale.data.fill_(1e9)
    liqe.save(folder / "overflow.safetensors")
    assert score("overflow.safetensors", "pictures/03.png", "--csv", "t.csv") == 1
    said = capsys.readouterr()
    assert "0 of 1 pictures scored" in said.out
    assert "pictures/03.png: the model's answer is no number: its weights overflow" in said.err
    with pytest.raises(PictureError, match=r"03\.png: the model's answer is no number"):
        liqe.score("pictures/03.png")
    assert liqe.score("pictures/03.png", on_error="skip").errors


def test_any_name_is_written_so_that_it_reads_back(model, folder, capsys):
    names = [b"caf\xe9.png", b"a\nb.png", "sch\u00f6n\u2028.png".encode(), rb"back\slash.png", b"\x85.png"]
    (folder / "odd").mkdir()
    for name in names:
        (folder / "odd" / os.fsdecode(name)).write_bytes((folder / "pictures/00.png").read_bytes())
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
    assert score(model, "pictures", "--csv", "t.csv", "--json", "t.json", "--distributions") == 1
    table = pd.read_csv("t.csv")
    words = ["quality=bad", "quality=fair", "quality=good", "scene=sea", "scene=sky"]
    assert table.columns.tolist()[-8:] == [*words, "distortion=blur", "distortion=noise", "error"]
    good = table[table["error"].isna()]
    assert np.allclose(good[words[:3]].sum(axis=1), 1) and np.allclose(good[words[3:]].sum(axis=1), 1)
    assert np.allclose(good[words[:3]] @ [1, 2, 3], good["quality"], atol=1e-5)
    assert np.allclose(good[words[3:]].max(axis=1), good["scene_probability"])
    lines = [json.loads(line) for line in (folder / "t.json").read_text().splitlines()]
    assert [line["scene=sea"] for line in lines if not line["error"]] == good["scene=sea"].tolist()
    assert lines[8]["quality"] is None and "no picture" not in lines[8]["image"]


def test_parquet(model, folder, capsys):
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        assert score(model, "pictures", "--parquet", "t.parquet") == 1
        assert "--parquet needs the package pyarrow: pip install pyarrow" in capsys.readouterr().err
        return
    assert score(model, "pictures", "--parquet", "t.parquet", "--csv", "t.csv") == 1
    frame = pd.read_parquet("t.parquet")
    pd.testing.assert_frame_equal(frame, pd.read_csv("t.csv"), check_dtype=False, atol=1e-7)


@pytest.mark.parametrize("path", ["", "-"])
def test_a_table_goes_to_a_file_with_a_name(model, folder, capsys, path):
    assert score(model, "pictures/01.png", "--csv", path) == 1
    assert f"--csv {path!r}: give the name of a file" in capsys.readouterr().err
    assert not (folder / "-").exists()


def test_lists_and_patterns(model, folder, monkeypatch, capsys):
    (folder / "list").write_bytes(b"pictures/01.png\r\n\npictures/02.png\npictures/01.png\n")
    assert score(model, "--from-file", "list", "--csv", "t.csv") == 0
    table = pd.read_csv("t.csv")
    assert table["image"].str[-6:].tolist() == ["01.png", "02.png", "01.png"]
    assert table["quality"][0] == table["quality"][2]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"pictures/01.png\0pictures/05.png\0")))
    assert score(model, "--from-file", "-", "--csv", "t.csv") == 0 and len(pd.read_csv("t.csv")) == 2
    (folder / "wide").write_bytes("pictures/01.png\r\npictures/02.png\r\n".encode("utf-16"))
    assert score(model, "--from-file", "wide", "--csv", "t.csv") == 0 and len(pd.read_csv("t.csv")) == 2
    (folder / "long").write_bytes(b"x" * 5000)
    (folder / "half").write_bytes(b"\xff\xfea")
    for path in ("pictures/01.png", "long", "half", "not-there", "pictures"):
        capsys.readouterr()
        assert score(model, "--from-file", path, "--csv", "t.csv") == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: --from-file {path}: ") and said.count("\n") == 1 and len(said) < 200
    capsys.readouterr()
    assert score(model, "pictures", "--include", "0*", "--exclude", "*7*", "--csv", "t.csv") == 0
    assert len(pd.read_csv("t.csv")) == 9
    said = capsys.readouterr().err
    assert "left out, not included: 10 (pictures/10.png, pictures/11.png, pictures/12.png, ...)" in said
    assert "left out, excluded: 2" in said


def test_what_is_left_out_of_a_folder_is_told(model, folder, capsys):
    (folder / "pictures" / "._00.png").touch()
    (folder / "pictures" / "list.txt").touch()
    (folder / "pictures" / "more").symlink_to(folder / "other")
    (folder / "other").mkdir()
    (folder / "pictures/07b.png").rename(folder / "other/nosuffix")
    (folder / "pictures/00.png").rename(folder / "other/00.png")
    assert score(model, "pictures", "--csv", "t.csv") == 0
    said = capsys.readouterr().err
    assert "left out, hidden: 1 (pictures/._00.png)" in said
    assert "left out, files of another kind (.txt): 1 (pictures/list.txt)" in said
    assert "left out, files without a suffix: 1 (pictures/more/nosuffix)" in said
    assert "pictures/more/00.png" in set(pd.read_csv("t.csv")["image"])


def test_how_pictures_are_read_can_be_chosen(model, folder, capsys):
    with Image.open(folder / "pictures/19.png") as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(folder / "turned.jpg", exif=exif, quality=95)
        image.convert("RGB").save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-400])
    assert score(model, "cut.jpg", "turned.jpg", "--csv", "a.csv", "--max-pixels", "100") == 1
    said = capsys.readouterr().err
    assert "over 100" in said and "--max-pixels none" in said
    assert score(model, "cut.jpg", "turned.jpg", "--csv", "a.csv") == 1
    assert "--truncated allow" in capsys.readouterr().err
    options = ["--truncated", "allow", "--orientation", "apply", "--icc", "srgb", "--max-pixels", "none"]
    assert score(model, "cut.jpg", "turned.jpg", "--csv", "b.csv", *options) == 0
    a, b = pd.read_csv("a.csv"), pd.read_csv("b.csv")
    assert np.isnan(a["quality"][0]) and b["quality"].notna().all() and a["quality"][1] != b["quality"][1]
