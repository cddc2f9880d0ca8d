"""From an executed notebook to a page of the site; `tests/browser` looks at the pages themselves."""

import nbformat
import pytest
from support.site import WIDGET, executed_notebook

from liqe_core.commands import pages
from liqe_core.commands.main import main
from liqe_core.files import CHECKOUT


def test_what_is_alive_only_in_jupyter_is_left_out(tmp_path):
    book = pages.for_reading(executed_notebook(tmp_path), {"00_quickstart"})
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if WIDGET in output.get("data", {})] == []
    assert outputs[0].text == "2 of 2\ndone\n"
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert book.cells[-1].source == "On to data."


def test_a_link_to_a_notebook_with_a_page_stays(tmp_path):
    book = pages.for_reading(executed_notebook(tmp_path), {"01_data_preparation"})
    assert book.cells[-1].source == "On to [data](01_data_preparation.ipynb)."


def test_paths_are_shown_as_seen_from_the_repository(tmp_path):
    text = pages._without_places(nbformat.writes(executed_notebook(tmp_path)), tmp_path)
    assert str(tmp_path) not in text and f"{CHECKOUT}/" not in text
    assert f"wrote {tmp_path.name}/a.csv from notebooks" in text
    inside = CHECKOUT / "runs" / "smoke"
    text = pages._without_places(nbformat.writes(executed_notebook(inside)), inside)
    assert 'out_dir = \\"runs/smoke\\"' in text and "wrote runs/smoke/a.csv" in text


def test_without_executed_notebooks_it_says_what_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pages, "installed", lambda: True)
    assert main(["pages", "--out", str(tmp_path)]) == 1
    assert "run some first, with liqe notebooks" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_sphinx_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "installed", lambda: False)
    with pytest.raises(ValueError, match=r"\[site\]"):
        pages.build(tmp_path)


def test_a_site_that_cannot_be_built_leaves_the_older_one(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "installed", lambda: True)
    monkeypatch.setattr(pages.sys, "executable", "false")
    nbformat.write(executed_notebook(tmp_path), tmp_path / "00_quickstart.ipynb")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("older")
    with pytest.raises(ChildProcessError, match="not built"):
        pages.build(tmp_path)
    assert (tmp_path / "site" / "index.html").read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {"00_quickstart.ipynb", "site"}
