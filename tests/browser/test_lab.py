"""JupyterLab of this environment: open each notebook, run all cells with `smoke`, and move the explorer.

These tests take minutes and need ``LIQE_BROWSER=all`` (``make test-browser``).
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from liqe_core.commands import notebooks

ASKED = os.environ.get("LIQE_BROWSER") == "all"
pytestmark = pytest.mark.skipif(not ASKED, reason="minutes long: make test-browser runs it")
NAMES = [name for name in notebooks.available() if not name.startswith("9")]
PATIENCE = 600  # seconds for one notebook


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a JupyterLab on copies of the notebooks whose profile is `smoke`, and the copies' folder."""
    top = tmp_path_factory.mktemp("lab")
    for name in NAMES:
        text = (notebooks.NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
        text = re.sub(r'"(profile(?:: str)? = )\\"\w+\\"', r'"\1\\"smoke\\"', text, count=1)
        (top / f"{name}.ipynb").write_text(text, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", f"--notebook-dir={top}"]
    command += ["--IdentityProvider.token=", "--ServerApp.password=", "--allow-root"]
    environment = os.environ | {"LIQE_RUNS": str(top / "runs"), "JUPYTER_CONFIG_DIR": str(top / ".config")}
    with (top / "lab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=top, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5)
                break
            except OSError:
                assert server.poll() is None, (top / "lab.log").read_text()[-2000:]
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/lab", top
    finally:
        server.terminate()
        server.wait(30)


def run_all(tab, path):
    """Run All, then save until every code cell has run or one failed; the notebook as then saved."""
    begun = tab.locator(".jp-InputPrompt").filter(has_text=re.compile(r"\[[*\d]+\]"))
    until = time.monotonic() + PATIENCE
    while not begun.count():  # the first one is passed over while JupyterLab is still at its own start
        assert time.monotonic() < until, f"{path.name}: does not start"
        # On a busy machine, JupyterLab asks so for the first one.
        asked = tab.locator("dialog.jp-Dialog", has_text="Select Kernel")
        if asked.count():
            asked.locator(".jp-mod-accept").click()
            continue
        tab.locator('.lm-MenuBar-itemLabel:text-is("Run")').click()
        tab.locator('li[data-command="runmenu:run-all"]').click()
        tab.wait_for_timeout(5000)
    while time.monotonic() < until:
        tab.wait_for_timeout(2000)
        tab.keyboard.press("Control+s")
        tab.wait_for_timeout(1000)
        with contextlib.suppress(ValueError):  # it is being written
            book = nbformat.read(path, as_version=4)
            code = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
            if errors_of(book) or all(cell.execution_count for cell in code):
                return book
    raise AssertionError(f"{path.name}: not done after {PATIENCE} s")


def errors_of(book) -> list[str]:
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [f"{o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_in_jupyterlab(chromium, lab, screenshots, name):
    address, top = lab
    tab = chromium.new_page(viewport={"width": 1280, "height": 900})
    try:
        tab.goto(f"{address}/tree/{name}.ipynb?reset")
        tab.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=120_000)
        book = run_all(tab, top / f"{name}.ipynb")
        assert errors_of(book) == []
        outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
        figures = [output for output in outputs if "image/png" in output.get("data", {})]
        assert figures and all(output.metadata["image/png"]["alt"] for output in figures)
        if name == "00_quickstart":
            move_the_explorer(tab)
        tab.screenshot(path=screenshots / f"lab-{name}.png")
    finally:
        tab.close()


def move_the_explorer(tab):
    """Lower the JPEG quality by keyboard: the displayed quality changes."""
    explorer = tab.locator(".jp-OutputArea-output", has=tab.locator(".widget-slider")).first
    slider = explorer.locator(".widget-slider", has_text="JPEG")
    slider.first.scroll_into_view_if_needed()
    answer = explorer.locator(".widget-html", has_text=re.compile("quality")).first
    answer.wait_for()
    tab.wait_for_timeout(1000)
    before = answer.inner_text()
    assert before.startswith("quality")
    slider.first.locator(".noUi-handle").focus()
    tab.keyboard.press("Home")
    tab.wait_for_timeout(500)
    if answer.inner_text() == before:  # it stood at that end
        tab.keyboard.press("End")
    tab.wait_for_timeout(3000)
    assert answer.inner_text() != before
