"""Checkpoints: four formats detected by content, and files that must be rejected."""

import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from liqe_core import LIQE, PromptGrid, checkpoints
from liqe_core.checkpoints import CheckpointError, load_weights, read_checkpoint
from liqe_core.crops import CLIP_STATISTICS, CropGeometry

QUALITY = PromptGrid.variant("quality")


def training_dict(state):
    """A checkpoint of the public training script: weights, NumPy scalars and an optimizer."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=5e-6)
    parameter.sum().backward()
    optimizer.step()
    return {
        "epoch": 7,
        "model_state_dict": state,
        "optimizer_state_dict": optimizer.state_dict(),
        "all_results": {"val": {"live": np.float64(0.97), "bid": np.float32(0.5)}, "n": np.int64(3)},
    }


def pyiqa_dict(state):
    return {"params": {f"clip_model.{key}": value for key, value in state.items()}}


def wrapped(state):
    return {f"module.{key}": value for key, value in state.items()}


KINDS = {
    "public": lambda s: s,
    "public, DataParallel": wrapped,
    "OpenAI's extra entries": lambda s: s | dict.fromkeys(checkpoints.NOT_WEIGHTS, torch.tensor(32)),
    "training": training_dict,
    "pyiqa": pyiqa_dict,
    "state_dict": lambda s: {"epoch": 3, "state_dict": wrapped(s)},
    "model": lambda s: {"model": s},
    "nested": lambda s: {"model": {"state_dict": s}},
    "compiled, within DataParallel": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    "our own state_dict": lambda s: {f"clip.{k}": v for k, v in s.items()},
    "pyiqa, DataParallel": lambda s: {"params": wrapped(pyiqa_dict(s)["params"])},
}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_formats_are_detected_by_content(openai_state, openai_small, tmp_path, make, suffix):
    path = tmp_path / f"weights.{suffix}"
    torch.save(make(openai_state), path)
    found = read_checkpoint(path)
    assert found.statistics is None, "only our checkpoints store them"
    assert found.architecture == openai_small
    assert found.state_dict.keys() == openai_state.keys()
    assert all(torch.equal(found.state_dict[k], v) for k, v in openai_state.items())


def test_safetensors_of_other_projects_in_half_precision(openai_state, openai_small, tmp_path):
    halves = {key: value.half() for key, value in openai_state.items()}
    save_file(halves, tmp_path / "theirs.pt", metadata={"format": "pt"})
    found = read_checkpoint(tmp_path / "theirs.pt")
    assert found.architecture == openai_small and found.grid is None and found.statistics is None
    assert all(torch.equal(found.state_dict[key], value.float()) for key, value in halves.items())


def test_scalars_written_by_numpy_1(openai_state, tmp_path):
    """NumPy 1 wrote `numpy.core`, NumPy 2 writes `numpy._core`; both name the same function."""
    path = tmp_path / "numpy1.pt"
    torch.save(training_dict(openai_state), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    old, new = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    assert old in content
    path.write_bytes(content.replace(old, new))
    checkpoint = read_checkpoint(path)
    assert checkpoint.state_dict.keys() == openai_state.keys()


# ---- our own format -----------------------------------------------------------------------------------


def test_round_trip_of_our_own(image, tmp_path):
    words = {"quality": ["ugly", "plain", "pretty"], "scene": ["shop"], "distortion": []}
    grid = PromptGrid(**words, template="a {quality} {scene}")
    geometry = CropGeometry(window=32, stride=16, count=4, resize_to=None)
    torch.manual_seed(5)
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=grid, geometry=geometry)
    recipe = {"epochs": 3, "data": ["mini"], "lr": 5e-6}
    model.save(tmp_path / "ours.pt", recipe=recipe)  # a misleading suffix
    reread = LIQE.from_checkpoint(tmp_path / "ours.pt")
    assert reread.grid == grid and reread.geometry == geometry
    assert read_checkpoint(tmp_path / "ours.pt").recipe == recipe
    assert torch.equal(reread.score(image).joint, model.score(image).joint)
    # arguments of the caller override the file
    overridden = LIQE.from_checkpoint(tmp_path / "ours.pt", grid=QUALITY, geometry="pyiqa")
    assert overridden.grid == QUALITY and overridden.geometry == CropGeometry.named("pyiqa", window=32)


def test_a_file_of_ours_from_before_they_were_kept_means_clips(openai_state, openai_small, tmp_path):
    path = with_header(tmp_path / "old", openai_state, {"version": 1, "architecture": openai_small})
    assert LIQE.from_checkpoint(path, grid=QUALITY).statistics == CLIP_STATISTICS


def test_weights_can_be_rounded_to_half_the_bytes(tmp_path):
    model = LIQE.from_clip("LIQE-mini", pretrained=None, grid=QUALITY)
    model.save(tmp_path / "whole")
    model.save(tmp_path / "half", dtype=torch.float16)
    assert (tmp_path / "half").stat().st_size < 0.52 * (tmp_path / "whole").stat().st_size
    halved = LIQE.from_checkpoint(tmp_path / "half").clip.state_dict()
    for key, value in model.clip.state_dict().items():
        rounded = value.half().float() if value.is_floating_point() else value
        assert halved[key].dtype == value.dtype and torch.equal(halved[key], rounded), key


def test_an_unknown_name_lists_the_known_names(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"liqe-giant.*official-koniq"):
        read_checkpoint("liqe-giant")
    monkeypatch.setattr(checkpoints, "PACKAGED", {"liqe-tiny": tmp_path / "package/tiny.safetensors"})
    with pytest.raises(CheckpointError, match=r"package/tiny\.safetensors"):
        read_checkpoint("liqe-tiny")


def test_writing_is_atomic(small_liqe, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    small_liqe.save(path)
    before = path.read_bytes()

    def torn(tensors, part, **_):
        part.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", torn)
    with pytest.raises(OSError, match="disk full"):
        small_liqe.save(path)
    monkeypatch.undo()
    with pytest.raises(TypeError):
        small_liqe.save(path, recipe={"not": object()})
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def with_header(path, state, header):
    save_file(state, path, metadata={"liqe_core": header if isinstance(header, str) else json.dumps(header)})
    return path


@pytest.mark.parametrize(
    "change, word",
    [
        ({"version": 2}, "version"),
        ({"grid": {"mood": ["gay"]}}, "mood"),
        ({"grid": {"quality": []}}, "quality"),
        ({"grid": [1]}, "mapping"),
        ({"geometry": {"window": 0}}, "window"),
        ({"geometry": {"diameter": 3}}, "diameter"),
        ({"architecture": {"embed_dim": 3}}, "text_cfg"),
        ({"architecture": 3}, "architecture"),
        ({"architecture": {"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": 1}}}}, "trust_remote_code"),
        ({"statistics": [[0.5, 0.5], [1, 1]]}, "statistics"),
        ({"statistics": [[0.5, 0.5, 0.5], [1, 1, 0]]}, "statistics"),
        ({"statistics": [[0.5, 0.5, 10**400], [1, 1, 1]]}, "statistics"),
        ("[1]", ""),
        ("{}", ""),
        ("{not json", ""),
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_invalid_header_is_rejected_by_name(openai_state, openai_small, tmp_path, change, word):
    header = change
    if isinstance(change, dict):
        header = {"version": 1, "architecture": openai_small} | change
    path = with_header(tmp_path / "odd.safetensors", openai_state, header)
    with pytest.raises(CheckpointError, match=rf"odd\.safetensors: .*{word}"):
        LIQE.from_checkpoint(path)


@pytest.mark.parametrize(
    "tower, size",
    [
        ("vision_cfg", {"image_size": 10**7}),
        ("vision_cfg", {"mlp_ratio": 1e9}),
        ("text_cfg", {"vocab_size": 10**9}),
        ("text_cfg", {"layers": [10**9]}),
        ("embed_dim", 10**9),
    ],
)
def test_a_header_larger_than_its_weights_is_rejected_before_the_model_is_built(
    openai_state, openai_small, tmp_path, monkeypatch, tower, size
):
    openai_small[tower] = openai_small[tower] | size if isinstance(size, dict) else size
    header = {"version": 1, "architecture": openai_small}
    path = with_header(tmp_path / "odd.safetensors", openai_state, header)
    monkeypatch.setattr("liqe_core.towers.build", lambda config: pytest.fail("built"))
    with pytest.raises(CheckpointError, match=rf"odd\.safetensors: .*{tower}"):
        LIQE.from_checkpoint(path)


# ---- rejected files -----------------------------------------------------------------------------------


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


NESTS = {
    "bare": lambda evil, state: evil,
    "beside the weights": lambda evil, state: state | {"evil": evil},
    "in model_state_dict": lambda evil, state: {"model_state_dict": state | {"evil": evil}},
    "beside model_state_dict": lambda evil, state: {"model_state_dict": state, "args": evil},
    "in params": lambda evil, state: {"params": {"clip_model.evil": evil}},
}


@pytest.mark.parametrize("layout", ["zip", "old", "pickle"])
@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS.keys())
def test_code_is_refused_and_does_not_run(openai_state, tmp_path, nest, layout):
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    content = nest(Evil(marker), {"ln_final.weight": torch.ones(2)})
    if layout == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout == "zip")
    for _ in range(2):  # nothing that was allowed for a moment stays allowed
        with pytest.raises(CheckpointError, match=r"evil\.pt: .*code"):
            LIQE.from_checkpoint(path)
    assert not marker.exists()
    # the file really runs code when unpickled
    if layout == "pickle":
        with path.open("rb") as file:
            pickle.load(file)
        assert marker.exists()


def test_cut_short(small_liqe, openai_state, tmp_path):
    path = tmp_path / "cut"
    small_liqe.save(tmp_path / "ours")
    torch.save(openai_state, tmp_path / "new")
    torch.save(openai_state, tmp_path / "old", _use_new_zipfile_serialization=False)
    for name in ("ours", "new", "old"):
        content = (tmp_path / name).read_bytes()
        for length in (0, 1, 8, 9, 30, 1000, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(CheckpointError, match=r"cut: "):
                read_checkpoint(path)


NO_WEIGHTS = {
    "json.pt": b'{"params": {"x": 1}}',
    "zip.pt": b"PK\x05\x06" + bytes(18),  # an empty archive
    "huge.safetensors": struct.pack("<Q", 2**60) + b"{}",
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_no_checkpoint_at_all(tmp_path, name):
    (tmp_path / name).write_bytes(NO_WEIGHTS[name])
    with pytest.raises(CheckpointError, match=f"{name}: "):
        read_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError, match="folder"):
        read_checkpoint(tmp_path)


def test_torchscript_archive(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # torch calls its own format old
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "ViT-B-32.pt")
    with pytest.raises(CheckpointError, match=r"ViT-B-32\.pt: .*TorchScript"):
        read_checkpoint(tmp_path / "ViT-B-32.pt")


RECURSIVE = {"a": torch.ones(3)}
RECURSIVE["model"] = RECURSIVE


@pytest.mark.parametrize(
    "content, word",
    [
        ([], "list"),
        ({}, "empty"),
        ({"params": {0: torch.ones(3)}}, "0"),
        ({"a": torch.ones(3), "b": 5}, "'b' is int"),
        (RECURSIVE, "'model' is dict"),
        ({"a": torch.ones(3, device="meta")}, "'a'"),
        ({"a": torch.ones(3, dtype=torch.int8)}, "'a' is a torch.int8 tensor"),
        ({"a": torch.ones(3, dtype=torch.complex64)}, "complex64"),
    ],
    ids=str,
)
def test_other_content(tmp_path, content, word):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=rf"other\.pt: .*{word}"):
        read_checkpoint(tmp_path / "other.pt")


FAULTS = {
    "missing": (lambda s: s.pop("text_projection"), "missing: text_projection"),
    "extra": (lambda s: s.update(head=torch.ones(2)), "unexpected: head"),
    "shape": (lambda s: s.update({"visual.proj": torch.ones(32, 25)}), "shape: visual.proj"),
    "nan": (lambda s: s["ln_final.bias"][3:].fill_(torch.nan), "NaN or infinity: ln_final.bias"),
    "inf": (lambda s: s["logit_scale"].fill_(torch.inf), "NaN or infinity: logit_scale"),
    "extra and NaN": (lambda s: s.update(head=torch.tensor(torch.nan)), "head; .*NaN or infinity: head"),
}


@pytest.mark.parametrize("change, fault", FAULTS.values(), ids=FAULTS.keys())
def test_mismatched_weights_change_nothing(openai_state, openai_small, tmp_path, change, fault):
    torch.save(openai_state, tmp_path / "good.pt")
    model = LIQE.from_checkpoint(tmp_path / "good.pt", grid=QUALITY)
    before = {k: v.clone() for k, v in model.clip.state_dict().items()}
    change(openai_state)
    with pytest.raises(CheckpointError, match=f"mine: .*{fault}"):
        load_weights(model.clip, {k: v + 1 for k, v in openai_state.items()}, "mine")
    assert all(torch.equal(v, before[k]) for k, v in model.clip.state_dict().items())
    torch.save(openai_state, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=r"bad\.pt: "):
        LIQE.from_checkpoint(tmp_path / "bad.pt", architecture=openai_small)


def test_architecture_by_name_or_configuration(small_liqe, tmp_path):
    """A model whose heads are not 64 wide: shapes cannot tell, the caller can."""
    torch.save(small_liqe.clip.state_dict(), tmp_path / "plain.pt")
    crops = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = small_liqe.clip.encode_image(crops)
        for architecture in ("LIQE-smoke", small_liqe.architecture):
            model = LIQE.from_checkpoint(tmp_path / "plain.pt", architecture=architecture)
            torch.testing.assert_close(model.clip.encode_image(crops), expected)
        read_off = LIQE.from_checkpoint(tmp_path / "plain.pt")  # one head and QuickGELU
        assert not torch.allclose(read_off.clip.encode_image(crops), expected, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"plain\.pt: .*ViT-nine"):
        read_checkpoint(tmp_path / "plain.pt", "ViT-nine")


def test_an_architecture_with_the_other_activation_is_warned_of(openai_state, tmp_path):
    torch.save(openai_state, tmp_path / "x.pt")
    with pytest.warns(UserWarning, match=r"x\.pt: .*ViT-B-32-quickgelu"):
        read_checkpoint(tmp_path / "x.pt", "ViT-B/32")
