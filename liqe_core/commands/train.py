"""``liqe train``: one run of training, also under torchrun. ``liqe check``: weights as they are, on the test
parts of a session and on unseen datasets; trains nothing."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from liqe_core.commands.options import add_pairs, add_profile, values


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add both commands; each sets ``run``, a function of the options that returns the exit code."""
    train = commands.add_parser("train", help="train a model as a profile says; also under torchrun")
    add_profile(train)
    text = "train on these in place of the profile's data sets: manifests of yours (my.yaml), or names"
    train.add_argument("--data", nargs="+", metavar="NAME", help=text)
    train.add_argument("--restart", action="store_true", help="replace a run that is in the folder")
    text = "another value for a setting of the profile, as JSON or text"
    add_pairs(train, "-s", "--set", name="SETTING", text=text)
    train.set_defaults(run=_train)
    check = commands.add_parser("check", help="weights as they are, on the paper's sets; trains nothing")
    add_profile(check, default="paper")
    check.add_argument("names", nargs="*", help="data sets; default: the profile's, and the unseen ones")
    check.add_argument("--checkpoint", default="official", help="a file of weights, or a name (official)")
    check.add_argument("--session", type=int, choices=range(1, 11), default=1, metavar="K", help="default: 1")
    check.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    add_pairs(check, "-s", "--set", name="SETTING", text="another value for a setting of the profile")
    check.set_defaults(run=_check)


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
    for dataset in sets if leads else ():
        for image, reason in dataset.left_out.items():
            print(f"{dataset.name}: left out: {image}: {reason}", file=sys.stderr)
    results = fit(settings, sets, folder, restart=options.restart)
    if leads:
        print(f"{results.round(4).to_string(index=False)}\n\nThe run: {folder}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from liqe_core import LIQE
    from liqe_core.checkpoints import located
    from liqe_core.data.manifests import load_manifest, sets_called
    from liqe_core.evaluation.distributed import torch_device
    from liqe_core.files import file_sha256, runs_dir
    from liqe_core.studies import paper_check
    from liqe_core.training.prepare import decoded, labelled
    from liqe_core.training.profiles import profile

    settings = profile(options.profile, **values(options.set))
    names = sets_called(options.names or [*settings.data.batch_sizes, "unseen"])
    for name in options.names and names:
        load_manifest(name)  # a name that is none is told here, with those that there are
    root = Path(options.out) if options.out else runs_dir(settings.name)
    folder = paper_check.check_folder(root, options.checkpoint)
    plan = paper_check.plan(names, options.session)
    device = torch_device(options.device)
    present, missing = plan[plan["missing"] == ""], plan[plan["missing"] != ""]
    for row in present.itertuples():
        part = {paper_check.WITHIN: f"test part of session {options.session}"}.get(row.protocol, "all of it")
        print(f"{row.dataset}: {part}, {row.pictures} pictures")
    for row in missing.itertuples():
        print(f"{row.dataset}: left out, {row.missing}")
    if present.empty:
        raise ValueError("none of these data sets is here; get them as said above, and run this again")
    print(
        f"to compute: {present['pictures'].sum()} pictures x {settings.testing.windows} crops, with "
        f"{options.checkpoint} on {device}; nothing is trained\n"
        f"{decoded(present['dataset'], settings)}\nresults: {folder}"
    )
    model = LIQE.from_checkpoint(options.checkpoint, device=device)
    conditions = {"checkpoint": options.checkpoint, "sha256": file_sha256(located(options.checkpoint))}
    conditions |= {"device": str(device), "session": options.session, "seed": settings.seed}
    conditions |= {"windows": settings.testing.unseen_windows}
    done = paper_check.check(model, names, lambda name: labelled(name, settings), folder, conditions)
    print(f"\n{folder / 'results.csv'}; the notebook 10_paper_tables sets it beside the published numbers")
    return int(any(name in done.reasons for name in present["dataset"]))
