"""Test that examples run, links resolve, and pages have their parts."""

import doctest
import re
from pathlib import Path

import pytest

from benchmarks import _page
from benchmarks.__main__ import methods

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDE = sorted((DOCS / "user_guide").glob("*.rst"))
PAGES = [DOCS / "csv_to_score.rst", DOCS / "networks.rst", DOCS / "unlearning.rst", *GUIDE]
SNIPPETS = sorted((DOCS / "snippets").glob("*.py"))
every_guide_page = pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem) for page in GUIDE]
)


def test_the_readme_shows_the_snippets():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert sorted(blocks) == sorted(path.read_text() for path in SNIPPETS)
    shown = re.findall(r"literalinclude:: (.*)", (DOCS / "index.rst").read_text())
    assert sorted(DOCS / path for path in shown) == SNIPPETS
    for block in blocks:
        assert len([line for line in block.splitlines() if line]) <= 6


def run_snippet(name):
    namespace = {}
    exec((DOCS / "snippets" / f"{name}.py").read_text(), namespace)
    return namespace


def test_the_first_snippet_deletes_rows(capsys):
    made = run_snippet("delete_rows")
    certificate = made["model"].certificate(audit=True)
    assert certificate.ids == [3, 141]
    assert certificate.audit["difference"] < 1e-9
    assert made["lower"] < made["X"][0, 0] < made["upper"]
    assert "141" in capsys.readouterr().out


def test_the_second_snippet_fills_every_gap():
    made = run_snippet("fill_gaps")
    scale = made["X"].std()
    errors = ((made["filled"] - made["X"]) / scale)[made["gaps"].isna()].abs()
    by_means = ((made["gaps"].mean() - made["X"]) / scale)[made["gaps"].isna()].abs()
    assert not made["filled"].isna().any(axis=None)
    assert errors.mean(axis=None) < 0.75 * by_means.mean(axis=None)


def test_the_third_snippet_detects_strangers(capsys):
    made = run_snippet("detect_strangers")
    assert capsys.readouterr().out == "[-1 -1 -1 -1 -1]\n"
    assert (made["detector"].predict(made["X"] / 16) == 1).mean() > 0.9


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_the_guide_examples_run(page):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testfile(str(page), module_relative=False, optionflags=flags).failed == 0


def test_files_linked_from_the_readme_exist():
    paths = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@every_guide_page
def test_a_guide_page_has_its_parts(page):
    text = page.read_text()
    for heading in ("Parameters that matter", "Cost", "References"):
        assert re.search(rf"^{heading}.*\n[=-]+$", text, re.MULTILINE), heading
    assert ">>> " in text
    assert ".. math::" in text


@every_guide_page
def test_guide_pictures_have_a_source(page):
    """A picture is a file in docs, or an example draws it; the build warns of missing ones."""
    paths = re.findall(r"^\.\. (?:figure|image):: (.*)$", page.read_text(), re.MULTILINE)
    assert paths
    for path in paths:
        drawn = re.fullmatch(r"\.\./auto_examples/images/sphx_glr_(plot_\w+)_\d{3}\.png", path)
        source = DOCS / "examples" / f"{drawn[1]}.py" if drawn else page.parent / path
        assert source.exists(), path


@every_guide_page
def test_guide_pages_link_to_the_benchmark_page(page):
    written = set(re.findall(r"^\((bench-[\w-]+)\)=$", _page.PAGE.read_text(), re.MULTILINE))
    links = set(re.findall(r"<(bench-[\w-]+)>", page.read_text()))
    assert links
    assert links <= written


def test_the_guide_links_to_every_benchmark():
    text = "".join(page.read_text() for page in GUIDE)
    assert [name for name in methods() if f"<{_page.anchor(name)}>" not in text] == []
