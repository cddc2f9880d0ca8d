"""One training step: build the model of a profile, compute its losses and gradient, and update it."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from liqe_core.data.manifests import load_manifest
from liqe_core.evaluation.distributed import ALONE, Ranks
from liqe_core.losses import distortion_loss, plcc_loss, quality_loss, regression_loss, scene_loss
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality, marginal
from liqe_core.text import text_parameters, text_tower
from liqe_core.training.batches import Batch, geometry_of
from liqe_core.training.precision import Precision
from liqe_core.training.profiles import Profile


class BadBatchError(ValueError):
    """Raised if a step is not taken, because its loss or gradient is NaN or infinite.

    Attributes:
        losses: unweighted losses by task.
        reason: the value that is not finite, ``loss`` or ``gradient``.
        images: names of the images whose prediction or score is not finite, or of all images if there are
            none.
    """

    def __init__(self, losses: dict[str, float], reason: str, images: Sequence[str]):
        super().__init__(f"the {reason} is not finite; images: {', '.join(images)}")
        self.losses, self.reason, self.images = losses, reason, tuple(images)


def build_model(settings: Profile, device: torch.device | str = "cpu") -> LIQE:
    """Build the initial model of a profile, with random weights from its seed."""
    torch.manual_seed(settings.seed)
    model = LIQE.from_clip(
        settings.model.architecture,
        settings.model.pretrained or None,
        grid=settings.grid(),
        geometry=geometry_of(settings),
        separate_heads=settings.losses.control == "separate heads",
        device=device,
    )
    heads = set(getattr(model.clip, "heads", ()))
    if settings.model.freeze == "text" or heads:
        for parameter in text_parameters(model.clip):
            parameter.requires_grad_(parameter in heads)
    if settings.model.freeze == "image":
        with warnings.catch_warnings(category=FutureWarning, action="ignore"):  # of timm, in open_clip
            model.clip.lock_image_tower(settings.model.unlocked_groups)
    if settings.model.freeze == "all":
        model.requires_grad_(False)
    if settings.machine.gradient_checkpointing:
        model.clip.set_grad_checkpointing(True)
    if settings.machine.compile:
        model.clip.visual.compile()
        text_tower(model.clip).transformer.compile()
    return model


def build_optimizer(settings: Profile, model: LIQE) -> torch.optim.AdamW:
    """Build AdamW for the trainable parameters.

    The fused kernel is used where torch has one, because it is several times faster.
    """
    return torch.optim.AdamW(
        [{"params": [p for p in model.parameters() if p.requires_grad]}],  # a group can be empty, a list not
        lr=settings.steps.learning_rate,
        weight_decay=settings.steps.weight_decay,
        fused=model.device.type in ("cpu", "cuda"),
    )


def learning_rate(settings: Profile, epoch: int, step: int) -> float:
    """Return the learning rate of a step, which depends only on the settings, the epoch and the step.

    ``public``: CosineAnnealingLR(T_max=5) is stepped once per epoch, and once more if an epoch would start
    with rate 0. Positions 5, 15, 25, ... of its wave are therefore never used.
    """
    if settings.steps.schedule == "public":
        position = epoch + (epoch + 4) // 9
        return settings.steps.learning_rate * (1 + math.cos(math.pi * position / 5)) / 2
    done, total = epoch * settings.steps.steps + step, settings.steps.epochs * settings.steps.steps
    if done < settings.steps.warmup_steps:
        return settings.steps.learning_rate * (done + 1) / settings.steps.warmup_steps
    part = (done - settings.steps.warmup_steps) / max(1, total - settings.steps.warmup_steps)
    return settings.steps.learning_rate * (1 + math.cos(math.pi * part)) / 2


@dataclasses.dataclass
class TrainStep:
    """A training step: the weighted sum of the task losses, its gradient, and the update.

    Attributes:
        parallel: the result of `distributed.wrapped`, for training in several processes.
        ranking, distortion: see `task_losses`.
    """

    model: LIQE
    optimizer: torch.optim.Optimizer
    precision: Precision
    ranks: Ranks = ALONE
    parallel: nn.Module | None = None
    ranking: Callable[[Tensor, Tensor, Tensor], Tensor] = quality_loss
    distortion: Callable[[Tensor, Tensor], Tensor] = distortion_loss

    def __call__(
        self, batch: Batch, weights: Mapping[str, float], learning_rate: float
    ) -> tuple[dict[str, float], float]:
        """Take the step.

        Args:
            weights: weights of the task losses.

        Returns:
            The unweighted losses by task, and the norm of the gradient. The norm is infinite if float16
            overflowed; then the step is not taken, and the scale is reduced.

        Raises:
            BadBatchError: if the loss or gradient is NaN or infinite. The step is not taken.
        """
        model, optimizer, precision = self.model, self.optimizer, self.precision
        optimizer.zero_grad(set_to_none=True)  # frees the memory of the gradients for the forward pass
        with precision.autocast():
            part = (self.parallel or model)(batch.crops.to(model.device))
        joint = self.ranks.gather(part, len(batch.images))
        losses = task_losses(joint, batch, tuple(weights), self.ranking, self.distortion)
        loss: Tensor = sum(weights[task] * value for task, value in losses.items())  # type: ignore[assignment]

        precision.scaler.scale(loss).backward()
        precision.scaler.unscale_(optimizer)
        trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained])
        # The only synchronisation with the device in a step.
        *each_loss, total, length = torch.stack([*losses.values(), loss, norm]).tolist()
        values = dict(zip(losses, each_loss, strict=True))
        overflow = precision.scaler.is_enabled() and not math.isfinite(length)
        sound = math.isfinite(total) and (math.isfinite(length) or overflow)
        if sound:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            precision.scaler.step(optimizer)
            precision.round_weights()
        precision.scaler.update()
        if not sound:
            reason = "gradient" if math.isfinite(total) else "loss"
            raise BadBatchError(values, reason, _suspects(joint, batch))
        return values, length


def ranking_of(settings: Profile) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the quality loss of a profile, a function of predictions, scores and datasets (see `losses`)."""
    if settings.losses.quality_loss == "squared error":
        scores = {name: load_manifest(name).score for name in settings.data.batch_sizes}
        if unscored := [name for name, score in scores.items() if score is None]:
            raise ValueError(
                f"quality_loss: {', '.join(unscored)} has no scores; remove it, or give 'fidelity'"
            )
        ends = torch.tensor([(score.low, score.high) for score in scores.values() if score])
        return partial(regression_loss, ends=ends)
    losses = settings.losses
    pairs = partial(quality_loss, spread=losses.spread, pair_mean=losses.pair_mean, ties=losses.ties)
    if not losses.plcc_weight:
        return pairs
    return lambda *labelled: pairs(*labelled) + losses.plcc_weight * plcc_loss(*labelled)


def distortion_loss_of(settings: Profile) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the distortion loss of a profile, a function of probabilities and labels."""
    public = settings.losses.distortion_loss == "public" and "scene" not in settings.grid().axes
    return scene_loss if public else distortion_loss


def task_losses(
    joint: Tensor,
    batch: Batch,
    axes: Sequence[str],
    ranking: Callable[[Tensor, Tensor, Tensor], Tensor] = quality_loss,
    distortion: Callable[[Tensor, Tensor], Tensor] = distortion_loss,
) -> dict[str, Tensor]:
    """Compute the loss of each task from the (B, Q, S, D) joint probability.

    Args:
        axes: the axes of the tasks.
        ranking: see `ranking_of`; default: as in the public code.
        distortion: see `distortion_loss_of`.
    """
    device = joint.device
    losses = {"quality": ranking(expected_quality(joint), batch.mos.to(device), batch.dataset.to(device))}
    if "scene" in axes:
        losses["scene"] = scene_loss(marginal(joint, "scene"), batch.scene.to(device))
    if "distortion" in axes:
        losses["distortion"] = distortion(marginal(joint, "distortion"), batch.distortion.to(device))
    return losses


def _suspects(joint: Tensor, batch: Batch) -> list[str]:
    """Return the images whose prediction or score is not finite, or all images if there are none."""
    wrong = ~joint.flatten(1).isfinite().all(dim=1).cpu() | batch.mos.isinf().cpu()  # NaN: no score
    return [name for name, bad in zip(batch.images, wrong, strict=True) if bad] or list(batch.images)
