"""Audits of a dataset: consistency checks of its labels, splits and images.

Every audit returns one row per check: its name, the number of items checked, the number of faults, whether
the check passed (None: it cannot be checked with the files present), and a verdict in words.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from liqe_core.data.labels import correct_fastfading, read_labels
from liqe_core.data.manifests import AnyPath, Manifest
from liqe_core.data.presence import find_images
from liqe_core.data.splits import PARTS, SESSION_COLUMNS, near_duplicates

#: Columns of the table that `audit` returns.
COLUMNS = ["dataset", "audit", "checked", "found", "ok", "verdict"]
NO_SPLIT = "this dataset has no split"


Row = tuple[str, int, int, bool | None, str]


def audit(
    manifest: Manifest, root: AnyPath = None, mirror: AnyPath = None, progress: bool = True
) -> pd.DataFrame:
    """Run every audit of one dataset; audits of images need the images to be present.

    Raises:
        LabelError: the labels cannot be read.
    """
    table = read_labels(manifest, root, mirror)
    audits = [counts, sessions, references, folders]
    if manifest.score is not None:  # a dataset with only scene labels has no scores
        audits.append(scores)
    if manifest.name == "live":
        audits.append(fast_fading)
    rows = [row for look in audits for row in look(table, manifest)]
    if manifest.kind != "synthetic":  # distorted versions of one image are alike by design
        rows += duplicates(table, manifest, root, progress)
    return pd.DataFrame([(manifest.name, *row) for row in rows], columns=COLUMNS).astype({"ok": object})


def counts(table: pd.DataFrame, manifest: Manifest) -> list[Row]:
    """Compare the numbers of images, distortions and images per part with the manifest."""
    rows: list[Row] = []
    if manifest.images:
        missing = abs(len(table) - manifest.images)
        words = f"{len(table)} images, the manifest says {manifest.images}"
        rows.append(("images", len(table), missing, not missing, words))
    if expected := Counter(manifest.expect.distortions):
        counted = Counter(table["distortion"].dropna())
        differing = [name for name in counted | expected if counted[name] != expected[name]]
        wrong = [f"{name}: {counted[name]}, not {expected[name]}" for name in differing]
        words = "; ".join(wrong) or f"{len(counted)} distortions, with the counts of the manifest"
        rows.append(("distortions", len(expected), len(wrong), not wrong, words))
    if manifest.sessions:
        sizes = [tuple(int((table[session] == part).sum()) for part in PARTS) for session in SESSION_COLUMNS]
        pairs = zip(SESSION_COLUMNS, sizes, manifest.sessions, strict=False)
        wrong = [f"{session}: {size}, not {wanted}" for session, size, wanted in pairs if size != wanted]
        words = "; ".join(wrong) or "sizes of train, val and test match the manifest"
        rows.append(("session sizes", len(manifest.sessions), len(wrong), not wrong, words))
    return rows


def sessions(table: pd.DataFrame, manifest: Manifest) -> list[Row]:
    """Check that every image is in exactly one part of a session and that no two sessions are equal."""
    used = _used_sessions(table)
    if not used:
        return [("image in two parts", 0, 0, None, NO_SPLIT)]
    both = int((table.groupby("image")[used].nunique() > 1).to_numpy().sum())
    faults = {"images in two parts of a session": both}
    faults["times an image is in no part"] = int(table[used].isna().to_numpy().sum())
    faults["sessions repeat another"] = int(table[used].T.duplicated().sum())
    words = [] if both else [f"no image is in two parts ({len(used)} sessions)"]
    words += [f"{count} {fault}" for fault, count in faults.items() if count]
    return [("image in two parts", len(table) * len(used), both, not both, "; ".join(words))]


def references(table: pd.DataFrame, manifest: Manifest) -> list[Row]:
    """Check that all distorted versions of a reference image are in the same part of a split.

    LIVE's file names do not contain the reference; a list in its archive (refnames_all.mat) does. With the
    label files alone, the audit counts the groups of images that the splits keep together and compares that
    number with the number of references.
    """
    name, used = "reference in two parts", _used_sessions(table)
    if manifest.kind != "synthetic":
        return [(name, 0, 0, None, "no reference images: nothing to check")]
    if not used:
        return [(name, 0, 0, None, NO_SPLIT)]
    if table["reference"].isna().all():
        groups = split_keys(table).nunique()
        words = f"names do not contain the reference, and {manifest.reference_map or 'a list'} is missing; "
        words += f"the ten splits keep the {len(table)} images together in {groups} groups"
        words += ", the number of references" * (groups == manifest.references)
        return [(name, groups, 0, None, words)]
    both = (table.groupby("reference")[used].nunique() > 1).sum()
    total, number = int(both.sum()), table["reference"].nunique()
    wrong = [f"{session}: {count} references in two parts" for session, count in both[both > 0].items()]
    words = f"no reference of {number} is in two parts in any of {len(used)} sessions"
    return [(name, number * len(used), total, not total, "; ".join(wrong) or words)]


def scores(table: pd.DataFrame, manifest: Manifest) -> list[Row]:
    """Check that every score is within the published range and that the range is plausible."""
    assert manifest.score is not None
    low, high, mos = manifest.score.low, manifest.score.high, table["mos"]
    out = int(((mos < low) | (mos > high)).sum())
    words = f"{mos.min():.4g} to {mos.max():.4g}, of {low:g} to {high:g}"
    if out:
        words = f"{out} scores outside {low:g} to {high:g} ({words})"
    elif mos.max() - mos.min() < (high - low) / 2:
        words += "; less than half of the scale is used, check the range in the manifest"
    return [("score out of range", len(mos), out, out == 0, words)]


def folders(table: pd.DataFrame, manifest: Manifest) -> list[Row]:
    """Check that the distortion in the label agrees with the folder or file name."""
    if not manifest.distortion_pattern:
        return []
    code = table["image"].str.extract(manifest.distortion_pattern)[0]
    pairs = table.groupby([code, "distortion"]).size()
    by_code, by_label = pairs.groupby(level=0).size(), pairs.groupby(level=1).size()
    wrong = [f"{name} has {count} different labels" for name, count in by_code.items() if count > 1]
    for label in by_label.index[by_label > 1]:
        several = [f"{name} ({count})" for name, count in pairs.xs(label, level=1).items()]
        wrong.append(f"{' and '.join(several)} are both labelled {label}")
    words = "; ".join(wrong) or f"{code.nunique()} distortions by name, each with its own label"
    return [("label against name", len(table), len(wrong), not wrong, words)]


def fast_fading(table: pd.DataFrame, manifest: Manifest) -> list[Row]:
    """Check LIVE's fast-fading labels, from the label files alone.

    Their distortions and scenes are wrong: both were copied from the white-noise image of the same number,
    which shows another photograph. The splits show which images share a photograph: such images are always
    in the same part.
    """
    is_fading = table["image"].str.startswith("fastfading/")
    place = table["image"].str.extract(r"^(?P<folder>[^/]+)/img(?P<number>\d+)\.")
    scenes = place.assign(scenes=table["scenes"]).pivot(index="number", columns="folder", values="scenes")
    both = scenes[["fastfading", "wn"]].dropna()
    copied = int((both["fastfading"] == both["wn"]).sum())
    fading = table[is_fading]
    wrong = int((fading["distortion"] != "fastfading").sum())
    right = int((fading["scenes"] == correct_fastfading(table)["scenes"][is_fading]).sum())
    names = ", ".join(f"{count} {name}" for name, count in fading["distortion"].value_counts().items())
    noise = f"{copied} of {len(both)} have the scenes of the white-noise image of the same number"
    same = f"{right} of {len(fading)} have the scenes of the other images of their reference"
    return [
        ("fast fading: distortion", len(fading), wrong, wrong == 0, f"labelled {names}"),
        ("fast fading: labels copied", len(both), copied, copied < len(fading) / 2, noise),
        ("fast fading: scenes", len(fading), len(fading) - right, right == len(fading), same),
    ]


def duplicates(
    table: pd.DataFrame, manifest: Manifest, root: AnyPath = None, progress: bool = True
) -> list[Row]:
    """Count near-duplicates across the parts of session 1; `near_duplicates` lists the pairs."""
    name, folder = "near-duplicates across the split", manifest.folder(root)
    if table["session_1"].isna().all():
        return [(name, 0, 0, None, NO_SPLIT)]
    found = find_images(table["image"], folder, manifest.image_folders)
    present = (found["match"] != "missing").to_numpy()
    if not present.any():
        return [(name, 0, 0, None, "the images are missing")]
    table = table.assign(file=found["file"].to_numpy())[present]
    pairs = near_duplicates(table, folder, progress=progress)
    tests = int((table["session_1"] == "test").sum())
    images = pairs.loc[pairs["part"] == "test", "image"].nunique()
    words = f"{images} of {tests} test images are also in another part ({len(pairs)} pairs)"
    if len(pairs):
        apart = np.abs(pairs["mos"] - pairs["other_mos"]).mean()
        words += f", with a mean score difference of {apart:.3f}; splits.without_near_duplicates removes them"
    if not present.all():
        words += f"; {present.sum()} of {len(present)} images are present"
    return [(name, tests, images, images == 0, words)]


def split_keys(table: pd.DataFrame) -> pd.Series:
    """Return a key per image, equal for images that are in the same part of every session."""
    return table[list(SESSION_COLUMNS)].fillna("").agg("|".join, axis=1)


def _used_sessions(table: pd.DataFrame) -> list[str]:
    return [session for session in SESSION_COLUMNS if table[session].notna().any()]
