import types
import warnings

import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ext.utils._warnings import warn_caller


def inside(name, source):
    """Return the function `run` that the source defines in a module of this name."""
    module = types.ModuleType(name)
    exec(source, vars(module))
    return module.run


def test_a_warning_points_at_the_first_line_outside():
    with pytest.warns(FutureWarning, match="soon") as record:
        warn_caller("soon", FutureWarning)
    assert record[0].filename == __file__
    inner = inside("sklearn_ext._helpers", "def run(warn): warn('here')")
    outer = inside("skorch.net", "def run(inner, warn): inner(warn)")
    with pytest.warns(UserWarning, match="here") as record:
        outer(inner, warn_caller)
    assert record[0].filename == __file__


def test_pipelines_are_passed_through():
    step = FunctionTransformer(inside("sklearn_ext._step", "def run(X): warn('here'); return X"))
    step.func.__globals__["warn"] = warn_caller
    with pytest.warns(UserWarning, match="here") as record:
        make_pipeline(step).fit_transform([[1.0]])
    assert record[0].filename == __file__


def test_the_search_ends_without_an_outside_caller():
    source = "def run(warn): warn('here')"
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        inside("my_code", source)(warn_caller)
    assert record[0].filename == "<string>"
