"""Sphinx configuration. The build needs no network and turns warnings into errors."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

import sklearn_ext

HERE = Path(__file__).parent
sys.path.append(str(HERE / "_extensions"))

project = "sklearn_ext"
author = "The sklearn_ext developers"
copyright = author
version = release = sklearn_ext.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "numpydoc",
    "expected_failures",
]
exclude_patterns = ["_build", "_extensions", "_templates", "auto_examples/**/*.ipynb"]
templates_path = ["_templates"]
add_function_parentheses = False
# Docstrings inherited from scikit-learn's classes link into scikit-learn's own guide.
suppress_warnings = ["ref.ref"]

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings also give shapes
numpydoc_show_class_members = False  # the templates list the methods

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(__init__|quickstart|_figure|_sections/.*)\.py",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "generated/backreferences",
    "doc_module": "sklearn_ext",
    "show_memory": False,
    "download_all_examples": False,
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_ext"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "api": [], "benchmarks": []}


def quote_attributes(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Quote the names in shapes such as (n_features_in_,), because the underscore is not a link."""
    lines[:] = [re.sub(r"(?<=[ (])(\w+_)(?=[,)])", r"``\1``", line) for line in lines]


def setup(app: Sphinx) -> None:
    app.setup_extension("sphinx-mathjax-offline")  # formulas render without a network
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True  # it only copies files
    app.connect("autodoc-process-docstring", quote_attributes, priority=400)  # before numpydoc
