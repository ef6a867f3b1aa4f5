import sys
import warnings

import numpy as np
import pytest
from numba.core import caching
from numba.core.dispatcher import Dispatcher

import sklearn_ext
from sklearn_ext.utils import _arrays
from tests.instances import fitted


def double(x):
    for i in range(x.size):
        x[i] *= 2.0


@pytest.fixture
def no_writable_folder(monkeypatch):
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    _arrays._warn_without_cache.cache_clear()
    yield
    _arrays._warn_without_cache.cache_clear()


def test_without_a_writable_folder_functions_still_compile(no_writable_folder):
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR"):
        first = _arrays.compiled(double)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one warning per process is enough
        second = _arrays.compiled(double)
    for function in (first, second):
        x = np.ones(3)
        function(x)
        np.testing.assert_array_equal(x, 2.0)
        assert function.nopython_signatures


def test_machine_code_is_cached_where_a_folder_is_writable(monkeypatch, tmp_path):
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    _arrays.compiled(double)(np.ones(3))
    assert list(tmp_path.rglob("*.nbc"))


def test_fits_compile_at_most_two_versions_of_a_function():
    for name in ("LABRidgelessRegressor", "DecentralizedRFKRR", "SupervisedKernelImputer"):
        fitted(getattr(sklearn_ext, name))
    versions = {
        f"{name}.{key}": len(value.signatures)
        for name, module in list(sys.modules.items())
        if name.startswith("sklearn_ext.")
        for key, value in vars(module).items()
        if isinstance(value, Dispatcher)
    }
    for name in (
        "kernel_regression.engines._lab_engine_numba._kernel",
        "impute.gaussian._conditional._complete",
    ):
        assert versions[f"sklearn_ext.{name}"] >= 1
    # Single and double precision; a constant as an argument would be a type of its own.
    assert {name: n for name, n in versions.items() if n > 2} == {}
