"""The installed browser, without a network, or the reason why it is missing."""

import os
import shutil

import pytest

from liqe_core.files import runs_dir

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium, started."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip(f"needs a Chromium, and none of {', '.join(CHROMIUM)} is here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []  # root has no sandbox
        browser = driver.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots():
    """The folder for screenshots."""
    folder = runs_dir("browser")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
