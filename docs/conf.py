"""Sphinx configuration. The build needs no network and turns warnings into errors."""

import os
import re
import sys
from pathlib import Path

from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (an example names it)
from sphinx.application import Sphinx

import sklearn_ext
from sklearn_ext import all_estimators

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
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "numpydoc",
    "expected_failures",
    "sklearn_inventory",
]
exclude_patterns = ["_build", "_extensions", "_templates", "snippets", "auto_examples/**/*.ipynb"]
templates_path = ["_templates"]
add_function_parentheses = False
# Docstrings inherited from scikit-learn's classes link into scikit-learn's own guide.
suppress_warnings = ["ref.ref"]
if "DOCS_EXAMPLES" in os.environ:
    suppress_warnings.append("image.not_readable")  # pictures of examples that have not run

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings also give shapes
numpydoc_show_class_members = False  # the templates list the methods
intersphinx_disabled_reftypes = ["std:*"]  # labels such as "unlearning" are ours alone
myst_heading_anchors = 2

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    # DOCS_EXAMPLES=none or a pattern builds the pages without running all examples, which is quick.
    "filename_pattern": os.environ.get("DOCS_EXAMPLES", r"/plot_"),
    "ignore_pattern": r"(__init__|quickstart|_sections/.*)\.py",
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
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {
    page: []
    for page in (
        "index",
        "api",
        "benchmarks",
        "paper_claims",
        "which_method",
        "csv_to_score",
        "scale",
    )
}

# In the diagrams of estimators, the question mark links to the page in the API reference.
for _, estimator in all_estimators():
    estimator._doc_link_module = "sklearn_ext"
    estimator._doc_link_template = "../generated/sklearn_ext.{estimator_name}.html"

# The page of the guide for the objects of a folder; the longest match counts.
GUIDES = {
    "sklearn_ext.kernel_regression": "lab_rbf",
    "sklearn_ext.impute": "imputation",
    "sklearn_ext.decentralized": "dekrr",
    "sklearn_ext.unlearning": "unlearning",
    "sklearn_ext.unlearning.exact": "unlearning_exact",
    "sklearn_ext.unlearning.networks": "unlearning_networks",
    "sklearn_ext.unlearning.pipeline": "forgetting_pipeline",
    "sklearn_ext.unlearning.diffusion": "class_forgetting",
    "sklearn_ext.generative": "class_forgetting",
    "sklearn_ext.ood": "ood",
    "sklearn_ext.ood.diffusion": "ood_diffusion",
    "sklearn_ext.soup": "soup",
    "sklearn_ext.lora": "flat_lora",
    "sklearn_ext.neural": "networks",
    "sklearn_ext.metrics._unlearning": "unlearning_protocol",
    "sklearn_ext.metrics._membership": "unlearning_protocol",
    "sklearn_ext.metrics._ood": "ood",
    "sklearn_ext.metrics._generation": "class_forgetting",
    "sklearn_ext.metrics._imputation": "imputation",
}


def quote_attributes(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Quote the names in shapes such as (n_features_in_,), because the underscore is not a link."""
    lines[:] = [re.sub(r"(?<=[ (])(\w+_)(?=[,)])", r"``\1``", line) for line in lines]


def link_guide(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Add a link to the guide after the summary of a class or function."""
    module = getattr(obj, "__module__", None) or ""
    found = [key for key in GUIDES if module.startswith(key)]
    if what in ("class", "function") and found and "" in lines:
        end = lines.index("")
        guide = GUIDES[max(found, key=len)]
        lines[end:end] = ["", f"Read more in the :ref:`user guide <{guide}>`."]


def link_arxiv(text: str) -> str:
    """Turn identifiers such as arXiv:2310.05236 into links."""
    return re.sub(
        r"(?<![/\w`])arXiv:(\d{4}\.\d{5})", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text
    )


def link_arxiv_in_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    lines[:] = [link_arxiv(line) for line in lines]


def link_arxiv_in_source(app: Sphinx, name: str, source: list[str]) -> None:
    if Path(app.env.doc2path(name)).suffix == ".rst":
        source[0] = link_arxiv(source[0])


def setup(app: Sphinx) -> None:
    app.setup_extension("sphinx-mathjax-offline")  # formulas render without a network
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True  # it only copies files
    for process in (quote_attributes, link_guide, link_arxiv_in_docstring):
        app.connect("autodoc-process-docstring", process, priority=400)  # before numpydoc
    app.connect("source-read", link_arxiv_in_source)
