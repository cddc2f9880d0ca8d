"""Reading images, and batches cut ahead of the step."""

import pytest
from support.data import own_set
from support.training import small_set

from liqe_core.benchmarks.reading import loader_throughput, store_throughput
from liqe_core.crops import CropGeometry
from liqe_core.data.labels import read_labels
from liqe_core.data.store import ImageSource, PackedStore
from liqe_core.prompts import PromptGrid
from liqe_core.training.batches import TrainingBatches


def test_store_throughput_compares_three_ways(tmp_path):
    manifest = own_set(tmp_path, count=4)
    source = ImageSource(manifest.name, manifest.folder())
    store = PackedStore.build(source, read_labels(manifest), tmp_path / "store", progress=False)
    table = store_throughput(store, window=32, seconds=0.05)
    assert list(table["way"]) == ["store", "pillow", "memory"]
    assert (table["lowest"] <= table["images_per_second"]).all()
    assert (table["images_per_second"] <= table["highest"]).all()
    assert table["times_pillow"][1] == 1 and table["times_pillow"][0] > 1
    with pytest.raises(ValueError, match="window"):
        store_throughput(store)


def test_loader_throughput_counts_batches(tmp_path):
    pictures = small_set(tmp_path)
    batches = TrainingBatches([pictures], {"mini": 6}, 1, PromptGrid(), CropGeometry(window=32), 2)
    row = loader_throughput(batches, 0.5, count=3).iloc[0]
    assert row["consumed_per_second"] == 2
    assert row["times_enough"] == pytest.approx(row["batches_per_second"] / 2)
