"""The model, compared with a simple version of the public computation: preprocessing by torchvision, windows
by `unfold`, padded prompts. (Training steps: tests/training/test_step.py.)"""

import math
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from liqe_core import LIQE, PromptGrid, towers
from liqe_core.crops import CropGeometry, Statistics
from liqe_core.prompts import DISTORTIONS, QUALITIES, SCENES, VARIANTS

PROMPTS = {
    "quality": [f"a photo with {q} quality" for q in QUALITIES],
    "quality+scene": [f"a photo of a {s}, which is of {q} quality" for q, s in product(QUALITIES, SCENES)],
    "quality+distortion": [
        f"a photo with {d} artifacts, which is of {q} quality" for q, d in product(QUALITIES, DISTORTIONS)
    ],
    "quality+scene+distortion": [
        f"a photo of a {s} with {d} artifacts, which is of {q} quality"
        for q, s, d in product(QUALITIES, SCENES, DISTORTIONS)
    ],
}
SHAPES = {name: (5, 9 if "scene" in name else 1, 11 if "distortion" in name else 1) for name in PROMPTS}


def public_answer(clip, path, variant, window, context):
    """Joint probability (Q, S, D) and quality of a file, as the public demo computes them."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    if min(image.size) >= 768:
        image = transforms.Resize(768)(image)
    x = transforms.ToTensor()(image)
    x = transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))(x)
    step = 48 if x.shape[1] >= 1024 or x.shape[2] >= 1024 else 32
    crops = x.unfold(1, window, step).unfold(2, window, step).permute(1, 2, 0, 3, 4)
    crops = crops.reshape(-1, 3, window, window)
    n = min(15, len(crops))  # the public code needs 15
    crops = crops[[i * (len(crops) // n) for i in range(n)]]
    tokens = towers.tokenizer({"text_cfg": {"context_length": context}})(PROMPTS[variant])
    with torch.no_grad():
        image, text = clip.encode_image(crops), clip.encode_text(tokens)
        image = image / image.norm(dim=1, keepdim=True)
        text = text / text.norm(dim=1, keepdim=True)
        logits = clip.logit_scale.exp() * image @ text.t()
        p = logits.mean(dim=0).softmax(dim=0).view(SHAPES[variant])
    quality = sum(level * float(p[level - 1].sum()) for level in range(1, 6))
    return p, quality


def assert_public_answer(model, path, variant, **sizes):
    """Compare the answers of `model` with the public computation, and return its joint probability."""
    joint, quality = public_answer(model.clip, path, variant, **sizes)
    prediction = model.score(path)
    assert prediction.joint.shape == (1, *SHAPES[variant])
    assert (prediction.joint[0] - joint).abs().max() <= 1e-5
    assert abs(float(prediction.quality) - quality) <= 2e-4
    return joint


SIZES = {
    "both sides over 768": (1000, 900),
    "one side over 1024": (1100, 300),
    "768 to 1024 exactly": (1024, 768),
    "portrait, shrunk to 1152": (1000, 1500),
    "one window": (32, 32),
    "four windows": (70, 90),
}


@pytest.mark.parametrize(
    "kind, variant",
    [
        *((size, "quality+scene") for size in SIZES),
        *((mode, "quality+scene") for mode in ("L", "RGBA", "CMYK")),
        *(("RGB", variant) for variant in VARIANTS),
    ],
)
def test_scores_equal_the_public_computation(openai_state, image, tmp_path, kind, variant):
    torch.save(openai_state, tmp_path / "LIQE.pt")
    model = LIQE.from_checkpoint(tmp_path / "LIQE.pt", grid=PromptGrid.variant(variant))
    path = tmp_path / ("image.jpg" if kind == "CMYK" else "image.png")
    (image.resize(SIZES[kind]) if kind in SIZES else image.convert(kind)).save(path)
    joint = assert_public_answer(model, path, variant, window=32, context=40)
    assert float(joint.max()) > 2 / joint.numel() or joint.numel() == 5, "the weights tell prompts apart"


@pytest.mark.slow
def test_full_size_equals_the_public_computation(image, tmp_path):
    """ViT-B/32 as OpenAI built it, 224-pixel crops; random weights, in half precision as in public files."""
    config = towers.architecture("ViT-B-32-quickgelu")
    shapes = {name: value.shape for name, value in towers.build(config).state_dict().items()}
    state = {name: (0.03 * torch.randn(shape)).half() for name, shape in shapes.items()}
    state |= {name: 1 + value for name, value in state.items() if ".ln_" in f".{name}" and "weight" in name}
    state["token_embedding.weight"] *= 30  # so that prompts differ
    state["logit_scale"] = torch.tensor(math.log(100)).half()
    torch.save(state, tmp_path / "LIQE.pt")
    variant = "quality+scene"
    model = LIQE.from_checkpoint(tmp_path / "LIQE.pt", grid=PromptGrid.variant(variant))
    (tmp_path / "LIQE.pt").unlink()
    assert model.geometry == CropGeometry() and model.architecture["quick_gelu"]
    image.resize((1000, 1500)).save(tmp_path / "image.png")
    joint = assert_public_answer(model, tmp_path / "image.png", variant, window=224, context=77)
    assert float(joint.max()) > 1.2 / 45, "the weights do tell the prompts apart"


# ---- the joint probability ----------------------------------------------------------------------------


def test_bytes_are_scaled_for_the_image_tower():
    """By which numbers: tests/test_towers.py."""
    model = LIQE.from_clip("LIQE-mini", pretrained=None, grid=PromptGrid.variant("quality"))
    crops = torch.randint(256, (2, 3, model.geometry.window, model.geometry.window), dtype=torch.uint8)
    floats = transforms.Normalize(*model.statistics)(crops / 255)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(crops), model.logits(floats), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model.embed(crops), model.embed(floats), atol=1e-4, rtol=1e-4)


def test_only_our_checkpoints_store_the_scaling_of_crops(tmp_path):
    """A file of plain weights accepts every architecture, by name or by configuration."""
    model = LIQE.from_clip("LIQE-mini", pretrained=None, grid=PromptGrid.variant("quality"))
    torch.save(model.clip.state_dict(), tmp_path / "plain.pt")
    statistics = Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    model.statistics = statistics
    model.save(tmp_path / "ours")
    halves = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    for name, expected in {"ours": statistics, "plain.pt": halves}.items():
        assert LIQE.from_clip("LIQE-mini", tmp_path / name).statistics == expected
        for architecture in ("LIQE-mini", towers.architecture("LIQE-mini")):
            read = LIQE.from_checkpoint(tmp_path / name, architecture=architecture)
            assert read.statistics == expected


@pytest.mark.parametrize("name", ["LIQE-mini", "LIQE-smoke"])
def test_embeddings_stand_in_for_their_crops(name):
    """A timm tower, with a projection that trains on top, and a ViT, without."""
    model = LIQE.from_clip(name, pretrained=None, grid=PromptGrid.variant("quality+scene"))
    window = model.geometry.window
    crops = torch.randint(256, (2, 3, 3, window, window), dtype=torch.uint8)
    with torch.no_grad():
        kept = model.embed(crops.flatten(0, 1))
        logits = model.logits(crops.flatten(0, 1))
        assert kept.ndim == 2 and len(kept) == 6
        torch.testing.assert_close(model.logits(kept), logits)
        torch.testing.assert_close(model(kept.unflatten(0, (2, 3))), model(crops))
        torch.testing.assert_close(model.joint_of([kept[:3], kept[3:5]])[0], model(crops)[0])
        assert (logits[0] - logits[5]).abs().max() > 1e-3, "it does tell the crops apart"
    model(kept.unflatten(0, (2, 3)))[:, 0].sum().backward()
    with_gradient = {n for n, p in model.clip.visual.named_parameters() if p.grad is not None}
    assert with_gradient == ({"head.proj.weight"} if name == "LIQE-mini" else set())


def test_on_a_cpu_crops_go_through_the_tower_a_few_at_a_time(small_liqe, monkeypatch):
    crops = torch.randint(256, (7, 3, 32, 32), dtype=torch.uint8)
    seen, whole = [], small_liqe.logits(crops)
    encode = small_liqe.clip.encode_image
    monkeypatch.setattr(small_liqe.clip, "encode_image", lambda x: seen.append(len(x)) or encode(x))
    monkeypatch.setattr("liqe_core.model.PIXELS_AT_ONCE", 3 * 32**2)
    torch.testing.assert_close(small_liqe.logits(crops), whole, atol=1e-5, rtol=1e-5)
    assert seen == [3, 3, 1]
    small_liqe.train()  # as where a batch norm learns from all crops of the batch
    small_liqe.logits(crops)
    assert seen[3:] == [7]


def test_crops_of_another_shape(small_liqe):
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 32\)"):
        small_liqe(torch.zeros(2, 3, 32, 32))


def test_invalid_arguments_are_rejected():
    with pytest.raises(ValueError, match="224"):
        LIQE.from_clip("LIQE-smoke", pretrained=None, geometry=CropGeometry())
    with pytest.raises(ValueError, match="demo"):
        LIQE.from_clip("LIQE-smoke", pretrained=None, geometry="demo")


def test_torchs_default_dtype_and_device_change_nothing():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            model = LIQE.from_clip("LIQE-smoke", pretrained=None)
        prediction = model.score(np.zeros((40, 40, 3), np.uint8))
    finally:
        torch.set_default_dtype(torch.float32)
    assert prediction.quality.dtype == torch.float32 and prediction.quality.isfinite()
