"""Embeddings of windows in place of pictures, read from the disk."""

import numpy as np
import pytest
import torch

from liqe_core.data.windows import KeptWindows

COUNTS = np.array([3, 1, 2, 3, 2])


@pytest.fixture
def values(tmp_path):
    """(5, 2, 3, 4) float16, every vector another one, over two files."""
    values = np.arange(5 * 2 * 3 * 4, dtype=np.float16).reshape(5, 2, 3, 4)
    np.save(tmp_path / "0.npy", values[:3])
    np.save(tmp_path / "1.npy", values[3:])
    return values


@pytest.fixture
def kept(values, tmp_path):
    return KeptWindows([tmp_path / "0.npy", tmp_path / "1.npy"], COUNTS)


def test_a_picture_has_its_own_windows_and_no_more(kept, values):
    assert len(kept) == 5
    for i, count in enumerate(COUNTS):
        assert np.array_equal(kept[i], values[i, :, :count])
        tested = kept.for_testing(i)
        assert tested.dtype == torch.float32 and tested.tolist() == values[i, 0, :count].tolist()


def test_training_draws_windows_with_replacement_all_of_one_mirroring(kept, values):
    rng, drawn = np.random.default_rng(0), []
    for _ in range(200):
        windows = kept.for_training(2, 3, rng)
        assert windows.shape == (3, 4) and windows.dtype == torch.float32
        # The first value says which: of picture 2 they are 48, 52, (56 is not its own), and mirrored 60, 64.
        drawn.append(tuple(windows[:, 0].int().tolist()))
        assert [values.flat[first : first + 4].tolist() for first in drawn[-1]] == windows.tolist()
    plain = {first for windows in drawn if max(windows) < 60 for first in windows}
    mirrored = {first for windows in drawn if min(windows) >= 60 for first in windows}
    assert plain == {48, 52} and mirrored == {60, 64}
    assert all(max(windows) < 60 or min(windows) >= 60 for windows in drawn)
    assert any(len(set(windows)) == 1 for windows in drawn) and any(
        len(set(windows)) == 2 for windows in drawn
    )
    again = kept.for_training(2, 3, np.random.default_rng(0))
    assert tuple(again[:, 0].int().tolist()) == drawn[0], "what is drawn is the generator's alone"


def test_what_is_drawn_does_not_write_to_the_file(kept, values, tmp_path):
    kept.for_training(0, 3, np.random.default_rng(0)).zero_()
    kept.for_testing(0).zero_()
    assert np.array_equal(np.load(tmp_path / "0.npy"), values[:3])


def test_files_that_hold_other_pictures_are_refused(tmp_path, kept):
    with pytest.raises(ValueError, match="5 counts for 3 kept pictures"):
        KeptWindows([tmp_path / "0.npy"], COUNTS)
