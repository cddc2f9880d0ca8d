"""A local replacement for the Hugging Face hub, and small datasets in the layouts of the real archives.

Images are generated, with names from the real datasets. The label files, and manifests with their checksums
and counts, are generated too, so that tests need only the checkout.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support.server import FileServer, running
from support.xet import XetHandler, headers_of

from liqe_core.data.manifests import TRAINING_SETS
from liqe_core.files import CHECKOUT

COMMIT = "0123456789" * 4

#: Names as in the real label files, about fifteen per dataset.
LABELLED = {
    "live": [
        f"{kind}/img{i}.bmp" for kind in ("jp2k", "jpeg", "wn", "gblur", "fastfading") for i in range(55, 58)
    ],
    "csiq": [
        f"dst_imgs/{folder}/{name}.{kind}.{level}.png"
        for folder, kind in (("awgn", "AWGN"), ("jpeg", "JPEG"), ("blur", "BLUR"))
        for name in ("shroom", "sunset_sparrow")
        for level in (1, 3, 5)
    ],
    "kadid10k": [f"images/I32_{k:02}_{level:02}.png" for k in (1, 9, 13, 21, 25) for level in (1, 3, 5)],
    "bid": [f"ImageDatabase/DatabaseImage{i:04}.JPG" for i in range(101, 117)],
    "clive": [f"Images/{i}.{suffix}" for i in range(500, 508) for suffix in ("JPG", "bmp")],
    "koniq10k": [f"1024x768/{i}.jpg" for i in range(9096574214, 9096574230)],
    "tid2013": [f"{'Ii'[k % 2]}01_{k:02}_3.bmp" for k in range(1, 13)],
    "agiqa3k": ["AttnGAN_normal_000.jpg", "sd1.5_normal_001.jpg"],
    "aigciqa2023": ["0_DALLE_000.png", "1_Glide_000.png"],
}
#: For each archive: the path of a labelled image, the size of the images, and the other files.
LAYOUTS = {
    "live": ("LIVEIQA_release2/{path}", (48, 32), ["jp2k/img227.bmp", "refimgs/bikes.bmp", "dmos.mat"]),
    "csiq": ("CSIQ/dst_imgs/{name}", (48, 32), ["src_imgs/shroom.png", "csiq.DMOS.xlsx"]),
    "kadid10k": ("kadid10k/{path}", (512, 384), ["images/I32.png", "dmos.csv"]),
    "bid": ("bid/{name}", (48, 32), ["DatabaseGrades.xlsx"]),
    "clive": ("LIVEC/{path}", (48, 32), ["Images/trainingImages/t1.bmp", "Data/AllMOS_release.mat"]),
    "koniq10k": ("koniq10k/{path}", (1024, 768), []),
    "tid2013": ("tid2013/distorted_images/{path}", (512, 384), ["reference_images/I01.BMP"]),
    "agiqa3k": ("AGIQA-3K/{path}", (48, 32), []),
    "aigciqa2023": ("allimg/{path}", (48, 32), []),
}
SCENES = ("landscape", "human", "plant")


def drawn(name: str, width: int = 48, height: int = 32) -> bytes:
    """An image of two colours, in the format of its name; another for each name."""
    colours = np.frombuffer(hashlib.sha256(name.encode()).digest()[:6], np.uint8).reshape(1, 2, 3)
    content = io.BytesIO()
    kind = {"jpg": "JPEG", "bmp": "BMP", "png": "PNG"}[name.rsplit(".", 1)[-1].lower()]
    Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST).save(content, kind)
    return content.getvalue()


def archive(name: str, members: dict[str, bytes], change=lambda info: None) -> bytes:
    """A zip or tar archive, by the suffix of its name; `change` gets the entry of each member."""
    content = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(content, "w") as opened:
            for member, body in members.items():
                info = zipfile.ZipInfo(member)
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
                change(info)
                opened.writestr(info, body)
        return content.getvalue()
    with tarfile.open(fileobj=content, mode="w:gz" if name.endswith("gz") else "w") as opened:
        for member, body in members.items():
            info = tarfile.TarInfo(member)
            info.size, info.mtime = len(body), 1_500_000_000
            change(info)
            opened.addfile(info, io.BytesIO(body))
    return content.getvalue()


def members(name: str) -> dict[str, bytes]:
    """The members of a dataset's archive, as in `layouts.md` of the hosting notes."""
    (place, size, more), images = LAYOUTS[name], LABELLED[name]
    top = place.partition("/")[0]
    places = [place.format(path=image, name=image.rsplit("/", 1)[-1]) for image in images]
    content = {path: drawn(image, *size) for path, image in zip(places, images, strict=True)}
    for member in more:
        is_image = member.lower().endswith((".bmp", ".png"))
        content[f"{top}/{member}"] = drawn(member, *size) if is_image else b"scores"
    if name == "live":
        content[f"{top}/refnames_all.mat"] = reference_names()
    if name == "koniq10k":
        content |= {f"{top}/{i.replace('1024x768', '512x384')}": drawn(i, 512, 384) for i in images}
    if name == "tid2013":
        scores = "".join(f"{3 + k}.5 {n.replace('i01', 'I01')}\n" for k, n in enumerate(images))
        content[f"{top}/mos_with_names.txt"] = scores.encode()
    return content


def reference_names() -> bytes:
    """LIVE's refnames_all.mat: a reference for each of 982 images."""
    from scipy.io import savemat

    names = np.array([f"ref{i % 29}.bmp" for i in range(982)], dtype=object).reshape(1, -1)
    content = io.BytesIO()
    savemat(content, {"refnames_all": names})
    return content.getvalue()


def write_labels(folder: Path, names: list[str]) -> dict[str, str]:
    """Thirty label files a training set of `names`, as in the authors' repository: path -> SHA-256."""
    pins = {}
    for name in set(names) & set(TRAINING_SETS):
        images = LABELLED[name]
        manifest = yaml.safe_load((CHECKOUT / "data_manifests" / f"{name}.yaml").read_text("utf-8"))
        top = manifest["folder"] if isinstance(manifest["folder"], str) else manifest["folder"][0]
        word = next(iter(manifest["expect"]["distortions"]))
        for session in range(1, 11):
            for k, part in enumerate(("train", "val", "test")):
                lines = [
                    f"{image}\t{2 + i / 10}\t{word}\t{SCENES[i % 3]}\tinvalid\tinvalid\n"
                    for i, image in enumerate(images)
                    if (0, 1, 2, 0)[(i + session) % 4] == k
                ]
                file = f"IQA_Database/{top}/splits2/{session}/{name}_{part}_clip.txt"
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_text("".join(lines), encoding="utf-8")
                pins[file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    return pins


class Hub(FileServer):
    """Serve ``/OWNER/NAME/resolve/REVISION/FILE`` like the hub, with an optional prefix ``/datasets``.

    Revisions are one commit and ``main``. ``/second/FILE`` acts like another server.

    Attributes:
        files: ``OWNER/NAME/FILE`` -> content. second: ``FILE`` -> content, at `second_url`.
        status: an HTTP error that the hub always returns. second_status: the same for the second server.
        tags: as `files`, the tag that is reported for a file; default: its SHA-256, as of large files.
        chunked: whether files are in the hub's chunked storage too; broken: and it gives none of them.
        blocks, answered: of the chunked storage, see `XetHandler`.
    """

    def __init__(self, files: dict[str, bytes]):
        super().__init__(files, XetHandler)
        self.second, self.tags = {}, {}
        self.chunked, self.broken, self.blocks, self.answered = False, False, [], []
        self.status, self.second_status, self.commit = 0, 0, COMMIT

    @property
    def url(self) -> str:
        return super().url.rstrip("/")

    @property
    def second_url(self) -> str:
        return f"{self.url}/second/"

    def find(self, path: str):
        if second := re.fullmatch(r"/second/(.+)", path):
            content = self.second.get(second[1])
            return content or b"", self.second_status or (404 if content is None else 0), {}
        address = re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not address:
            return None, 404, {}  # internal requests of huggingface_hub
        name, codes = f"{address[1]}/{address[3]}", {401: "GatedRepo", 403: "GatedRepo", 404: "EntryNotFound"}
        status = self.status or (0 if name in self.files else 404)
        if address[2] not in ("main", self.commit):
            status, codes = 404, {404: "RevisionNotFound"}
        if status:
            retry = {"Retry-After": "0"} if status == 429 else {}
            return b"", status, {"X-Error-Code": codes.get(status, "")} | retry
        content = self.files[name]
        tag = f'"{self.tags.get(name) or hashlib.sha256(content).hexdigest()}"'
        headers = {"X-Repo-Commit": self.commit, "X-Linked-Size": len(content)}
        headers |= headers_of(content, self.url) if self.chunked else {}
        return content, 0, headers | {"X-Linked-Etag": tag, "ETag": tag}


@contextlib.contextmanager
def hub_of(files: dict[str, bytes]):
    """Serve `files` on a local hub, and make huggingface_hub use it in this process and its child processes.

    In this process, ``time.sleep`` returns at once.
    """
    from huggingface_hub import constants

    hub = Hub(files)
    with running(hub), pytest.MonkeyPatch.context() as patch:
        # The library reads HF_ENDPOINT once, when it is imported.
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.delenv("HF_TOKEN", raising=False)
        patch.setattr("time.sleep", lambda seconds: None)
        yield hub


@contextlib.contextmanager
def stand_in(folder: Path, monkeypatch, names, change=None):
    """Serve the datasets `names` on a local hub, with label files in ``folder/labels`` and manifests of both.

    Args:
        change: a function of (name, members of its archive) that returns other members.

    Yields:
        The local hub.
    """
    manifests, labels = folder / "manifests", folder / "labels"
    manifests.mkdir()
    pins = write_labels(labels, names)
    (manifests / "labels.sha256").write_text("".join(f"{digest}  {file}\n" for file, digest in pins.items()))
    files = {}
    for name in names:
        fields = yaml.safe_load((CHECKOUT / "data_manifests" / f"{name}.yaml").read_text("utf-8"))
        held = change(name, members(name)) if change else members(name)
        hosted = [fields["hub"]] if isinstance(fields["hub"], dict) else fields["hub"]
        for file in hosted:
            if "name" not in file:
                body = archive(file["file"], held)
            else:
                body = b'[{"img": "0_DALLE_000.png", "moz1": 51.5}, {"img": "1_Glide_000.png", "moz1": 40}]'
            files[f"{file['repository']}/{file['file']}"] = body
            file["bytes"], file["revision"] = len(body), file["revision"] and COMMIT
            file.pop("unpacked", None)
            if file["sha256"]:
                file["sha256"] = hashlib.sha256(body).hexdigest()
        fields["images"] = len(LABELLED[name])
        named = fields.pop("expect", {}).get("distortions", {})
        fields["expect"] = {"distortions": dict.fromkeys(named, 0)}  # TID2013's names, not its counts
        (manifests / f"{name}.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    monkeypatch.setenv("LIQE_MANIFESTS", str(manifests))
    monkeypatch.setenv("LIQE_LABELS", str(labels))
    monkeypatch.setenv("LIQE_CACHE", str(folder / "cache"))
    monkeypatch.setenv("LIQE_DATA", str(folder / "data"))
    with hub_of(files) as hub:
        yield hub
