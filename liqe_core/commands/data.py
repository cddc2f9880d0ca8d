"""``liqe data``: list, download, check and pack datasets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from liqe_core.data.audits import audit
from liqe_core.data.fetch import (
    check_room,
    fetch_dataset,
    is_hub_archive,
    plan_fetch,
    readable_size,
    unpack_dataset,
    without_hub,
)
from liqe_core.data.labelled import present_rows
from liqe_core.data.labels import read_labels, summary
from liqe_core.data.manifests import TRAINING_SETS, Manifest, available, load_manifest, sets_called
from liqe_core.data.store import ImageSource, PackedStore
from liqe_core.data.verification import report_path, status, verify
from liqe_core.files import write_csv


def run_list(options: argparse.Namespace) -> int:
    """Print all datasets that have a manifest."""
    rows = []
    for m in map(load_manifest, available()):
        scale = f"{m.score.low:g} to {m.score.high:g}" if m.score else ""
        rows.append((m.name, m.role, m.images or "", scale, m.terms.access, m.title))
    _print(["name", "role", "images", "scores", "access", "title"], rows)
    return 0


def run_status(options: argparse.Namespace) -> int:
    """Print the state of datasets and the next step for each."""
    found = [status(manifest, options.root, options.mirror) for manifest in _manifests(options)]
    rows = [
        (s.name, s.state, f"{s.found} of {s.expected or '?'}", s.checked, s.corrupt, s.next) for s in found
    ]
    _print(["name", "state", "images", "verified", "corrupt", "next"], rows)
    return 1 if any(s.state == "corrupt" for s in found) else 0


def run_fetch(options: argparse.Namespace) -> int:
    """Download datasets, after showing sizes and terms."""
    manifests = [load_manifest(name) for name in sets_called(options.names)]
    if options.direct:
        manifests = list(map(without_hub, manifests))
    plans = [plan_fetch(manifest, options.root, options.mirror) for manifest in manifests]
    by_hand = [plan for plan in plans if not plan.source and not plan.done]
    todo = [plan for plan in plans if plan.source and not plan.done]
    for plan in plans:
        if plan.done:
            print(f"{plan.manifest.name}: already complete in {plan.manifest.folder(options.root)}")
    for plan in by_hand:
        advice = status(plan.manifest, options.root, options.mirror).next
        print(f"{plan.manifest.name}: must be downloaded by hand: {advice}")
    if todo:
        sizes = [map(readable_size, (plan.transfer, plan.unpacked, plan.decoded)) for plan in todo]
        rows = [(plan.manifest.name, *size, plan.source) for plan, size in zip(todo, sizes, strict=True)]
        _print(["name", "to transfer", "unpacked", "decoded later", "from"], rows)
        notes = [f"{plan.manifest.name}: {plan.manifest.note}" for plan in todo if plan.manifest.note]
        print("".join(f"{note}\n" for note in notes), end="")
        print(f"total: {readable_size(sum(p.transfer or 0 for p in todo))} to transfer (known sizes only)")
        print("\n".join(["terms:", *(f"  {plan.manifest.name}: {plan.terms}" for plan in todo)]))
        hosts = {file.repository: file.terms for plan in todo for file in plan.manifest.hosted}
        print("".join(f"  {host}: {terms}\n" for host, terms in hosts.items() if terms), end="")
        print(check_room(todo, options.root))
        if not (options.yes or options.source or _agreed("Accept these terms and download? [y/N] ")):
            return 1

    def fetch(manifest: Manifest) -> None:
        fetch_dataset(
            manifest, options.root, options.source, options.mirror, options.missing, not options.quiet
        )
        _print_status(manifest, options)

    _, failed = _for_each([plan.manifest for plan in todo], fetch)
    # A dataset that must be downloaded by hand is an error if it was named, but not as part of a group.
    return max(failed, int(any(plan.manifest.name in options.names for plan in by_hand)))


def _agreed(question: str) -> bool:
    """Ask for confirmation; without a terminal, print how to confirm in a script."""
    if not sys.stdin.isatty():
        print("error: cannot ask for confirmation without a terminal; pass --yes", file=sys.stderr)
        return False
    return input(question).strip().lower() in ("y", "yes")


def run_unpack(options: argparse.Namespace) -> int:
    """Unpack a local archive."""
    manifest, progress = load_manifest(options.name), not options.quiet
    if is_hub_archive(manifest, options.archive):
        fetch_dataset(manifest, options.root, options.archive, options.mirror, options.missing, progress)
    else:
        unpack_dataset(manifest, options.archive, options.root, options.password, progress)
    _print_status(manifest, options)
    return 0


def _print_status(manifest: Manifest, options: argparse.Namespace) -> None:
    """Print the state of a dataset and the next step."""
    now = status(manifest, options.root, options.mirror)
    print(f"{manifest.name}: {now.state}, {now.found} of {now.expected} images in {now.folder}")
    print(f"next: {now.next}")


def run_verify(options: argparse.Namespace) -> int:
    """Open every image and write a report."""

    def check(manifest: Manifest) -> int | None:
        if not manifest.labels or (not options.names and manifest.locate(options.root) is None):
            return None  # all datasets were requested, and this one is absent
        read = {"workers": options.workers, "progress": not options.quiet, "window": options.window}
        report = verify(manifest, options.root, options.mirror, **read)
        if manifest.form == "distorted":  # images that are not made yet are not faults
            if unmade := int((report["problem"] == "missing").sum()):
                print(f"{manifest.name}: {unmade} images are not made yet; they are made at first use")
            report = report[report["problem"] != "missing"]
        problems = report["problem"].value_counts(sort=False)
        counts = ", ".join(f"{count} {problem}" for problem, count in problems.items())
        print(f"{manifest.name}: {counts or 'every image is present and intact'}")
        if len(report):
            print(f"  report: {report_path(manifest, options.root)}")
        return int(report["problem"].isin(["missing", "cut short", "unreadable"]).any())

    faulty, failed = _for_each(_manifests(options), check)
    if not faulty and not failed:
        print("no dataset is present; see `liqe data status`")
    return max(failed, *faulty, 0)


def run_audit(options: argparse.Namespace) -> int:
    """Check labels, splits and scores."""

    def check(manifest: Manifest) -> pd.DataFrame | None:
        form = manifest.form
        if form is None or (not options.names and form != "liqe" and manifest.locate(options.root) is None):
            return None
        return audit(manifest, options.root, options.mirror, progress=not options.quiet)

    tables, failed = _for_each(_manifests(options), check)
    if tables:
        table = pd.concat(tables, ignore_index=True)
        words = table.assign(ok=table["ok"].map({True: "yes", False: "NO"}).fillna("?"))
        shown = ["dataset", "audit", "ok", "verdict"]
        _print(shown, words[shown].itertuples(index=False))
        if options.csv:
            write_csv(options.csv, table)
    return failed


def run_pack(options: argparse.Namespace) -> int:
    """Decode images into a store for training."""

    def pack(manifest: Manifest) -> None:
        progress = not options.quiet
        table = read_labels(manifest, options.root, options.mirror)
        table = present_rows(manifest, table, options.root, options.missing, progress)
        source = ImageSource(manifest.name, manifest.folder(options.root))
        store = PackedStore.build(source, table, options.out, options.workers, progress)
        print(f"{manifest.name}: {len(store)} images in {store.folder}")

    if options.out and len(options.names) > 1:
        raise ValueError("--out works with one dataset only; omit it to pack several")
    return _for_each(_manifests(options), pack)[1]


def run_labels(options: argparse.Namespace) -> int:
    """Read labels and print a summary."""
    options.names = options.names or list(TRAINING_SETS)

    def read(manifest: Manifest) -> pd.DataFrame:
        return read_labels(manifest, options.root, options.mirror, options.fastfading)

    tables, failed = _for_each(_manifests(options), read)
    if tables:
        table = pd.concat(tables, ignore_index=True)
        found = summary(table).round({"lowest": 2, "highest": 2})
        _print(list(found.columns), found.itertuples(index=False))
        if options.csv:
            write_csv(options.csv, table.assign(scenes=table["scenes"].map("|".join)))
    return failed


def _manifests(options: argparse.Namespace) -> list[Manifest]:
    return [load_manifest(name) for name in options.names or available()]


def _for_each(manifests: Iterable[Manifest], run: Callable[[Manifest], Any]) -> tuple[list, int]:
    """Call `run` for every dataset; an error in one is printed and does not stop the others.

    Returns:
        The results that are not None, and the exit code.
    """
    results, code = [], 0
    for manifest in manifests:
        try:
            results.append(run(manifest))
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            code = 1
    return [result for result in results if result is not None], code


def _print(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table with left-aligned columns."""
    lines = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
