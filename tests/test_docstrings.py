"""Docstrings of public objects are complete, true, and equal where parameters are equal."""

import ast
import doctest
import inspect
import re
import textwrap
from pathlib import Path

import pytest
import skorch
from numpydoc.docscrape import ClassDoc, FunctionDoc
from sklearn.base import BaseEstimator
from sklearn.utils._testing import assert_docstring_consistency

import sklearn_ext
from sklearn_ext.utils import all_estimators
from tests.instances import fitted, instances

# Attributes that skorch sets and documents.
SKORCH_ATTRIBUTES = {
    "callbacks_",
    "classes_inferred_",
    "criterion_",
    "cuda_dependent_attributes_",
    "history_",
    "init_context_",
    "initialized_",
    "optimizer_",
    "prefixes_",
    "virtual_params_",
}
API_PAGE = Path(__file__).parents[1] / "docs" / "api.rst"


def public_objects():
    """Return the classes and functions of all public modules by their shortest name."""
    modules = [sklearn_ext]
    found = {}
    for module in modules:  # which grows: public modules can have public modules
        for name in getattr(module, "__all__", ()):
            obj = getattr(module, name)
            if inspect.ismodule(obj):
                modules.append(obj)
            elif inspect.isclass(obj) or inspect.isfunction(obj):
                found.setdefault(obj, f"{module.__name__}.{name}")
    return {name: obj for obj, name in found.items()}


def public_callables():
    """Yield the public objects and the public methods of their classes."""
    for name, obj in public_objects().items():
        yield pytest.param(obj, id=name)
        if inspect.isclass(obj):
            for cls in (c for c in obj.__mro__ if c.__module__.startswith("sklearn_ext.")):
                for method, member in vars(cls).items():
                    function = getattr(member, "__func__", member)
                    function = inspect.unwrap(function) if callable(function) else function
                    if not method.startswith("_") and inspect.isfunction(function):
                        yield pytest.param(function, id=f"{name}.{method}")


def signature_names(obj):
    """Return the names of the parameters as in a docstring: with stars, without self and cls."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(obj).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in parameters if p.name not in ("self", "cls")]


def documented_names(section):
    return [name.strip() for entry in section for name in entry.name.split(",")]


every_object = pytest.mark.parametrize(
    ("name", "obj"), [pytest.param(name, obj, id=name) for name, obj in public_objects().items()]
)


def public(condition):
    return [pytest.param(o, id=name) for name, o in public_objects().items() if condition(o)]


def is_estimator(obj):
    return inspect.isclass(obj) and issubclass(obj, BaseEstimator)


@every_object
def test_the_api_page_lists_every_public_object(name, obj):
    listed = re.findall(r"^ +([\w.]+)$", API_PAGE.read_text(), flags=re.MULTILINE)
    assert name.removeprefix("sklearn_ext.") in listed


@every_object
def test_every_public_object_has_a_doctest(name, obj):
    assert doctest.DocTestParser().get_examples(obj.__doc__)


@pytest.mark.parametrize("obj", list(public_callables()))
def test_documented_parameters_are_those_of_the_signature(obj):
    doc = ClassDoc(obj) if inspect.isclass(obj) else FunctionDoc(obj)
    assert doc["Summary"], "a summary line is missing"
    names = documented_names(doc["Parameters"] + doc["Other Parameters"])
    assert names == signature_names(obj)


@pytest.mark.parametrize("obj", public(inspect.isfunction))
def test_public_functions_are_annotated(obj):
    signature = inspect.signature(obj)
    untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert untyped == []
    assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize("obj", public(is_estimator))
def test_an_estimator_names_its_source(obj):
    assert ClassDoc(obj)["References"]


@pytest.mark.parametrize("obj", public(lambda obj: True))
def test_docstrings_stand_whole_in_the_source(obj):
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(obj)))
    assert ast.get_docstring(ast.parse(source).body[0]) == inspect.getdoc(obj)


def ending_with(suffix):
    return [name for name, _ in all_estimators() if name.endswith(suffix)]


# Families of classes with parameters in common; the parameters whose meaning differs, and those
# whose types or defaults differ.
FAMILIES = {
    "LAB": (["LABRidgelessRegressor", "LABRidgelessClassifier"], [], ()),
    "decentralized": (["DecentralizedRFKRR", "DecentralizedRFClassifier"], [], ()),
    "random features": (["RandomFeatureRegressor", "RandomFeatureClassifier"], [], ()),
    "expected kernel": (
        ["SupervisedKernelImputer", "SupervisedKernelClassifier"],
        ["C", "kappa", "max_iter", "max_landmarks", "random_state", "tol"],
        (),
    ),
    "nets": (["NetClassifier", "NetRegressor"], ["criterion"], ()),
    "Flat-LoRA": (["FlatLoRAClassifier", "FlatLoRARegressor"], ["**params"], ()),
    "noise in loops": (["FlatLoRACallback", "FlatLoRATrainerCallback", "flat_lora"], ["sigma"], ()),
    "soups": (
        [
            *["UniformSoup", "GreedySoup", "LearnedSoup", "MEHLSoup"],
            *["WiSEFT", "TaskArithmetic", "TIES", "DARE"],
            *["ModelStock", "RegMean", "LayerwiseLinear"],
        ],
        ["weights", "scaling", "density", "normalize", "layerwise"],
        ("learning_rate", "batch_size"),
    ),
    "detectors": (
        ending_with("OODDetector"),
        ["estimator", "outlier_label", "random_state", "validation_fraction"],
        (),
    ),
    "unlearners": (
        ending_with("Unlearner"),
        ["learning_rate", "optimizer", "weight_decay", "verbose"],
        (),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_parameters_are_described_equally(family):
    names, different, types = FAMILIES[family]
    assert_docstring_consistency(
        [getattr(sklearn_ext, name) for name in names],
        include_params=True,
        exclude_params=different,
        include_attrs=["n_features_in_", "feature_names_in_"],
        ignore_types=types,
    )


@pytest.mark.parametrize(
    "estimator", [pytest.param(est, id=type(est).__name__) for est in instances()]
)
def test_fitted_attributes_are_documented_and_exist(estimator):
    estimator, _ = fitted(type(estimator))
    documented = set(documented_names(ClassDoc(type(estimator))["Attributes"]))
    public = {name for name in vars(estimator) if re.fullmatch(r"[a-zA-Z]\w*[^_]_", name)}
    if isinstance(estimator, skorch.NeuralNet):
        public -= SKORCH_ATTRIBUTES
    assert public <= documented
    # The names of features exist after a fit to a data frame, which tests/test_common.py checks.
    missing = {name for name in documented if not hasattr(estimator, name)}
    assert missing == {"feature_names_in_"}
