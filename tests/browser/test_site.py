"""The site, opened from the disk with the network off.

Of one drawn notebook; with ``LIQE_BROWSER=all`` (``make test-browser``) of those in runs/smoke.
"""

import contextlib
import io
import os
from pathlib import Path

import nbformat
import pytest
from support.data import kept_answers
from support.site import executed_notebook

from liqe_core.commands import notebooks
from liqe_core.files import CHECKOUT, runs_dir
from liqe_core.studies.open_tables import measures

# Building the site takes a minute; `make demo` builds it too.
pytestmark = pytest.mark.slow

ALL = os.environ.get("LIQE_BROWSER") == "all"
NARROW, WIDE = {"width": 400, "height": 800}, {"width": 1280, "height": 900}
#: How many blocks of code or tables do not fit into their column.
CUT = """shapes => [...document.querySelectorAll(shapes)].filter(shown => {
    for (let box = shown; !box.classList.contains('bd-article'); box = box.parentElement)
        if (box.scrollWidth > box.clientWidth + 1) return true;
    return false;
}).length"""


@pytest.fixture(scope="module")
def site(chromium, tmp_path_factory) -> Path:
    """The site's folder, built without a warning."""
    if not notebooks.can_build_site():
        pytest.skip("needs what builds the site: pip install -e '.[site]'")
    folder = runs_dir("smoke") if ALL else tmp_path_factory.mktemp("executed")
    if not ALL:
        nbformat.write(executed_notebook(folder), folder / "00_quickstart.ipynb")
    with contextlib.redirect_stderr(io.StringIO()) as messages:
        index = notebooks.build_site(folder)
    assert messages.getvalue() == ""
    return index.parent


@pytest.fixture(scope="module")
def pages(site) -> list[Path]:
    """The tested pages: all with a notebook, and the method of the reference."""
    found = [*sorted(site.glob("*.html")), site / "api" / "liqe_core.html"]
    return [page for page in found if page.stem not in ("genindex", "py-modindex")]


def opened(browser, page: Path, size, **more):
    """The page, and the addresses it asked for that are no files."""
    context = browser.new_context(viewport=size, offline=True, **more)
    tab, asked = context.new_page(), []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    if tab.locator(".math").count():
        tab.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
        tab.evaluate("MathJax.startup.promise")
    return tab, [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def test_pages_work_offline_are_accessible_and_not_cut_off(chromium, pages, screenshots):
    from axe_playwright_python.sync_playwright import Axe

    faults = {}
    for page in pages:
        tab, asked = opened(chromium, page, WIDE, color_scheme="light")
        undrawn = tab.locator(".math:not(:has(mjx-container svg))").count()
        broken = tab.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
        errors = tab.locator("mjx-merror, [data-mml-node=merror]").count()
        without_alt = tab.evaluate("[...document.images].filter(i => !i.alt.trim()).map(i => i.src)")
        level_a = Axe().run(tab, options={"runOnly": ["wcag2a", "wcag21a"]}).response["violations"]
        violations = [(v["id"], [node["target"] for node in v["nodes"]][:3]) for v in level_a]
        found = {"asks": asked, "equations not drawn": undrawn + errors, "images broken": broken}
        tab.set_viewport_size({"width": 1400, "height": 900})
        cut = tab.evaluate(CUT, ".bd-article pre, .bd-article table" if ALL else ".bd-article pre")
        found |= {"images without alt": without_alt, "axe": violations, "cut on a laptop": cut}
        if any(found.values()):
            faults[page.name] = {what: value for what, value in found.items() if value}
        tab.screenshot(path=screenshots / f"{page.stem}-1280.png")
        tab.context.close()
    assert faults == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_read_on_a_telephone(chromium, pages, screenshots, scheme):
    wide = {}
    for page in pages if scheme == "light" else pages[:2]:
        tab, _ = opened(chromium, page, NARROW, color_scheme=scheme)
        over = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if over > 0:
            wide[page.name] = over
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        shade = sum(int(part) for part in ground.strip("rgba()").split(",")[:3]) / 3
        assert (shade < 60) if scheme == "dark" else (shade > 200), ground
        tab.screenshot(path=screenshots / f"{page.stem}-400-{scheme}.png")
        tab.context.close()
    assert wide == {}


def test_the_first_page_states_purpose_and_results(chromium, site):
    tab, _ = opened(chromium, site / "index.html", WIDE)
    text = tab.locator("article").inner_text()
    reached = measures(kept_answers()).set_index("dataset")["srcc"].map("{:.3f}".format)
    of_tests = reached[["biq2021 without near-duplicates", "hevc", "hevc as shown"]]
    for word in ("liqe score", "quality", "scene", "distortion", *of_tests):
        assert word in text
    notebooks = tab.locator("nav a[href*='00_quickstart']")
    assert notebooks.count() >= 1, "the contents name the notebooks"
    assert tab.locator("a.right-next").count() == 1
    tab.context.close()


def test_the_site_is_small_and_no_path_of_this_machine_is_on_it(site):
    files = [path for path in site.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 15e6
    for path in files:
        if path.suffix == ".html":
            text = path.read_text(encoding="utf-8")
            assert 'class="problematic"' not in text, f"{path.name}: a docstring not understood"
            assert f"{CHECKOUT}/" not in text and f"{Path.home()}/" not in text, path.name
