import hashlib

import pytest
from support.data import content
from support.server import serving

from liqe_core.data.manifests import TRAINING_SETS, load_manifest
from liqe_core.data.released_labels import fetch_labels, label_folder, pins
from liqe_core.intake.transfers import FetchError

FILES = {f"IQA_Database/X/splits2/{k}/x.txt": f"image{k}\t{k}\n".encode() for k in range(5)}


def test_thirty_files_of_each_training_set_are_pinned():
    for name in TRAINING_SETS:
        folder = load_manifest(name).folders[0]
        assert sum(f"IQA_Database/{folder}/" in path for path in pins()) == 30
    assert len(pins()) == 180


def test_labels_are_fetched_once_and_go_on_after_a_break(tmp_path, monkeypatch):
    (tmp_path / "manifests").mkdir()
    lines = [f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in FILES.items()]
    (tmp_path / "manifests" / "labels.sha256").write_text("".join(lines))
    monkeypatch.setenv("LIQE_MANIFESTS", str(tmp_path / "manifests"))
    with serving(FILES | {"IQA_Database/X/splits2/3/x.txt": b"another"}) as server:
        with pytest.raises(FetchError, match=r"checksum.*LIQE_LABELS"):
            fetch_labels(tmp_path / "labels", server.url, progress=False)
        server.files["IQA_Database/X/splits2/3/x.txt"] = FILES["IQA_Database/X/splits2/3/x.txt"]
        folder = fetch_labels(tmp_path / "labels", server.url, progress=False)
        asked = len(server.asked)
        assert {name: body for name, body in content(folder).items() if name.endswith(".txt")} == FILES
        (folder / "IQA_Database/X/splits2/0/x.txt").write_text("damaged")
        fetch_labels(folder, server.url, progress=False)
        assert len(server.asked) == asked + 1, "only the damaged one is fetched again"
    assert label_folder(folder) == label_folder(folder / "IQA_Database") == folder
