"""Importing the package is cheap, and completion and type checkers find every name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_ext

HEAVY = {"torch", "numba", "matplotlib", "skorch", "pandas", "polars", "safetensors"}
STUB = Path(sklearn_ext.__file__).with_suffix(".pyi")


def run(code, *options):
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def stub_names():
    imports = (
        node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)
    )
    return [alias.asname or alias.name for node in imports for alias in node.names]


def test_importing_the_package_loads_no_heavy_module():
    loaded = run("import sys, sklearn_ext; print(*sys.modules)")
    assert "sklearn_ext" in loaded
    assert sorted(HEAVY.intersection(loaded)) == []


def test_the_import_raises_no_warning():
    run("import sklearn_ext", "-W", "error")


def test_every_name_of_the_stub_can_be_imported():
    names = stub_names()
    assert set(names) | {"__version__"} == set(sklearn_ext.__all__)
    assert set(names) <= set(dir(sklearn_ext))
    for name in names:
        assert getattr(sklearn_ext, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Ridgless"):
        sklearn_ext.LABRidglessRegressor  # noqa: B018
