"""``python -m liqe_core sweep``: the grid of an ablation, on this machine's cores or on a cluster."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command; it sets ``run``, a function of the options that returns the exit code."""
    sweep = subparsers.add_parser(
        "sweep", help="sessions x variants x seeds, in parallel; what is finished is not run again"
    )
    sweep.add_argument("--profile", default="mini", help="smoke, mini, open or paper")
    sweep.add_argument("--sessions", type=int, nargs="+", default=[1], help="default: 1")
    sweep.add_argument("--variants", nargs="+", help="default: the four of the paper's ablation")
    sweep.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    sweep.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("SETTING", "VALUE"),
        help="another setting of the profile, for all cells; the value as JSON or text",
    )
    sweep.add_argument("--scheduler", help="address of a Dask scheduler (tcp://host:8786); default: local")
    sweep.add_argument("--workers", type=int, help="local workers, of one thread each; default: one a core")
    sweep.add_argument("--dashboard", default=":8787", help="where a local cluster serves its dashboard")
    sweep.add_argument("--out", help="default: runs/PROFILE")
    sweep.set_defaults(run=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from liqe_core import sweep
    from liqe_core.files import runs_dir
    from liqe_core.profiles import profile
    from liqe_core.prompts import VARIANTS

    out = Path(options.out) if options.out else runs_dir(options.profile)
    changes = {name: json_or_text(text) for name, text in options.set}
    grid = sweep.cells(
        options.profile, options.sessions, options.variants or VARIANTS, options.seeds, changes
    )
    with _client(options) as client:
        print(f"dashboard: {client.dashboard_link}")
        summary = sweep.sweep(grid, out, client)
    failed = summary[summary["state"] == "failed"]
    for row in failed.itertuples():
        print(f"\n{row.cell} failed: {row.error}\n{row.traceback}\nIts notebook: {row.notebook}")
    print(f"\n{_ablation(out, profile(options.profile, **changes))}")
    print(f"\n{len(summary) - len(failed)} of {len(summary)} cells are done: {out / 'sweep' / 'summary.csv'}")
    if len(failed):
        print("Start the same command again to run what failed.", file=sys.stderr)
    return 1 if len(failed) else 0


@contextlib.contextmanager
def _client(options: argparse.Namespace) -> Iterator:
    """The cluster to run on: the named one, or one made for this sweep."""
    from distributed import Client

    from liqe_core.sweep import local_workers

    if not options.scheduler:
        with local_workers(options.workers, options.dashboard) as client:
            yield client
        return
    try:
        client = Client(options.scheduler, timeout=20)
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler at {options.scheduler} ({error}); start one with `dask scheduler`, or leave "
            "--scheduler out to run on this machine"
        ) from None
    with client:
        yield client


def _ablation(out: Path, settings) -> str:
    """The table over whatever is finished, as text."""
    from liqe_core.ablations import STUDIES, alike, compare, read_runs, scores

    study = STUDIES["variant"]
    runs, _ = alike(read_runs(out).runs, settings, study)
    table = compare(scores(runs, study), study).rename(columns={"level": "SRCC on the test parts"})
    with pd.option_context("display.width", 160, "display.max_colwidth", 60):
        return table.round(3).fillna("").to_string(index=False)


def json_or_text(text: str) -> object:
    """The value of a setting as typed: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
