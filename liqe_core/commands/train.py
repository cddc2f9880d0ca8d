"""``liqe train``: one run of training, also under torchrun."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from liqe_core.commands.options import add_pairs, add_profile, values


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the command; it sets ``run``, a function of the options that returns the exit code."""
    train = commands.add_parser("train", help="train a model as a profile says; also under torchrun")
    add_profile(train)
    text = "train on these in place of the profile's data sets: manifests of yours (my.yaml), or names"
    train.add_argument("--data", nargs="+", metavar="NAME", help=text)
    train.add_argument("--restart", action="store_true", help="replace a run that is in the folder")
    text = "another value for a setting of the profile, as JSON or text"
    add_pairs(train, "-s", "--set", name="SETTING", text=text)
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from liqe_core.files import runs_dir
    from liqe_core.training.loop import fit
    from liqe_core.training.prepare import on_data, sets_for
    from liqe_core.training.profiles import profile
    from liqe_core.training.runs import run_folder

    settings = profile(options.profile, **values(options.set))
    if options.data:
        settings = on_data(settings, options.data, [name for name, _ in options.set])
    folder = Path(options.out) if options.out else run_folder(settings, runs_dir(settings.name))
    sets = sets_for(settings)
    leads = os.environ.get("RANK", "0") == "0"
    for of in sets if leads else ():
        for image, why in of.left_out.items():
            print(f"{of.name}: left out: {image}: {why}", file=sys.stderr)
    results = fit(settings, sets, folder, restart=options.restart)
    if leads:
        print(f"{results.round(4).to_string(index=False)}\n\nThe run: {folder}")
    return 0
