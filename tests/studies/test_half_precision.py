"""Which weights half precision lets move: against adding the step and rounding, number by number."""

import math

import numpy as np
import pytest
import torch
from support.training import settings

from liqe_core.studies.half_precision import KINDS, by_kind, by_size, half_spacing, stuck, stuck_shares, walk
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
    assert stuck(torch.tensor(ALL), step) == pytest.approx(expected.mean(), abs=0)


def test_half_the_spacing_above_a_sixty_fourth_is_more_than_the_papers_rate():
    assert half_spacing(torch.tensor(2**-6 * 1.01)).item() == 2**-17 == pytest.approx(7.6e-6, rel=0.01)
    assert half_spacing(torch.tensor([2.0**-6, 0.0, 1e6])).tolist() == [2**-18, 2**-25, math.inf]


@pytest.mark.parametrize(
    "spread, whole, third",
    [(512**-0.5, 0.72, 0.93), (768**-0.5, 0.67, 0.91), ((2 * 512) ** -0.5, 0.62, 0.90), (0.0207, 0.45, 0.85)],
)
def test_at_clips_initial_scale_most_weights_of_a_matrix_cannot_move(spread, whole, third):
    """The spreads of open_clip's random start; the shares by the normal distribution's tails: of weights
    above 2^-6 at the full rate, above 2^-8 at a third of it."""
    weights = torch.randn(400_000, generator=torch.Generator().manual_seed(1)) * spread
    assert stuck(weights, 5e-6) == pytest.approx(math.erfc(2**-6 / spread / 2**0.5), abs=0.003)
    assert stuck(weights, 5e-6 / 3) == pytest.approx(math.erfc(2**-8 / spread / 2**0.5), abs=0.003)
    assert stuck(weights, 5e-6) == pytest.approx(whole, abs=0.01)
    assert stuck(weights, 5e-6 / 3) == pytest.approx(third, abs=0.01)


def test_a_row_a_matrix_of_what_is_rounded():
    clip = build_model(settings()).clip
    table = stuck_shares(clip, 5e-6).set_index("name")
    assert list(table.index) == list(half_weights(clip))
    row = table.loc["transformer.resblocks.0.mlp.c_fc.weight"]
    weight = clip.transformer.resblocks[0].mlp.c_fc.weight
    assert row["stuck"] == stuck(weight, 5e-6) > 0.4 and row["weights"] == weight.numel()
    assert row["spread"] == pytest.approx(weight.std().item()) and row["tower"] == "text"
    assert table.loc["visual.conv1.weight", "tower"] == "image"
    kinds = {"visual.conv1.weight": "patches", "transformer.resblocks.0.mlp.c_fc.weight": "MLP, in"}
    kinds |= {"transformer.resblocks.0.mlp.c_fc.bias": "biases", "text_projection": "projections"}
    kinds |= {"transformer.resblocks.0.attn.in_proj_weight": "attention, in"}
    assert {name: table.loc[name, "kind"] for name in kinds} == kinds


def test_kinds_and_sizes_count_the_same_weights():
    clip = build_model(settings()).clip
    table, kinds = stuck_shares(clip, 5e-6), by_kind(clip, [5e-6, 5e-6 / 3])
    assert list(kinds.index) == list(KINDS) and kinds["weights"].sum() == table["weights"].sum()
    everywhere = (table["stuck"] * table["weights"]).sum()
    assert (kinds[5e-6] * kinds["weights"]).sum() == pytest.approx(everywhere)
    assert (kinds[5e-6 / 3] >= kinds[5e-6]).all()
    sizes, matrices = by_size(clip), kinds.drop(index="biases")
    assert sizes["share"].sum() == pytest.approx(1)
    # But for weights that are a power of two exactly, whose near neighbour is nearer.
    stuck_by_size = sizes.loc[sizes["half_spacing"] > 5e-6, "share"].sum()
    of_matrices = (matrices[5e-6] * matrices["weights"]).sum() / matrices["weights"].sum()
    assert stuck_by_size == pytest.approx(of_matrices, abs=2e-3)


def test_a_walk_in_half_precision_stands_still_or_goes_by_whole_spacings():
    moved = walk(torch.tensor([0.25, 0.004, -0.02]), 5e-6, 100)
    assert moved["float32"].to_numpy() == pytest.approx([1, 1, 1], abs=0.02)
    assert moved["half"].tolist()[::2] == [0, 0]
    spacings = moved["half"][1] * 5e-6 * 100 / 2**-18  # of numbers from 2^-8 on
    assert spacings == pytest.approx(round(spacings), abs=1e-4) and spacings > 0


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="step is 0"):
        stuck(torch.ones(3), 0)
    with pytest.raises(ValueError, match="no weights to count"):
        stuck(torch.ones(0), 1e-6)
