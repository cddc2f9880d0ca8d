"""The parameters of the notebooks: what each may be, asked in one place before any work.

A notebook says `globals().update(checked(globals()))` after its imports; `liqe notebooks -p` asks
`of_notebooks` before the first one starts. A parameter with the name of a setting of training may be what
that setting may be.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from liqe_core.data.mini import read_manifest
from liqe_core.studies.ablations import STUDIES
from liqe_core.studies.scorers import SHORT
from liqe_core.training import profiles


def _is(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _list_of(kind: type) -> Callable[[object], bool]:
    fits = _is(kind)
    return lambda value: isinstance(value, list) and all(map(fits, value))


#: Of each annotation in a parameters cell: what a value is to be, in words, and whether it is.
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", _is(bool)),
    "int": ("a whole number", _is(int)),
    "float": ("a number", _is(int, float)),
    "str": ("text", lambda value: isinstance(value, str)),
    "list[int]": ("a list of whole numbers, such as [1, 2]", _list_of(int)),
    "list[str]": ('a list of words, such as ["Q", "Q+S"]', _list_of(str)),
    "dict": ('names and values, such as {"epochs": 2}', lambda value: isinstance(value, dict)),
}

#: The least and the most that a number, or each of a list, may be; settings of training have their own.
LIMITS: dict[str, tuple[float, float]] = {
    "sessions": (1, 10),
    "seeds": (0, math.inf),
    "scratch_epochs": (1, math.inf),
    "at_once": (0, math.inf),
    "brief_epochs": (1, math.inf),
    "brief_steps": (1, math.inf),
    "test_crops": (1, math.inf),
    "test_pictures": (1, math.inf),
    "levels": (1, math.inf),
    "width": (0, 1),
    "most": (1, math.inf),
    "noise": (0, math.inf),
}
#: The words that one may be, or what reads them from a file.
WORDS: dict[str, Collection[str] | Callable[[], Collection[str]]] = {
    "scratch": ("", *profiles.PROFILES),
    "half": ("", "float16", "bfloat16"),
    "studies": tuple(STUDIES),
    "photograph": lambda: read_manifest()["photographs"],
}

#: Files and folders that have to be there already; an address is not asked.
PATHS = ("picture", "data_root", "labels_mirror", "paper_runs", "pictures", "human")

#: Names of what competes; see `studies.scorers.scorer`.
SCORERS = ("scorers", "opponents", "attacker", "defender")

#: Lists that may be empty; of others an empty one leaves nothing to do.
MAY_BE_EMPTY = ("opponents",)


class ParameterError(ValueError):
    """A parameter that is none, or that cannot have its value; a notebook shows it as one line."""

    def _render_traceback_(self) -> list[str]:  # what IPython asks for; where it was raised helps nobody
        return [f"ParameterError: {self}"]


def checked(namespace: Mapping[str, Any], **words: Collection[str]) -> dict[str, Any]:
    """The parameters of a running notebook, each of the kind that its annotation says.

    Text is taken for what it says where a parameter is no text: ``'[1]'``, which is what papermill's ``-p``
    makes of a list, ``'1e-4'``, which is what YAML makes of that number.

    Args:
        namespace: of the notebook, ``globals()``: its annotated names are the parameters.
        words: by parameter, what its value, or each of a list, is to be one of.

    Raises:
        ParameterError: papermill was given one that the notebook does not have, or a value that cannot be;
            names it, its value, and what it may be.
    """
    kinds = {n: inspect.formatannotation(k) for n, k in namespace.get("__annotations__", {}).items()}
    # The cell that papermill adds, which begins so.
    given = [cell for cell in namespace.get("In", ()) if cell.startswith("# Parameters")]
    targets = [t for node in ast.parse(given[-1]).body for t in getattr(node, "targets", ())] if given else []
    _refuse_unknown([target.id for target in targets], kinds)
    return _checked({name: namespace[name] for name in kinds if name in namespace}, kinds, words)


def of_notebooks(books: Iterable[str | Path], given: Mapping[str, Any]) -> dict[str, Any]:
    """The same before notebooks are run: of each, its defaults and what is given of its parameters.

    Returns:
        `given`, read as `checked` reads it.

    Raises:
        ParameterError: as `checked`; a name that none of the notebooks has is unknown.
    """
    import papermill

    declared = [papermill.inspect_notebook(str(book)) for book in books]
    _refuse_unknown(given, {name: "" for of in declared for name in of})
    read = dict(given)
    for of in declared:
        values = {name: ast.literal_eval(one["default"]) for name, one in of.items()}
        kinds = {n: one["inferred_type_name"] for n, one in of.items() if one["inferred_type_name"] != "None"}
        kinds = {name: type(value).__name__ for name, value in values.items()} | kinds
        values = _checked(values | {name: given[name] for name in given if name in values}, kinds)
        read |= {name: values[name] for name in given if name in values}
    return read


def _refuse_unknown(names: Iterable[str], known: Mapping[str, str]) -> None:
    if unknown := sorted(set(names) - set(known)):
        there = ", ".join(sorted(known))
        raise ParameterError(f"no parameter {', '.join(unknown)} in these notebooks; there are {there}")


def _checked(
    values: Mapping[str, Any], kinds: Mapping[str, str], words: Mapping[str, Collection[str]] | None = None
) -> dict[str, Any]:
    taken = {name: _read(name, value, kinds[name]) for name, value in values.items()}
    for name, value in taken.items():
        several = value if isinstance(value, list) else [value]
        if not several and name not in MAY_BE_EMPTY:
            raise ParameterError(f"{name} is []; name at least one")
        if len(set(map(repr, several))) < len(several):
            raise ParameterError(f"{name} is {value!r}; name each once")
        low, high = LIMITS.get(name, (-math.inf, math.inf))
        if name in LIMITS and not all(low <= one <= high for one in several):
            limits = f"from {low:g}" + (f" to {high:g}" if high < math.inf else "")
            raise ParameterError(f"{name} is {value!r}; give {KINDS[kinds[name]][0]}, {limits}")
        if name in PATHS and value and "://" not in value and not Path(value).exists():
            raise ParameterError(f"{name} is {value!r}; give a file or folder that is there, and this is not")
        if name == "checkpoint" and value:
            _refuse_absent_weights(value)
        if name in SCORERS and (others := [one for one in several if not _is_scorer(one)]):
            there = ", ".join([*SHORT.values(), "sharpness"])
            raise ParameterError(
                f"{name} is {value!r}, and {others[0]!r} is no scorer; give {there}, "
                "weights by file or name, or pyiqa:METRIC"
            )
        choices = {**WORDS, **(words or {})}.get(name)
        choices = choices() if callable(choices) else choices
        if choices is not None and not set(several) <= set(choices):
            raise ParameterError(f"{name} is {value!r}; choose from {', '.join(map(repr, choices))}")
    if {"attacker", "defender"} <= taken.keys() and taken["attacker"] == taken["defender"]:
        raise ParameterError(f"attacker and defender are both {taken['attacker']!r}; give two of the scorers")
    _as_settings(taken)
    return taken


def _is_scorer(name: str) -> bool:
    from liqe_core.checkpoints import is_weights

    named = name in (*SHORT.values(), "sharpness") or name.startswith("pyiqa:")
    return named or is_weights(name)


def _refuse_absent_weights(checkpoint: str) -> None:
    from liqe_core.checkpoints import PUBLISHED, CheckpointError, located

    if checkpoint not in PUBLISHED:  # which are fetched where they are first used
        try:
            located(checkpoint)
        except CheckpointError as error:
            raise ParameterError(f"checkpoint is {checkpoint!r}: {error}") from None


def _read(name: str, value: Any, kind: str) -> Any:
    """A value as what its parameter is to be: text that says so is taken for it, and a number for text."""
    words, fits = KINDS.get(kind, ("", lambda value: True))
    if kind == "str" and KINDS["float"][1](value):
        return str(value)
    if not fits(value := _said(value, fits)):
        raise ParameterError(f"{name} is {value!r}; give {words}")
    return value


def _said(value: Any, fits: Callable[[Any], bool]) -> Any:
    """What a text says in JSON, where that fits and the text does not; any other value as it is."""
    if not isinstance(value, str) or fits(value):
        return value
    try:
        read = json.loads(value)
    except json.JSONDecodeError:
        return value
    return read if fits(read) else value


def _as_settings(taken: Mapping[str, Any]) -> None:
    """Ask the profile about its own settings, and read `changes` as it wants them; what is empty, and no
    epochs, leaves a setting as it is."""
    known = profiles.profile("mini").flat()
    given = {n: v for n, v in taken.items() if n in known and v != "" and (n, v) != ("epochs", 0)}
    changes = taken.get("changes", {})
    changes |= {n: _said(v, _is(type(known[n]))) for n, v in changes.items() if n in known}
    if "profile" in taken:
        try:
            profiles.profile(taken["profile"], **given | changes)
        except ValueError as error:
            told = str(error)
            if any(name in told for name in changes):
                told = f"changes is {changes!r}: {told}"
            if "epochs is" in told and "epochs" not in changes:
                told += ", or 0 for the profile's own"
            raise ParameterError(told) from None
