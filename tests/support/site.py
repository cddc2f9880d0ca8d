"""A notebook as papermill writes it, with the elements that the site must handle."""

import base64
import io
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from support.books import KERNEL

from liqe_core.figures.style import new_figure
from liqe_core.files import CHECKOUT

WIDGET = "application/vnd.jupyter.widget-view+json"


def executed_notebook(folder: Path) -> nbformat.NotebookNode:
    """An equation, a figure with its words, a table, a progress bar, a line written over, paths of here."""
    figure = new_figure(3, 2).described("A line that rises.")
    figure.subplots().plot([1, 2])
    image = io.BytesIO()
    figure.savefig(image, format="png")
    png = base64.b64encode(image.getvalue()).decode()
    wide = "".join(f"<th>column {number}</th>" for number in range(20))
    table = f'<table border="1" class="dataframe"><thead><tr>{wide}</tr></thead></table>'
    bar = {WIDGET: {"model_id": "1"}, "text/plain": "  0%|          | 0/4"}
    cells = [
        new_markdown_cell("# Quickstart\n\n$$q(x) = \\sum_{c=1}^{5} c \\cdot p(c \\mid x)$$\n\nand $p$."),
        new_code_cell(f'out_dir = "{folder}"  # str: where', metadata={"tags": ["injected-parameters"]}),
        new_code_cell(
            "figure",
            outputs=[
                new_output("display_data", bar),
                new_output("stream", name="stderr", text="1 of 2\r2 of 2\ndone\n"),
                new_output("stream", text=f"wrote {folder}/a.csv from {CHECKOUT}/notebooks\n"),
                new_output("display_data", {"image/png": png}, metadata={"image/png": {"alt": figure.alt}}),
                new_output("execute_result", {"text/html": table}, execution_count=1),
            ],
        ),
        new_markdown_cell("On to [data](03_data_preparation.ipynb)."),
    ]
    return nbformat.v4.new_notebook(cells=cells, metadata=KERNEL)
