"""Forty wrong inputs: each ends in one sentence that names it and the way out, and nothing is lost."""

import errno
import os
import pickle
import re
import sys
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.data import write_image

from liqe_core.commands import notebooks
from liqe_core.commands.main import main

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.fixture
def folder(empty_folder):
    """An image that can be scored, and a table of an earlier day."""
    write_image(empty_folder / "good.png", 40, 40)
    (empty_folder / "t.csv").write_text("kept")
    (empty_folder / "file").touch()
    return empty_folder


def refusal(capsys, *arguments):
    """Return the last line of a command that exits with code 1."""
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 1
    message = capsys.readouterr().err.strip()
    assert "Traceback" not in message
    last = message.splitlines()[-1]
    assert len(last.replace(os.getcwd(), "")) <= 300, "two lines of a wide terminal"
    return last


TABLES = {
    "thousands": ('name,mos\na.png,"1,250.5"\nb.png,980\n', "line 2: .*thousands separator"),
    "no number": ("name,mos\na.png,1\nb.png,nan\n", "line 3: .*'nan'"),
    "a cell without a score": ("name,mos\na.png,1\n\nb.png,\n", "line 4: "),
    "a name twice": ("name,mos\na.png,1\nb.png,2\na.png,3\n", "line 4: .*'a.png' .*line 2"),
    "a row without a name": ("name,mos\n,1\n", "line 2: "),
    "another column": ("name,score\na.png,1\n", "line 1: .*'mos'"),
    "fields too many": ("name,mos\na.png,1,2,3\nb.png,2\n", "fields"),
    "nothing": ("", "empty"),
    "no text": ("name,mos\0\n", "text"),
    "a near name": ("name,mos,scene_class\na.png,1,sea\n", "scene_class"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(folder, capsys, case):
    text, words = TABLES[case]
    (folder / "scores.csv").write_text(text)
    fields = "title: t\nfolder: .\nlabels: {form: csv, file: scores.csv, image: name}\n"
    fields += "score: {column: mos, range: [0, 2000]}\nwords: {scene: [sea, sky]}\n"
    (folder / "m.yaml").write_text(fields if case == "a near name" else fields.rpartition("words")[0])
    message = refusal(capsys, "data", "labels", "m.yaml", "--csv", "t.csv")
    assert re.search(words, message) and "scores.csv" in message, message
    assert (folder / "t.csv").read_text() == "kept"


def _cut(path):
    write_image(path, 200, 200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _raw(path):
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(path, "TIFF", tiffinfo={50706: b"\1\4\0\0", 254: 1})


IMAGES = {
    "empty.jpg": (lambda path: path.touch(), "empty file"),
    "text.jpg": (lambda path: path.write_text("a photo of a cat"), "check the content of the file"),
    "page.jpg": (lambda path: path.write_text("\n<HTML><body>log in</body></HTML>"), "web page"),
    "lfs.jpg": (lambda path: path.write_bytes(LFS), "git lfs pull"),
    "none.jpg": (lambda path: None, "check the path"),
    "cut.png": (_cut, "--truncated allow"),
    "small.png": (lambda path: write_image(path, 40, 20), "enlarge it"),
    "bomb.png": (lambda path: Image.new("1", (10_000, 10_000)).save(path), "--max-pixels none"),
    "raw.dng": (_raw, "raw"),
    "pipe.jpg": (os.mkfifo, "give an image file"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(folder, capsys, model, name):
    make, words = IMAGES[name]
    make(folder / name)
    message = refusal(capsys, "score", "good.png", name, "--checkpoint", model, "--csv", "t.csv")
    assert message.startswith(name) and words in message, message
    assert pd.read_csv("t.csv")["quality"].notna().tolist() == [True, False], "the good one is not lost"


CHECKPOINTS = {
    "empty.pt": (b"", "empty"),
    "zeros.pt": (bytes(5000), "zeros.pt"),
    "page.pt": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "lfs.pt": (LFS, "git lfs pull"),
    "none.pt": (None, "no such file"),
    "pickle.pt": (pickle.dumps(os.getcwd, protocol=2), "code"),
    "tensor.pt": (torch.ones(3), "Tensor"),
    "other.pt": ({"a": torch.ones(3)}, "ln_final.weight"),
    "untrained.pt": ({"model_state_dict": {}}, "empty"),
    "cut.safetensors": ("cut", "cut"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(folder, capsys, model, name):
    content, words = CHECKPOINTS[name]
    if content == "cut":
        content = Path(model).read_bytes()[:-100]
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    elif content is not None:
        torch.save(content, folder / name)
    message = refusal(capsys, "score", "good.png", "--checkpoint", name, "--csv", "t.csv")
    assert message.startswith("error: ") and name in message and words in message, message
    assert (folder / "t.csv").read_text() == "kept"


def _refuse_locks(self, *_, **__):
    raise OSError(errno.ENOLCK, "No locks available")


ENVIRONMENTS = {
    "no locks": (lambda patch: patch.setattr(filelock.FileLock, "acquire", _refuse_locks), "", "LIQE_CACHE"),
    "no folder for the table": (None, "--csv file/t.csv", "file/t.csv"),
    "a full disk": (None, "--csv /dev/full", "/dev/full"),
    "no GPU": (None, "--csv t.csv --device cuda:99", "--device cuda:99"),
    "no Apple": (None, "--csv t.csv --device mps", "--device mps"),
    "no pyarrow": (lambda patch: patch.setitem(sys.modules, "pyarrow", None), "--parquet u", "pyarrow"),
    "no cache": (
        lambda patch: patch.setenv("LIQE_CACHE", "file/cache"),
        "train --out run --profile smoke",
        "LIQE_CACHE",
    ),
    "no clone": (lambda patch: patch.setattr(notebooks, "NOTEBOOKS", Path("none")), "notebooks", "clone"),
    "no papermill": (lambda patch: patch.setattr(notebooks, "find_spec", {}.get), "notebooks", "[notebooks]"),
    "no runs": (lambda patch: patch.setenv("LIQE_RUNS", "file"), "train --profile smoke", "LIQE_RUNS"),
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_environments(folder, capsys, model, monkeypatch, case):
    change, words, way_out = ENVIRONMENTS[case]
    if change:
        change(monkeypatch)
    arguments = words.split()
    if not arguments or arguments[0].startswith("-"):
        arguments = ["score", "good.png", "--checkpoint", model, *(arguments or ["--csv", "t.csv"])]
    message = refusal(capsys, *arguments)
    assert message.startswith("error: ") and way_out in message, message
    assert (folder / "t.csv").read_text() == "kept"
    assert not list(folder.glob("*.shards")), "nor is anything left over"
