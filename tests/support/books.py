"""Notebooks of a few cells."""

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

KERNEL = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}


def book_of(parameters: str, *codes: str) -> nbformat.NotebookNode:
    """A cell of parameters, as papermill knows them, and a cell for each further piece of code."""
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    return new_notebook(cells=[first, *map(new_code_cell, codes)], metadata=KERNEL)
