import pytest

from liqe_core.data import plans
from liqe_core.data.manifests import TRAINING_SETS, available, load_manifest, sets_called
from liqe_core.data.plans import hosts_terms, in_words, plan, refuse_too_little_room
from liqe_core.intake.hub import FetchError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIQE_LABELS", raising=False)


def planned(tmp_path, *names, **options):
    return plan(map(load_manifest, names), tmp_path / "data", **options)


def test_names_of_groups():
    assert sets_called(["paper"]) == list(TRAINING_SETS)
    unseen = sets_called(["unseen"])
    assert {"tid2013", "spaq", "pipal", "flive", "agiqa3k", "agiqa1k", "aigciqa2023", "sjtu_h3d"} <= set(
        unseen
    )
    assert not set(unseen) & set(TRAINING_SETS)
    assert sets_called(["csiq", "paper"])[:2] == ["csiq", "live"] and len(sets_called(["csiq", "paper"])) == 6


def test_the_papers_sets_are_11_gb(tmp_path):
    steps = planned(tmp_path, *TRAINING_SETS)
    assert in_words(sum(step.transfer for step in steps)) == "11.3 GB"
    assert all(step.terms and not step.done for step in steps)
    assert len(hosts_terms(steps)) == 2


def test_every_hosted_set_is_pinned_or_says_that_it_is_not():
    loose = set()
    for name in available():
        for of in load_manifest(name).hosted:
            if not (of.get("revision") and of.get("sha256")):
                loose.add(name)
            assert of["bytes"] > 0
    assert loose == {"aigciqa2023"}


def test_room_is_counted_with_one_archive_at_a_time(tmp_path, monkeypatch):
    steps = planned(tmp_path, "csiq", "kadid10k")
    csiq, kadid = (load_manifest(name).hosted[0]["bytes"] for name in ("csiq", "kadid10k"))
    usage = plans.shutil.disk_usage(tmp_path)
    needed = csiq + 2 * kadid  # both unpacked, and the larger archive
    monkeypatch.setattr(plans.shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert f"at most {in_words(needed)} are needed" in refuse_too_little_room(steps, tmp_path / "data")
    monkeypatch.setattr(plans.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(
        FetchError, match=r"6\.5 GB are needed there, 6\.5 GB are free; make room, name another"
    ):
        refuse_too_little_room(steps, tmp_path / "data")


def test_other_ways_and_sets_that_no_program_can_get(tmp_path):
    assert planned(tmp_path, "kadid10k")[0].source == "chaofengc/IQA-PyTorch-Datasets"
    direct = planned(tmp_path, "kadid10k", how="direct")[0]
    assert direct.source.startswith("https://datasets.vqa.mmsp-kn.de/") and direct.transfer is None
    by_hand = planned(tmp_path, "agiqa1k", "sjtu_h3d")
    assert [step.source for step in by_hand] == ["", ""] and in_words(None) == "not known"
    assert "github.com/BIDS" in planned(tmp_path, "open-distorted")[0].source
