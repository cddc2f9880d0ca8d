"""environment.yml, pyproject.toml, constraints.txt, the Makefile, the documentation and CI say the same."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from setuptools import find_packages

TOP = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((TOP / "pyproject.toml").read_text())
PROJECT, TOOLS = SETTINGS["project"], SETTINGS["tool"]
EXTRAS = PROJECT["optional-dependencies"]
#: The extras that CI installs, without those that need a compiler; `notebooks` includes `data`.
INSTALLED = set(EXTRAS) - {"brisque", "data"}
REQUIREMENTS = [Requirement(r) for group in (PROJECT["dependencies"], *EXTRAS.values()) for r in group]
REQUIREMENTS = [requirement for requirement in REQUIREMENTS if requirement.name != PROJECT["name"]]


@pytest.fixture(scope="module")
def pins():
    lines = [line for line in (TOP / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", line) for line in lines), "only =="
    return {canonicalize_name(name): Version(version) for name, version in (x.split("==") for x in lines)}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_every_dependency_is_pinned_to_a_supported_version(requirement, pins):
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_everything_that_comes_along_is_pinned_too(pins):
    wanted, seen = [*REQUIREMENTS], set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        try:
            wanted += map(Requirement, metadata.requires(requirement.name) or [])
        except metadata.PackageNotFoundError:
            continue  # of another platform
    assert seen - set(pins) == set()


def test_conda_users_get_the_same():
    environment = yaml.safe_load((TOP / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert "-c constraints.txt" in pip, "the pins"
    (editable,) = [line for line in pip if line.startswith("-e ")]
    assert set(re.search(r"\[(.*)\]", editable)[1].split(",")) == INSTALLED, "and every extra"
    (python,) = [d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python=")]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.split("=")[1])


def test_make_installs_with_the_pins_and_every_extra():
    lines = re.findall(r"-c constraints.txt -e '\.\[(.*)\]'", (TOP / "Makefile").read_text())
    user, checks = (set(extras.split(",")) for extras in lines)
    assert checks == INSTALLED and user < checks, "a user gets less, with the same pins"


def test_ci_runs_the_test_command_that_contributors_run():
    assert (TOP / ".ci" / "run").read_text().rstrip().splitlines()[-1] == "exec make test"


def test_the_tests_of_differences_to_the_public_code_exist():
    rows = re.findall(r"^\| \d+ \|.*$", (TOP / "docs" / "public-code.md").read_text(), re.MULTILINE)
    assert rows
    for row in rows:
        for file, names in re.findall(r"`(\S+\.py)` ((?:\[\w+\](?:, )?)+)", row.rsplit(" | ", 1)[-1]):
            text = (TOP / "tests" / file).read_text()
            assert not [name for name in re.findall(r"\w+", names) if f"def {name}(" not in text], row


def test_every_module_is_in_the_package():
    assert PROJECT["name"] == "liqe-core"
    found = find_packages(str(TOP), include=TOOLS["setuptools"]["packages"]["find"]["include"])
    folders = {path.parent.relative_to(TOP) for path in (TOP / "liqe_core").rglob("*.py")}
    assert {Path(*name.split(".")) for name in found} == folders


def test_the_manifests_are_installed_with_the_package(tmp_path):
    built = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(built, cwd=TOP, check=True, capture_output=True)
    code = "from liqe_core.data.manifests import available, load_manifest; print(*available());"
    code += "import liqe_core; print(liqe_core.__file__); load_manifest('mini')"
    command, env = [sys.executable, "-P", "-c", code], {"PYTHONPATH": str(tmp_path), "LIQE_MANIFESTS": ""}
    printed = subprocess.check_output(command, cwd=tmp_path, env=os.environ | env, text=True)
    names, place = printed.splitlines()
    assert Path(place).is_relative_to(tmp_path)
    manifests = {path.stem for path in (TOP / "data_manifests").glob("*.yaml")} - {"published"}
    assert set(names.split()) == manifests


@pytest.mark.parametrize(
    ("patterns", "without"),
    [
        (["commands/sweep.py"], {"torch", "open_clip"}),
        (["figures/*.py"], {"torch", "open_clip"}),
        (["data/*.py"], {"open_clip", "liqe_core.model", "liqe_core.text"}),
        (["model.py", "scoring.py"], {"pandas", "matplotlib"}),
    ],
)
def test_modules_start_without_optional_packages(patterns, without):
    """import-linter does not see imports through `from liqe_core import LIQE` or other packages."""
    files = [path for pattern in patterns for path in sorted((TOP / "liqe_core").glob(pattern))]
    modules = [".".join(p.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__") for p in files]
    code = f"import sys, importlib\nfor m in {modules}: importlib.import_module(m)\n"
    code += f"print(sorted(set({sorted(without)}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
