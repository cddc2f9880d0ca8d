"""Which weights half precision lets move: against adding the step and rounding, number by number."""

import math

import numpy as np
import pytest
import torch
from support.training import settings

from liqe_core.studies import half_precision
from liqe_core.studies.half_precision import by_kind, counts, counts_by_kind, half_spacing, stuck
from liqe_core.training.precision import half_weights
from liqe_core.training.step import build_model

#: Every finite number of half precision.
ALL = np.arange(2**16, dtype=np.uint16).view(np.float16)
ALL = ALL[np.isfinite(ALL)].astype(np.float64)


def moved_by(step: float) -> np.ndarray:
    """Whether adding or taking away a step and rounding gives another number."""
    with np.errstate(over="ignore"):
        up, down = (ALL + step).astype(np.float16), (ALL - step).astype(np.float16)
    return (up.astype(np.float64) != ALL) | (down.astype(np.float64) != ALL)


@pytest.mark.parametrize("step", [5e-6, 5e-6 / 3, 1e-3, 7.7e-8, 2e-8, 0.3])
def test_a_weight_is_stuck_exactly_when_no_direction_moves_it(step):
    expected = ~moved_by(step)
    assert np.array_equal(half_spacing(torch.tensor(ALL)).numpy() > step, expected)
    assert stuck(counts(torch.tensor(ALL)), step) == pytest.approx(expected.mean(), abs=0)


def test_half_the_spacing_above_a_sixty_fourth_is_more_than_the_papers_rate():
    assert half_spacing(torch.tensor(2**-6 * 1.01)).item() == 2**-17 == pytest.approx(7.6e-6, rel=0.01)
    assert half_spacing(torch.tensor([2.0**-6, 0.0, 1e6])).tolist() == [2**-18, 2**-25, math.inf]


@pytest.mark.parametrize("spread", [512**-0.5, 768**-0.5, (2 * 512) ** -0.5, 0.0207])
def test_at_clips_initial_scale_most_weights_of_a_matrix_cannot_move(spread):
    """The spreads are those of open_clip's initialization.

    The expected shares are tails of the normal distribution: weights above 2^-6 at the full learning rate,
    above 2^-8 at a third of it.
    """
    weights = torch.randn(400_000, generator=torch.Generator().manual_seed(1)) * spread
    assert stuck(counts(weights), 5e-6) == pytest.approx(math.erfc(2**-6 / spread / 2**0.5), abs=0.003)
    assert stuck(counts(weights), 5e-6 / 3) == pytest.approx(math.erfc(2**-8 / spread / 2**0.5), abs=0.003)


def test_kinds_depend_on_names_and_cover_every_rounded_weight():
    clip = build_model(settings()).clip
    kinds = by_kind(counts_by_kind(clip), [5e-6, 5e-6 / 3])
    rounded = half_weights(clip)
    assert list(kinds.index) == list(half_precision.KINDS)
    assert kinds["weights"].sum() == sum(value.numel() for value in rounded.values())
    blocks = [*clip.transformer.resblocks, *clip.visual.transformer.resblocks]
    of_mlp = torch.cat([block.mlp.c_fc.weight.flatten() for block in blocks])
    assert kinds.loc["MLP, in", "weights"] == of_mlp.numel()
    assert kinds.loc["MLP, in", 5e-6] == pytest.approx(stuck(counts(of_mlp), 5e-6))
    assert kinds.loc["MLP, in", 5e-6] > 0.4
    assert kinds.loc["patches", "weights"] == clip.visual.conv1.weight.numel()
    everywhere = torch.cat([value.flatten() for value in rounded.values()])
    share = (kinds[5e-6] * kinds["weights"]).sum() / kinds["weights"].sum()
    assert share == pytest.approx(stuck(counts(everywhere), 5e-6))
    assert (kinds[5e-6 / 3] >= kinds[5e-6]).all()


def test_sizes_are_counted_between_powers_of_two():
    weights = torch.tensor([2**-6, -(2**-5.5), 2**-5, 3.0, 0.0, 1e-7, 2**-14])
    kinds = {"patches": counts(weights), "biases": counts(torch.ones(9))}
    sizes = half_precision.by_size(kinds).set_index("exponent")
    assert (7 * sizes["share"]).round(6).to_dict() == {-14: 3, -6: 2, -5: 1, 1: 1}
    assert sizes.loc[-6, "half_spacing"] == 2**-17


def test_a_walk_in_half_precision_stops_or_moves_by_whole_spacings():
    moved = half_precision.walk(torch.tensor([0.25, 0.004, -0.02]), 5e-6, 100)
    assert moved["float32"].to_numpy() == pytest.approx([1, 1, 1], abs=0.02)
    assert moved["half"].tolist()[::2] == [0, 0]
    spacings = moved["half"][1] * 5e-6 * 100 / 2**-18  # of numbers from 2^-8 on
    assert spacings == pytest.approx(round(spacings), abs=1e-4) and spacings > 0


def test_invalid_input_is_rejected():
    with pytest.raises(ValueError, match="step is 0"):
        stuck(counts(torch.ones(3)), 0)
