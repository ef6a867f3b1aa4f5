"""Importing the package is cheap, and completion and type checkers find every name."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
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


FIT_WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "skorch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

if "absent" in sys.argv:
    sys.meta_path.insert(0, Absent())

import warnings
import numpy as np
import sklearn_ext as s

warnings.simplefilter("ignore")
X = np.random.default_rng(0).uniform(size=(60, 3))
y, labels, node = X.sum(axis=1), np.arange(60) % 3, np.arange(60) % 2
gaps = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
lab = {"n_support": 8, "n_warmup": 4, "growth": None, "max_iter": 4, "random_state": 0}
s.LABRidgelessRegressor(**lab).fit(X, y).predict(X)
s.LABRidgelessClassifier(**lab).fit(X, labels).predict_proba(X)
s.DecentralizedRFKRR(n_components=20).fit(X, y, node=node).predict(X)
s.DecentralizedRFClassifier(n_components=20).fit(X, labels, node=node).predict(X)
s.SupervisedKernelImputer().fit(gaps, labels).transform(gaps)
s.SupervisedKernelClassifier().fit(gaps, labels).predict(gaps)
s.RandomFeatureRegressor(30).fit(X, y).forget([1]).predict(X)
s.RandomFeatureClassifier(30).fit(X, labels).forget([1]).predict(X)
pipeline = s.make_forgetting_pipeline(s.ForgettingScaler(), s.RandomFeatureRegressor(30))
pipeline.fit(X, y).forget([1]).predict(X)
assert not {"torch", "skorch"} & set(sys.modules)
"""


@pytest.mark.parametrize("torch_is", ["installed", "absent"])
def test_tables_are_fitted_without_torch(torch_is):
    command = [sys.executable, "-c", FIT_WITHOUT_TORCH, torch_is]
    subprocess.run(command, check=True)


PREDICT = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    net, X = pickle.load(file)
net.predict(X)
assert "torch._dynamo" not in sys.modules
"""


def test_a_stored_net_predicts_without_torchs_compiler(tmp_path):
    X = np.random.default_rng(0).uniform(size=(40, 3))
    net = sklearn_ext.NetClassifier(max_epochs=1, random_state=0).fit(X, np.arange(40) % 2)
    path = tmp_path / "net.pickle"
    path.write_bytes(pickle.dumps((net, X)))
    subprocess.run([sys.executable, "-c", PREDICT, str(path)], check=True)
