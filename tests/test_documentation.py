"""Test that examples run, links resolve, and pages have their parts."""

import doctest
import re
from pathlib import Path

import pytest

from benchmarks import _page
from benchmarks.__main__ import methods
from sklearn_ext import all_estimators

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDE = sorted((DOCS / "user_guide").glob("*.rst"))
PAGES = [DOCS / "index.rst", *GUIDE]
OF_GUIDE = [pytest.param(page, id=page.stem) for page in GUIDE]


def test_the_readme_example_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    namespace = {}
    exec(block, namespace)
    assert namespace["search"].best_score_ > 0.4
    assert "labridgelessregressor__locality" in capsys.readouterr().out


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_the_guide_examples_run(page):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testfile(str(page), module_relative=False, optionflags=flags).failed == 0


def test_files_linked_from_the_readme_exist():
    paths = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", OF_GUIDE)
def test_a_guide_page_has_its_parts(page):
    text = page.read_text()
    for heading in ("Parameters that matter", "Cost", "References"):
        assert re.search(rf"^{heading}.*\n[=-]+$", text, re.MULTILINE), heading
    assert ">>> " in text
    assert ".. math::" in text


@pytest.mark.parametrize("page", OF_GUIDE)
def test_guide_pictures_have_a_source(page):
    """A picture is a file in docs, or an example draws it; the build warns of missing ones."""
    paths = re.findall(r"^\.\. (?:figure|image):: (.*)$", page.read_text(), re.MULTILINE)
    assert paths
    for path in paths:
        drawn = re.fullmatch(r"\.\./auto_examples/images/sphx_glr_(plot_\w+)_\d{3}\.png", path)
        source = DOCS / "examples" / f"{drawn[1]}.py" if drawn else page.parent / path
        assert source.exists(), path


@pytest.mark.parametrize("page", OF_GUIDE)
def test_guide_pages_link_to_the_benchmark_page(page):
    written = set(re.findall(r"^\((bench-[\w-]+)\)=$", _page.PAGE.read_text(), re.MULTILINE))
    links = set(re.findall(r"<(bench-[\w-]+)>", page.read_text()))
    assert links
    assert links <= written


def test_the_guide_links_to_every_benchmark():
    text = "".join(page.read_text() for page in GUIDE)
    assert [name for name in methods() if f"<{_page.anchor(name)}>" not in text] == []


def test_the_api_reference_lists_every_estimator():
    listed = (DOCS / "api.rst").read_text().split()
    assert [name for name, _ in all_estimators() if name not in listed] == []
