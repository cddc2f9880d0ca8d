import open_clip
import pytest
import torch

from liqe_core import LIQE, PromptGrid, towers
from liqe_core.checkpoints import CheckpointError
from liqe_core.prompts import GridError
from liqe_core.towers import ArchitectureError

RESNET = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8},
    "text_cfg": {"context_length": 40, "vocab_size": 100, "width": 64, "heads": 1, "layers": 1},
}


def same_function(one, other, size):
    """Two models with the same weights answer the same: what shapes do not show is right too."""
    other.load_state_dict(one.state_dict())
    images, tokens = torch.randn(2, 3, size, size), torch.randint(1, 99, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(other.encode_image(images), one.encode_image(images))
        torch.testing.assert_close(other.encode_text(tokens), one.encode_text(tokens))


def test_vit_read_off_its_shapes(openai_small):
    clip = towers.build(openai_small)
    found = towers.openai_architecture(clip.state_dict())
    assert found == openai_small
    same_function(clip, towers.build(found), 32)


def test_resnet_read_off_its_shapes():
    clip = towers.build(RESNET)
    found = towers.openai_architecture(clip.state_dict())
    assert found == RESNET
    same_function(clip, towers.build(found), 64)


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "ViT-L-14-quickgelu", "RN50-quickgelu"])
def test_openais_own_sizes_are_recognised(name):
    config = towers.architecture(name)
    with torch.device("meta"):
        state = towers.build(config).state_dict()
    found = towers.openai_architecture(state)
    with torch.device("meta"):
        again = towers.build(found)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert again.transformer.resblocks[0].attn.num_heads == config["text_cfg"]["heads"]
    assert towers.crop_size(again) == config["vision_cfg"]["image_size"]
    assert found["quick_gelu"] is True


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda s: s.pop("ln_final.weight"), "no 'ln_final.weight'"),
        (lambda s: s.update(positional_embedding=torch.ones(3)), "'positional_embedding' has shape"),
        (lambda s: s.pop("visual.conv1.weight"), "no 'visual.conv1.weight'"),
        (
            lambda s: [s.pop(k) for k in list(s) if k.startswith("transformer.")],
            "no 'transformer.resblocks.0'",
        ),
    ],
)
def test_shapes_that_say_nothing(openai_state, change, says):
    change(openai_state)
    with pytest.raises(ArchitectureError, match=says):
        towers.openai_architecture(openai_state)


def test_unknown_name_lists_names_like_it():
    with pytest.raises(ArchitectureError, match=r"no architecture 'ViT-B-99'; names like it: .*ViT-B"):
        LIQE.from_clip("ViT-B-99")
    assert towers.architecture("ViT-B/32") == towers.architecture("ViT-B-32")


def test_an_architecture_is_a_copy():
    towers.architecture("LIQE-smoke")["embed_dim"] = 1
    assert towers.architecture("LIQE-smoke")["embed_dim"] == 32


def test_unknown_tag_lists_those_there_are():
    with pytest.raises(
        ArchitectureError, match=r"'imagenet' is neither a file nor weights .* it has: .*openai"
    ):
        LIQE.from_clip("ViT-B-32-quickgelu", pretrained="imagenet")
    with pytest.raises(ArchitectureError, match="it has: none"):
        LIQE.from_clip("LIQE-smoke", pretrained="openai")


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("Failed to download")])
def test_no_network(monkeypatch, error):
    def unreachable(*_, **__):
        raise error

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    with pytest.raises(
        ArchitectureError, match=rf"could not be downloaded \({error}\); check the network, or"
    ):
        LIQE.from_clip("ViT-B-32-quickgelu")


def test_a_grid_that_does_not_fit_is_refused_before_the_download(monkeypatch):
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: pytest.fail("downloads"))
    with pytest.raises(GridError, match="does not fit"):
        LIQE.from_clip("ViT-B-32-quickgelu", grid=PromptGrid(quality=["good " * 90]))


def test_from_clip_with_a_file(openai_state, openai_small, tmp_path, monkeypatch):
    monkeypatch.setattr(towers, "architecture", lambda name: openai_small)
    torch.save(openai_state, tmp_path / "clip.pt")
    model = LIQE.from_clip("ours", pretrained=tmp_path / "clip.pt", grid=PromptGrid.variant("quality"))
    for key, value in model.clip.state_dict().items():
        assert torch.equal(value, openai_state[key])
    assert not model.training and not model.clip.logit_scale.requires_grad
    openai_small["vision_cfg"]["layers"] = 3
    with pytest.raises(CheckpointError, match=r"clip.pt: .*missing: visual.transformer.resblocks.2"):
        LIQE.from_clip("ours", pretrained=str(tmp_path / "clip.pt"))


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda c: c.pop("text_cfg"), "no text_cfg"),
        (lambda c: c.pop("vision_cfg"), "makes no model"),
        (lambda c: c["text_cfg"].update(heads=5), "makes no model"),
        (lambda c: c["vision_cfg"].update(colour="red"), "makes no model.*colour"),
        (lambda c: c["text_cfg"].update(tokenizer_kwargs={"trust_remote_code": True}), "trust_remote_code"),
    ],
)
def test_a_configuration_that_makes_no_model(openai_small, change, says):
    change(openai_small)
    with pytest.raises(ArchitectureError, match=says):
        towers.build(openai_small)


def test_a_tokenizer_cannot_bring_code():
    evil = {
        "text_cfg": {"hf_tokenizer_name": "someone/evil", "tokenizer_kwargs": {"trust_remote_code": True}}
    }
    with pytest.raises(ArchitectureError, match="refused: the tokenizer asks for trust_remote_code"):
        towers.tokenizer(evil)


def test_crops_are_square(openai_small):
    openai_small["vision_cfg"]["image_size"] = [32, 48]
    with pytest.raises(ArchitectureError, match="32 x 48 pictures; LIQE's crops are square"):
        towers.crop_size(towers.build(openai_small))
