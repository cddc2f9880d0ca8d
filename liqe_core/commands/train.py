"""``liqe train`` trains a model, also under torchrun; ``liqe check`` evaluates a checkpoint.

The evaluation uses the test parts of a session and the unseen datasets.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from liqe_core import LIQE
from liqe_core.checkpoints import located
from liqe_core.commands.options import values
from liqe_core.data.labelled import LabelledImages
from liqe_core.data.manifests import TRAINING_SETS, load_manifest, sets_called
from liqe_core.evaluation.distributed import torch_device
from liqe_core.files import file_sha256, runs_dir
from liqe_core.studies import paper_check
from liqe_core.training import loop, prepare
from liqe_core.training.profiles import profile
from liqe_core.training.runs import run_folder


def run_train(options: argparse.Namespace) -> int:
    """Train a model."""
    settings = profile(options.profile, **values(options.set))
    if options.data:
        settings = prepare.on_data(settings, options.data, [name for name, _ in options.set])
    folder = Path(options.out) if options.out else run_folder(settings, runs_dir(settings.name))
    sets = prepare.sets_for(settings)
    leads = os.environ.get("RANK", "0") == "0"
    for dataset in sets if leads else ():
        for image, reason in dataset.left_out.items():
            print(f"{dataset.name}: left out: {image}: {reason}", file=sys.stderr)
    results = loop.fit(settings, sets, folder, restart=options.restart)
    if leads:
        print(f"{results.round(4).to_string(index=False)}\n\nRun folder: {folder}")
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Evaluate a checkpoint without training."""
    settings = profile(options.profile, **values(options.set))
    names = sets_called(options.names or [*settings.data.batch_sizes, "unseen"])
    for name in options.names and names:
        load_manifest(name)  # raises for an unknown name and lists the known ones
    root = Path(options.out) if options.out else runs_dir(settings.name)
    folder = paper_check.check_folder(root, options.checkpoint)
    plan = paper_check.plan(names, options.session)
    device = torch_device(options.device)
    present, missing = plan[plan["missing"] == ""], plan[plan["missing"] != ""]
    for row in present.itertuples():
        part = {paper_check.WITHIN: f"test part of session {options.session}"}.get(row.protocol, "all images")
        partial = f" of {row.expected}, without {row.absent}" if row.absent else ""
        print(f"{row.dataset}: {part}, {row.images} images{partial}")
    for row in missing.itertuples():
        print(f"{row.dataset}: skipped, {row.missing}")
    if present.empty:
        raise ValueError("none of these datasets is present; get them as listed above and run this again")
    counts = dict(zip(present["dataset"], present["images"], strict=True))
    print(
        f"to compute: {present['images'].sum()} images x {settings.testing.windows} crops, with "
        f"{options.checkpoint} on {device}; no training\n"
        f"{prepare.decoded(counts, settings)}\nresults: {folder}"
    )
    if options.missing == "skip":
        settings = settings.override(unfit="leave out")

    def get(name: str) -> LabelledImages:
        session = options.session if name in TRAINING_SETS else 0
        return prepare.labelled(name, settings, missing=options.missing, session=session)

    model = LIQE.from_checkpoint(options.checkpoint, device=device)
    conditions = {"checkpoint": options.checkpoint, "sha256": file_sha256(located(options.checkpoint))}
    conditions |= {"device": str(device), "session": options.session, "seed": settings.seed}
    conditions |= {"windows": settings.testing.unseen_windows, "settings": settings.testing_settings()}
    done = paper_check.check(model, names, get, folder, conditions)
    print(f"\n{folder / 'results.csv'}; notebook 10_paper_tables compares it with the published results")
    without = [name for name in present["dataset"] if name in done.reasons]
    if without:
        print(f"no result for {', '.join(without)}; see the errors above", file=sys.stderr)
    return int(len(without) == len(present))
