"""From an executed notebook to a page of the site; `tests/browser` opens the pages."""

import nbformat
import pandas as pd
import pytest
from support.site import WIDGET, executed_notebook

from liqe_core.commands import notebooks
from liqe_core.commands.main import main
from liqe_core.files import CHECKOUT


@pytest.mark.parametrize(
    ("page", "last"),
    [("00_quickstart", "On to data."), ("03_data_preparation", "On to [data](03_data_preparation.ipynb).")],
)
def test_widgets_are_removed_and_links_to_pages_stay(tmp_path, page, last):
    book = notebooks.for_reading(executed_notebook(tmp_path), {page})
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if WIDGET in output.get("data", {})] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert book.cells[-1].source == last


def test_an_empty_cell_of_a_table_is_a_dash():
    table = pd.DataFrame({"name": ["NaN is its name", pd.NA], "count": pd.array([pd.NA, 5])}).to_html()
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", {"text/html": table})])
    (cell,) = notebooks.for_reading(nbformat.v4.new_notebook(cells=[cell]), set()).cells
    shown = cell.outputs[0].data["text/html"]
    assert shown.count("<td>–</td>") == 2 and "<td>NaN is its name</td>" in shown


def test_only_solutions_are_folded():
    cells = [nbformat.v4.new_code_cell("1"), nbformat.v4.new_code_cell("2")]
    cells[1].metadata["jupyter"] = {"source_hidden": True}
    book = notebooks.for_reading(nbformat.v4.new_notebook(cells=cells), set())
    assert [cell.metadata.get("tags", []) for cell in book.cells] == [[], ["hide-cell"]]


def test_paths_are_shown_as_seen_from_the_repository(tmp_path):
    text = notebooks.without_local_paths(nbformat.writes(executed_notebook(tmp_path)), tmp_path)
    assert str(tmp_path) not in text and f"{CHECKOUT}/" not in text
    assert f"wrote {tmp_path.name}/a.csv from notebooks" in text
    inside = CHECKOUT / "runs" / "smoke"
    text = notebooks.without_local_paths(nbformat.writes(executed_notebook(inside)), inside)
    assert 'out_dir = \\"runs/smoke\\"' in text and "wrote runs/smoke/a.csv" in text


@pytest.mark.parametrize(("installed", "word"), [(True, "liqe notebooks"), (False, "[site]")])
def test_missing_notebooks_or_sphinx_are_reported_with_advice(tmp_path, capsys, monkeypatch, installed, word):
    monkeypatch.setattr(notebooks, "can_build_site", lambda: installed)
    assert main(["pages", "--out", str(tmp_path)]) == 1
    assert word in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_keeps_the_previous_site(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "can_build_site", lambda: True)
    monkeypatch.setattr(notebooks.sys, "executable", "false")
    nbformat.write(executed_notebook(tmp_path), tmp_path / "00_quickstart.ipynb")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("older")
    with pytest.raises(ChildProcessError, match="built"):
        notebooks.build_site(tmp_path)
    assert (tmp_path / "site" / "index.html").read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {"00_quickstart.ipynb", "site"}
