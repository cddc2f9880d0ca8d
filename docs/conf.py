"""Sphinx's settings for the site: `liqe pages` copies this folder, and adds the executed notebooks."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

import sphinx_book_theme  # noqa: F401, so that a missing one is named here
from docutils import nodes
from docutils.parsers.rst import roles
from myst_nb.core.render import NbElementRenderer
from sphinx import addnodes

import liqe_core

project = "LIQE, reproduced"
author = "The authors of LIQE, reproduced"
release = liqe_core.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.apidoc"]

# Notebooks: they have been run already.
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show the solution", "Hide the solution"  # nothing else is folded
nb_ipywidgets_js = {}  # of other servers
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
suppress_warnings = [
    "myst.header",
    "myst.xref_missing",
    "ref.python",
]  # fields of several classes share names

# The reference: one page a wing, from the docstrings.
package = Path(liqe_core.__file__).parent
apidoc_modules = [
    {
        "path": package,
        "destination": "api",
        "exclude_patterns": [str(package / "__main__.py")],
        "module_first": True,
        "automodule_options": {"members"},
    }
]
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False
napoleon_use_ivar = True
default_role = "code"

# Equations without a network: MathJax's one file that draws them as SVG, from a package.
mathjax = find_spec("sphinx-mathjax-offline")
assert mathjax and mathjax.origin
mathjax_path = "tex-svg.js"

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["site.css", str(Path(mathjax.origin).parent / "static" / "mathjax" / mathjax_path)]
html_css_files = ["site.css"]
html_use_index = False
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "use_download_button": False,
    "navbar_persistent": [],  # the search is in the side bar already
    "home_page_in_toc": True,
    "max_navbar_depth": 1,  # what folds out has no name for a screen reader
    "show_toc_level": 1,
    "path_to_docs": "notebooks",
}
if repository := os.environ.get("GITHUB_REPOSITORY"):  # in a workflow: a notebook's page opens it elsewhere
    html_theme_options |= {
        "repository_url": f"https://github.com/{repository}",
        "repository_branch": os.environ.get("GITHUB_REF_NAME", "main"),
        "use_repository_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }


def _with_alt(self, data, render=NbElementRenderer.render_image):
    """MyST-NB takes width and height from an output's metadata; the alternative text as well."""
    images = render(self, data)
    for image in images:
        image["alt"] = data.output_metadata.get(data.mime_type, {}).get("alt", "")
    return images


NbElementRenderer.render_image = _with_alt


def _without_values(app, doctree):
    """Constants without their values, some of which are long, and some paths of the machine that builds."""
    for note in list(doctree.findall(addnodes.desc_annotation)):
        if note.astext().lstrip().startswith("="):
            note.parent.remove(note)


def _sizes(app, kind, name, documented, options, lines):
    """What a docstring writes as |w| is the size of w, and no text to be put in its place."""
    lines[:] = [re.sub(r"\|(\w+)\|", r"\\|\1\\|", line) for line in lines]


def setup(app):
    """Called by Sphinx."""
    roles.register_generic_role("mpltype", nodes.literal)  # of docstrings inherited from matplotlib
    app.connect("autodoc-process-docstring", _sizes)
    app.connect("doctree-read", _without_values)
