import pytest
from support.data import own_set

from liqe_core.benchmarks.store import store_throughput
from liqe_core.data.labels import read_labels
from liqe_core.data.store import ImageSource, PackedStore


def test_store_throughput_compares_three_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    manifest = own_set(tmp_path, count=4)
    source = ImageSource(manifest.name, manifest.folder())
    store = PackedStore.build(source, read_labels(manifest), tmp_path / "store", progress=False)
    table = store_throughput(store, window=32, seconds=0.02, rounds=3)
    assert list(table["way"]) == ["store", "pillow", "memory"]
    assert (table["lowest"] <= table["images_per_second"]).all()
    assert (table["images_per_second"] <= table["highest"]).all()
    assert table["times_pillow"][1] == 1 and table["times_pillow"][0] > 1
    with pytest.raises(ValueError, match="no picture is as large as a window of 224"):
        store_throughput(store)
