"""The whole model against the public computation, restated here in its own plain way: preprocessing by
torchvision, every window by `unfold`, padded prompts, loops over data sets and pairs."""

import math
from itertools import combinations, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms

from liqe_core import LIQE, PromptGrid, towers
from liqe_core.crops import CropGeometry, Statistics, normalize
from liqe_core.losses import distortion_loss, quality_loss, scene_loss
from liqe_core.prediction import expected_quality, marginal
from liqe_core.prompts import DISTORTIONS, QUALITIES, SCENES, VARIANTS, GridError
from liqe_core.text import text_parameters
from liqe_core.weighting import DynamicWeightAverage

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
SHAPES = {
    "quality": (5, 1, 1),
    "quality+scene": (5, 9, 1),
    "quality+distortion": (5, 1, 11),
    "quality+scene+distortion": (5, 9, 11),
}


def public_logits(clip, crops, tokens):
    """(n, 3, H, W) and padded tokens to (n, prompts)."""
    image, text = clip.encode_image(crops), clip.encode_text(tokens)
    image = image / image.norm(dim=1, keepdim=True)
    text = text / text.norm(dim=1, keepdim=True)
    return clip.logit_scale.exp() * image @ text.t()


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
        p = public_logits(clip, crops, tokens).mean(dim=0).softmax(dim=0).view(SHAPES[variant])
    quality = sum(level * float(p[level - 1].sum()) for level in range(1, 6))
    return p, quality


def saved(picture, folder, kind):
    """A real photograph in one of the forms in which pictures come."""
    sizes = {
        "both sides over 768": (1000, 900),
        "one side over 1024": (1100, 300),
        "768 to 1024 exactly": (1024, 768),
        "portrait, shrunk to 1152": (1000, 1500),
        "portrait": (427, 640),
        "one window": (32, 32),
        "four windows": (70, 90),
    }
    suffix = "jpg" if kind == "CMYK" else "png"
    path = folder / f"picture.{suffix}"
    if kind in sizes:
        picture.resize(sizes[kind]).save(path)
    else:
        (picture.quantize(32) if kind == "P" else picture.convert(kind)).save(path)
    return path


@pytest.mark.parametrize(
    "kind",
    ["both sides over 768", "one side over 1024", "768 to 1024 exactly", "portrait, shrunk to 1152",
     "portrait", "one window", "four windows", "RGB", "L", "RGBA", "P", "CMYK", "1"],
)  # fmt: skip
def test_scores_equal_the_public_computation(openai_state, picture, tmp_path, kind):
    torch.save(openai_state, tmp_path / "LIQE.pt")
    variant = "quality+scene"
    model = LIQE.from_checkpoint(tmp_path / "LIQE.pt", grid=PromptGrid.variant(variant))
    path = saved(picture, tmp_path, kind)
    joint, quality = public_answer(model.clip, path, variant, window=32, context=40)
    prediction = model.score(path)
    assert (prediction.joint[0] - joint).abs().max() <= 1e-5
    assert abs(float(prediction.quality) - quality) <= 2e-4
    assert float(joint.max()) > 2 / 45, "the weights do tell the prompts apart"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_equals_the_public_computation(openai_state, picture, tmp_path, variant):
    torch.save(openai_state, tmp_path / "LIQE.pt")
    model = LIQE.from_checkpoint(tmp_path / "LIQE.pt", grid=PromptGrid.variant(variant))
    path = saved(picture, tmp_path, "RGB")
    joint, quality = public_answer(model.clip, path, variant, window=32, context=40)
    prediction = model.score(path)
    assert prediction.joint.shape == (1, *SHAPES[variant])
    assert (prediction.joint[0] - joint).abs().max() <= 1e-5
    assert abs(float(prediction.quality) - quality) <= 2e-4


def test_full_size_equals_the_public_computation(picture, tmp_path):
    """ViT-B/32 as OpenAI built it, 224-pixel crops; random weights, in half precision as in public files."""
    config = towers.architecture("ViT-B-32-quickgelu")
    with torch.device("meta"):
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
    picture.resize((1000, 1500)).save(tmp_path / "picture.png")
    joint, quality = public_answer(model.clip, tmp_path / "picture.png", variant, window=224, context=77)
    prediction = model.score(tmp_path / "picture.png")
    assert (prediction.joint[0] - joint).abs().max() <= 1e-5
    assert abs(float(prediction.quality) - quality) <= 2e-4
    assert float(joint.max()) > 1.2 / 45, "the weights do tell the prompts apart"


# ---- the joint probability ----------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_joint_sums_to_one_and_has_the_grids_shape(variant):
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=PromptGrid.variant(variant))
    with torch.no_grad():
        joint = model(torch.randn(3, 2, 3, 32, 32))
    assert joint.shape == (3, *SHAPES[variant]) and joint.dtype == torch.float32
    torch.testing.assert_close(joint.sum(dim=(1, 2, 3)), torch.ones(3))


def test_joint_by_hand_from_logits(small_liqe):
    grid = PromptGrid(quality=["a", "b"], scene=["c", "d"], distortion=[])
    model = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=grid)
    # prompts in the order (a, c), (a, d), (b, c), (b, d), as odds 1 : 2 : 3 : 4
    joint = model.joint(torch.tensor([[math.log(odds) for odds in (1, 2, 3, 4)]]))
    torch.testing.assert_close(joint, torch.tensor([[[[0.1], [0.2]], [[0.3], [0.4]]]]))
    assert float(expected_quality(joint)) == pytest.approx(0.3 * 1 + 0.7 * 2)
    torch.testing.assert_close(marginal(joint, "scene"), torch.tensor([[0.4, 0.6]]))


def test_logits_are_averaged_over_crops_before_the_softmax(small_liqe):
    crops = 3 * torch.randn(2, 4, 3, 32, 32)
    small_liqe.clip.logit_scale.data.fill_(math.log(100))
    with torch.no_grad():
        logits = torch.stack([small_liqe.logits(c).mean(dim=0) for c in crops])
        torch.testing.assert_close(small_liqe(crops), small_liqe.joint(logits))
        mean_of_softmax = torch.stack([small_liqe.joint(small_liqe.logits(c)).mean(dim=0) for c in crops])
    assert not torch.allclose(small_liqe(crops), mean_of_softmax, atol=1e-5)


def test_bytes_are_normalised_and_floats_are_not(small_liqe):
    crops = torch.randint(256, (1, 2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(small_liqe(crops), small_liqe(normalize(crops)))


@pytest.mark.parametrize(
    "name, timm_name, mean, std",
    [
        ("LIQE-smoke", None, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ("LIQE-mini", None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("LIQE-mini", "resnet18", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_bytes_are_scaled_as_the_image_tower_takes_them(monkeypatch, tmp_path, name, timm_name, mean, std):
    config = towers.architecture(name)
    if timm_name:
        config["vision_cfg"]["timm_model_name"] = timm_name
        monkeypatch.setattr(towers, "architecture", lambda name: config)
        name = "of our own"
    model = LIQE.from_clip(name, pretrained=None, grid=PromptGrid.variant("quality"))
    window = model.geometry.window
    crops = torch.randint(256, (2, 2, 3, window, window), dtype=torch.uint8)
    floats = transforms.Normalize(mean, std)(crops / 255)
    model.save(tmp_path / "model.safetensors")
    reread = LIQE.from_checkpoint(tmp_path / "model.safetensors")
    with torch.no_grad():
        expected = model.logits(floats.flatten(0, 1))
        for variant in (model, reread):
            assert variant.statistics == (mean, std)
            torch.testing.assert_close(variant.logits(crops.flatten(0, 1)), expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(variant.embed(crops[0]), model.embed(floats[0]), atol=1e-4, rtol=1e-4)


def test_a_file_of_ours_says_what_crops_are_scaled_by_and_another_does_not(tmp_path):
    """A file of plain weights takes what the architecture takes, by name or by configuration."""
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
    with pytest.raises(ValueError, match=r"shape \(2, 3, 32, 32\), expected \(B, U, 3, window, window\) or"):
        small_liqe(torch.zeros(2, 3, 32, 32))


def test_autocast_keeps_the_similarities_in_full_precision(small_liqe):
    crops = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        joint = small_liqe(crops)
    assert joint.dtype == torch.float32
    torch.testing.assert_close(joint.sum(dim=(1, 2, 3)), torch.ones(2))


def test_what_cannot_be_is_refused():
    with pytest.raises(GridError, match="does not fit"):
        LIQE.from_clip("LIQE-smoke", pretrained=None, grid=PromptGrid(quality=["very " * 40 + "good"]))
    with pytest.raises(ValueError, match=r"geometry\.window is 224, but the image tower takes 32"):
        LIQE.from_clip("LIQE-smoke", pretrained=None, geometry=CropGeometry())
    with pytest.raises(ValueError, match="unknown crop geometry 'demo'"):
        LIQE.from_clip("LIQE-smoke", pretrained=None, geometry="demo")


# ---- training -----------------------------------------------------------------------------------------


def naive_pair_loss(q, mos):
    losses = []
    for i, j in combinations(range(len(q)), 2):
        g = 1.0 if mos[i] > mos[j] else 0.0 if mos[i] < mos[j] else 0.5
        p = 0.5 * (1 + torch.erf((q[i] - q[j]) / math.sqrt(2)))
        losses.append(1 - (torch.sqrt(p * g + 1e-8) + torch.sqrt((1 - p) * (1 - g) + 1e-8)))
    return sum(losses) / len(losses)


def naive_losses(p, mos, scenes, distortions, counts):
    """The three losses of a batch from its joint probabilities, by loops."""
    q = sum(level * p[:, level - 1].sum(dim=(1, 2)) for level in range(1, 6))
    quality, start = 0.0, 0
    for count in counts:
        quality = quality + naive_pair_loss(q[start : start + count], mos[start : start + count])
        start += count
    p_scene, p_distortion = p.sum(dim=(1, 3)), p.sum(dim=(1, 2))
    scene = 0.0
    for s in range(9):
        fidelity = torch.sqrt(p_scene[:, s] * scenes[:, s] + 1e-8)
        scene = scene + 1 - fidelity - torch.sqrt((1 - p_scene[:, s]) * (1 - scenes[:, s]) + 1e-8)
    distortion = 1 - sum(torch.sqrt(p_distortion[:, d] * distortions[:, d] + 1e-8) for d in range(11))
    return [quality / len(counts), distortion.mean(), (scene / 9).mean()]


def naive_weights(means):
    if len(means) < 2:
        return [1.0, 1.0, 1.0]
    pace = [math.exp(last / before / 2) for before, last in zip(*means[-2:], strict=True)]
    return [3 * p / sum(pace) for p in pace]


def gradient_norm(module):
    return math.sqrt(
        sum(float(p.grad.double().square().sum()) for p in module.parameters() if p.grad is not None)
    )


def test_training_steps_equal_the_public_loop(openai_state, tmp_path):
    """Three epochs of one AdamW step: losses, their weights, gradient norms and the updated parameters."""
    torch.save(openai_state, tmp_path / "start.pt")
    ours = LIQE.from_checkpoint(tmp_path / "start.pt")
    public = LIQE.from_checkpoint(tmp_path / "start.pt").clip
    tokens = towers.tokenizer({"text_cfg": {"context_length": 40}})(PROMPTS[VARIANTS[-1]])
    settings = dict(lr=5e-6, weight_decay=1e-3)
    our_optimizer = torch.optim.AdamW(ours.parameters(), **settings)
    optimizer = torch.optim.AdamW([p for p in public.parameters() if p.requires_grad], **settings)
    weighting = DynamicWeightAverage(["quality", "distortion", "scene"])
    means, counts = [], (2, 4, 3)
    dataset = torch.tensor([0] * 2 + [1] * 4 + [2] * 3)
    start = {name: p.detach().clone() for name, p in public.named_parameters()}
    rng = torch.Generator().manual_seed(0)
    for _epoch in range(3):
        crops = torch.randn(9, 3, 3, 32, 32, generator=rng)
        mos = torch.rand(9, generator=rng)
        mos[3] = mos[2]  # a tie
        scenes = (torch.rand(9, 9, generator=rng) > 0.7).float()
        scenes[:, 0] = 1
        distortions = F.one_hot(torch.randint(11, (9,), generator=rng), 11).float()

        logits = public_logits(public, crops.flatten(0, 1), tokens).view(9, 3, -1).mean(dim=1)
        losses = naive_losses(logits.softmax(dim=1).view(9, 5, 9, 11), mos, scenes, distortions, counts)
        weights = naive_weights(means)
        optimizer.zero_grad()
        sum(w * loss for w, loss in zip(weights, losses, strict=True)).backward()
        means.append([loss.item() for loss in losses])

        joint = ours(crops)
        our_losses = {
            "quality": quality_loss(expected_quality(joint), mos, dataset),
            "distortion": distortion_loss(marginal(joint, "distortion"), distortions),
            "scene": scene_loss(marginal(joint, "scene"), scenes),
        }
        our_weights = weighting.weights()
        our_optimizer.zero_grad()
        sum(our_weights[task] * our_losses[task] for task in our_losses).backward()
        weighting.record({task: loss.item() for task, loss in our_losses.items()})
        weighting.end_epoch()

        assert [loss.item() for loss in our_losses.values()] == pytest.approx(means[-1], abs=2e-6)
        assert list(our_weights.values()) == pytest.approx(weights, abs=1e-5)
        assert gradient_norm(ours) == pytest.approx(gradient_norm(public), rel=1e-4)
        certain = {}
        for (name, p), (_, q) in zip(public.named_parameters(), ours.clip.named_parameters(), strict=True):
            if p.grad is not None:
                largest = float(p.grad.abs().max())
                torch.testing.assert_close(q.grad, p.grad, atol=2e-5 * max(1, largest), rtol=1e-4)
                certain[name] = p.grad.abs() > 1e-2
        optimizer.step()
        our_optimizer.step()
        for (name, p), (_, q) in zip(public.named_parameters(), ours.clip.named_parameters(), strict=True):
            # AdamW's first steps go by the gradient's sign: where it is all rounding, so is the step.
            if name in certain:
                torch.testing.assert_close(q[certain[name]], p[certain[name]], atol=3e-7, rtol=0)
            torch.testing.assert_close(q, p, atol=2 * 3 * 5e-6, rtol=0)
        assert sum(int(c.sum()) for c in certain.values()) > 10_000
    assert means[0] != means[1] and our_weights["quality"] != 1
    moved = [name for name, p in public.named_parameters() if not torch.equal(p, start[name])]
    assert len(moved) == len(start) - 1 and "logit_scale" not in moved
    assert float(ours.clip.logit_scale) == pytest.approx(math.log(100))


def test_training_learns_a_picture_by_heart():
    """The losses point the right way: after some steps the labels are the likeliest."""
    grid = PromptGrid(quality=QUALITIES, scene=SCENES[:3], distortion=DISTORTIONS[:4])
    small_liqe = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=grid)
    crops = torch.randn(2, 1, 3, 32, 32)
    scenes, distortions = torch.eye(3)[[2, 0]], torch.eye(4)[[1, 3]]
    for p in text_parameters(small_liqe.clip):
        p.requires_grad_(False)
    optimizer = torch.optim.AdamW(small_liqe.clip.visual.parameters(), lr=3e-3)
    for _ in range(25):
        joint = small_liqe(crops)
        loss = (
            quality_loss(expected_quality(joint), torch.tensor([0.2, 0.9]), torch.zeros(2, dtype=torch.long))
            + scene_loss(marginal(joint, "scene"), scenes)
            + distortion_loss(marginal(joint, "distortion"), distortions)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        joint = small_liqe(crops)
    assert marginal(joint, "scene").argmax(dim=1).tolist() == [2, 0]
    assert marginal(joint, "distortion").argmax(dim=1).tolist() == [1, 3]
    quality = expected_quality(joint)
    assert np.diff(quality.numpy()) > 0
