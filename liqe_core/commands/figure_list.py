"""Every figure and table of the notebooks by name: what it shows, what it is read from, how it is drawn.

What is drawn here is drawn by the functions that the notebooks call.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable

from matplotlib.figure import Figure

from liqe_core.commands import figure_read as read
from liqe_core.commands.figure_read import Read
from liqe_core.commands.figure_source import Source
from liqe_core.figures import (
    ablations,
    answers,
    benchmarks,
    concepts,
    data_sets,
    gmad,
    half_precision,
    paper_tables,
    pictures,
    realign,
    training,
)
from liqe_core.figures import open_benchmark as open_figures
from liqe_core.studies import open_benchmark as study
from liqe_core.studies import open_tables, shown
from liqe_core.studies.ablations import STUDIES
from liqe_core.studies.paper_tables import disagreements
from liqe_core.studies.published import load_published


@dataclasses.dataclass(frozen=True)
class Shown:
    """A figure or a table.

    Attributes:
        name: on the command line. about: one sentence. notebook: the number of the one that shows it.
        needs: ``run``, one or several runs of one recipe; ``runs``, several that differ in a setting;
            ``notebook``, tables that the notebook left; ``kept``, tables in the repository; or ``nothing``.
        read: from a source. draw: from what was read; None: a table.
        files: of the notebook, without suffix; of the kept tables, their names.
    """

    name: str
    about: str
    notebook: str
    needs: str
    read: Callable[[Source], Read]
    draw: Callable[..., Figure] | None = None
    files: tuple[str, ...] = ()

    @property
    def tabular(self) -> bool:
        """Whether its data is a table to print: of a table itself, and of a figure of one."""
        return self.draw in (None, paper_tables.shaded_table, ablations.ablation)

    def possible(self, source: Source) -> bool:
        """Whether a source has what it needs, without looking at pictures."""
        try:
            if self.needs == "runs":
                self.read(source)
            elif self.needs == "run":
                return bool(source.runs)
            elif self.needs == "notebook":
                return all(source.path(f"{name}.csv") for name in self.files)
            elif self.needs == "kept":
                return all((study.KEPT / f"{name}.csv").is_file() for name in self.files)
        except ValueError:
            return False
        return True

    def wants(self) -> str:
        """What it needs, for a list."""
        words = {
            "run": "a run, or runs of one recipe",
            "runs": "runs that differ in one setting",
            "notebook": f"what notebook {self.notebook} left",
            "kept": "nothing: from kept tables",
        }
        return words.get(self.needs, "nothing")


def find(name: str) -> Shown:
    """A figure by its name.

    Raises:
        ValueError: there is none; names the nearest.
    """
    if name in SHOWN:
        return SHOWN[name]
    near = difflib.get_close_matches(name, SHOWN, 3, 0.4) or [n for n in SHOWN if name in n]
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise ValueError(f"no figure or table {name!r}; {hint}`liqe figure --list` names them all")


def _tables(*of: tuple[str, str, str]) -> list[Shown]:
    """Tables that a notebook left: name, what each is, its file."""
    return [
        Shown(name, about, _NUMBERS[file.split("/")[0]], "notebook", read.left(file), None, (file,))
        for name, about, file in of
    ]


_00A = "concepts/"
_00, _01, _02, _03 = "quickstart/", "data_preparation/", "multitask_training/", "ablations/"
_04, _06, _07, _90 = "paper_tables/", "gmad/", "realignment/", "benchmarks/"
_NUMBERS = {
    "quickstart": "00", "concepts": "02", "data_preparation": "03", "multitask_training": "04",
    "ablations": "05", "gmad": "07", "realignment": "08", "paper_tables": "10", "benchmarks": "90",
}  # fmt: skip
_TINY = ("liqe-tiny",)

# fmt: off
SHOWN: dict[str, Shown] = {
    one.name: one
    for one in (
        Shown("answer", "One picture, and the probability of each quality, scene and distortion.", "00",
              "notebook", read.answer, answers.answer, (_00 + "answer",)),
        Shown("joint", "The joint probability of that picture, a map a quality word.", "00",
              "notebook", read.joint, answers.joint_maps, (_00 + "joint",)),
        Shown("crops", "The windows on that picture, each with its own quality.", "00",
              "notebook", read.crops, answers.crop_by_crop, (_00 + "crops",)),
        Shown("hundred", "What a hundred compressed pictures were called, and their quality.", "00",
              "notebook", read.hundred, open_figures.beside_the_others, (_00 + "answer",)),
        Shown("two_towers", "The architecture: two towers, one distribution, three losses.", "02",
              "nothing", read.towers, concepts.two_towers),
        Shown("same_marginals", "Two joint distributions that have the same marginals.", "02", "notebook",
              read.same_marginals, concepts.joints, (_00A + "same_marginals",)),
        Shown("losses_of_a_pair", "Fidelity against cross-entropy, and their gradients.", "02", "notebook",
              read.left(_00A + "losses_of_a_pair"), concepts.losses_of_a_pair, (_00A + "losses_of_a_pair",)),
        Shown("mini_levels", "Distortions of one built-in photograph, weak to strong.", "03",
              "notebook", read.sheet("levels", lambda row: f"{row['distortion']}: {row['mos']:.2f}"),
              pictures.contact_sheet, (_01 + "levels",)),
        Shown("mini_worst_to_best", "Pictures of the built-in set, from worst to best.", "03",
              "notebook",
              read.sheet("mini_worst_to_best", lambda row: f"{row['mos']:.2f}  {row['distortion_group']}"),
              pictures.contact_sheet, (_01 + "mini_worst_to_best",)),
        Shown("score_histograms", "Human scores of the data sets that are here, each on its own scale.", "03",
              "nothing", read.labels(lambda t: t[["dataset", "image", "mos"]]), data_sets.score_histograms),
        Shown("label_counts", "How many pictures show each scene and each distortion.", "03",
              "nothing", read.labels(read.groups), data_sets.label_counts),
        Shown("session_sizes", "How many pictures each session trains, validates and tests on.", "03",
              "nothing", read.labels(read.parts), data_sets.session_sizes),
        *_tables(("data_sets", "The data sets, and what of them is here.", _01 + "data_sets")),
        Shown("training_curves", "Task losses, their weights and the validation, over epochs.", "04",
              "run", read.computed(lambda s: shown.curves(s.repeats)), training.training_curves),
        Shown("test_results", "What each session reached on its test parts.", "04",
              "run", read.computed(lambda s: shown.results(s.repeats))),
        *_tables(("test_summary", "Median and spread over sessions, beside not looking.", _02 + "summary")),
        Shown("two_starts", "Validation of runs from two starts, by pictures seen.", "04",
              "notebook", read.left(_02 + "two_starts"), training.two_starts, (_02 + "two_starts",)),
        Shown("agreement", "Predicted quality against human score, pictures of a test part.", "04",
              "run", read.agreement, training.agreement),
        Shown("confusion", "Which distortion was taken for which, in the first data set.", "04",
              "notebook", read.first_confusion, training.confusion, (_02 + "confusion",)),
        *(
            Shown(f"ablation_{name}", f"Ablation: {what.meaning}.", "05", "runs", read.ablation(name),
                  ablations.ablation)
            for name, what in STUDIES.items()
        ),
        Shown("loss_weights", "The weight of each task's loss over the epochs, a panel a task set.", "05",
              "run", read.loss_weights, ablations.loss_weights),
        Shown("crops_in_testing", "SRCC against the number of crops a picture is tested on.", "05",
              "notebook", read.left(_03 + "crops_in_testing"), ablations.by_crops,
              (_03 + "crops_in_testing",)),
        *_tables(("wording_in_testing", "A trained model in other words.", _03 + "wording_in_testing")),
        Shown("open_differences", "What each arm of the open benchmark has more than quality alone.", "05",
              "kept", read.differences("less Q, BIQ2021 without near-duplicates"), open_figures.differences,
              ("differences",)),
        Shown("within_set", "The paper's table of its six sets, with ours beside where runs are given.", "10",
              "nothing", read.within_set, paper_tables.shaded_table),
        Shown("within_set_rest", "Numbers of other methods that are known at third hand.", "10",
              "nothing", read.third_hand, paper_tables.shaded_table),
        Shown("disagreements", "Published numbers on which sources disagree.", "10",
              "nothing", read.computed(lambda s: disagreements(load_published()).drop(columns="title"))),
        Shown("unseen", "The paper's table of sets never trained on, with ours beside.", "10",
              "notebook", read.unseen("unseen", "unseen sets"), paper_tables.shaded_table,
              (_04 + "unseen",)),
        Shown("unseen_aigc", "The same for generated pictures.", "10",
              "notebook", read.unseen("aigc", "generated pictures"), paper_tables.shaded_table,
              (_04 + "unseen",)),
        *_tables(("accuracies", "How often scenes and distortions are named rightly.", _04 + "accuracies")),
        *(
            Shown(f"confusion_{axis}", f"Which {axis} was taken for which, in all data sets.", "10", "run",
                  read.confusion(axis), training.confusion)
            for axis in ("scene", "distortion")
        ),
        Shown("arms", "Every run of the open benchmark's arms, and their means.", "06",
              "kept", read.arms, open_figures.arms, ("runs",)),
        Shown("differences", "Each arm less the reference, with its interval.", "06", "kept",
              read.differences(f"less {study.REFERENCE}, {read.JUDGED}"), open_figures.differences,
              ("differences",)),
        Shown("levels", "What the arms and simple methods reach, with intervals.", "06",
              "kept", read.levels, open_figures.levels, ("levels",)),
        Shown("splits", "Whether the public split flatters.", "06", "kept", read.splits, None, ("runs",)),
        Shown("tiny_biq2021", "liqe-tiny's quality against people's, on BIQ2021's test part.", "06", "kept",
              read.tiny("biq2021", "BIQ2021, public test part"), training.agreement, _TINY),
        Shown("tiny_hevc", "The same on HEVC, nothing like which it was trained on.", "06", "kept",
              read.tiny("hevc", "HEVC, {} pictures as decoded"), training.agreement, _TINY),
        Shown("tiny_hevc_as_shown", "The same pictures, all enlarged to one size.", "06",
              "kept", read.tiny("hevc as shown", "HEVC, the {} pictures enlarged to one size"),
              training.agreement, _TINY),
        Shown("tiny_distortions", "How often liqe-tiny names each distortion rightly.", "06",
              "kept", read.tiny_distortions, open_figures.right_and_wrong, _TINY),
        Shown("tiny_scenes", "How often liqe-tiny names each scene rightly.", "06",
              "kept", read.tiny_scenes, open_figures.right_and_wrong, _TINY),
        Shown("tiny_measures", "What liqe-tiny reaches on each test set.", "06",
              "kept", read.computed(lambda s: open_tables.measures(s.kept("liqe-tiny"))), None, _TINY),
        Shown("pairs", "gMAD pairs of two scorers: the attacker's better picture above its worse.", "07",
              "notebook", read.pairs("pairs"), pictures.pair_grid, (_06 + "pairs",)),
        Shown("task_sets", "The strongest disagreements between task sets.", "07",
              "notebook", read.pairs("task_sets"), pictures.pair_grid, (_06 + "task_sets",)),
        Shown("disagreement", "Who pulls apart what others call equally good; nobody has judged.", "07",
              "notebook", read.disagreement, gmad.disagreement_figure, (_06 + "disagreement",)),
        Shown("own_attack_resistance", "Who attacks and who resists, judged by people's scores.", "07",
              "notebook", read.own_competition, gmad.attack_resistance_figure,
              (_06 + "all_pairs", _06 + "own_attack_resistance")),
        Shown("own_verdicts", "How often each scorer was right, judged by people's scores.", "07",
              "notebook", read.left(_06 + "own_verdicts"), gmad.verdicts_figure, (_06 + "own_verdicts",)),
        Shown("open_attack_resistance", "The same of the open benchmark's arms.", "07",
              "kept", read.open_competition, gmad.attack_resistance_figure, ("arms",)),
        Shown("open_verdicts", "How often each arm of the open benchmark was right.", "07", "kept",
              read.computed(lambda s: shown.people_judge(*shown.arms_compete(s.kept("arms")))[1]),
              gmad.verdicts_figure, ("arms",)),
        Shown("check_panels", "Realignment where the answer is known.", "08",
              "nothing", read.check, realign.realignment_panels),
        Shown("check", "What realignment recovers of planted scales.", "08", "nothing",
              read.computed(lambda s: shown.planted_check()[1].reset_index(names="dataset"))),
        Shown("two_scales", "BIQ2021's and HEVC's scores on one scale.", "08",
              "kept", read.two_scales, realign.realignment_panels, _TINY),
        Shown("two_scales_curves", "Shift and stretch of those two.", "08", "kept",
              read.computed(lambda s: shown.two_scales(s.kept("liqe-tiny")).curves.reset_index()), None,
              _TINY),
        Shown("panels", "Human score against prediction, before and after realignment.", "08",
              "notebook", read.realigned, realign.realignment_panels, (_07 + "panels",)),
        Shown("overview", "The curves of all sets, and where the tenths of their ranges land.", "08",
              "notebook", read.overview, realign.realignment_overview, (_07 + "overview", _07 + "curves")),
        Shown("same_score", "Pictures that share a score and lie apart once realigned.", "08",
              "notebook", read.same_score, pictures.same_score_grid, (_07 + "same_score", _07 + "scores")),
        *_tables(
            ("curves", "Shift and stretch of every set, by both models.", _07 + "curves"),
            ("thrown_together", "How well all sets' scores in one heap rank, realigned and not.",
             _07 + "thrown_together"),
        ),
        Shown("what_can_move", "Which weights half precision lets move: a run's, or random ones.", "09",
              "nothing", read.what_can_move, half_precision.what_can_move),
        Shown("stuck", "The same as a table, a row a kind of weight.", "09", "nothing", read.stuck),
        Shown("steps", "Time and memory of training steps, and the arithmetic floor.", "90",
              "notebook", read.left(_90 + "steps"), benchmarks.step_bars, (_90 + "steps",)),
        Shown("trie", "Positions in the text tower against prompts.", "90",
              "notebook", read.left(_90 + "trie"), benchmarks.trie_growth, (_90 + "trie",)),
        *_tables(
            ("text_pass", "The text pass, padded and as a prefix tree.", _90 + "text_pass"),
            ("ten_sessions", "What ten sessions would take.", _90 + "ten_sessions"),
        ),
    )
}
# fmt: on
