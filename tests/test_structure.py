"""The package keeps its structure: folders, imports, inheritance, and short ways to formulas."""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections import Counter
from dataclasses import fields
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

import sklearn_ext
from tests.instances import instance

ROOT = Path(sklearn_ext.__file__).parent
LARGEST_FOLDER = 10
LONGEST_TEST_NAME = 60
METHODS = (
    "LAB",
    "DeKRR",
    "imputer",
    "MUSO",
    "NatMU",
    "SFRon",
    "OrthLoss",
    "diffusion disparity",
    "MEHL-Soup",
    "Flat-LoRA",
)
MOST_FRAMES = 5  # from a public `fit` to the central formula of a method
# Imports go from a folder to those of a lower layer only. Method folders share one layer.
LAYERS = {"utils": 0, "metrics": 1, "neural": 2, "generative": 3, "inspection": 5}
METHOD_LAYER = 4
VERSION = "sklearn_ext._version"


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def is_for_type_checkers(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def import_nodes(tree):
    """Yield all imports of a module, including those inside functions, except for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif not is_for_type_checkers(node):
            yield from import_nodes(node)


def imported_modules(name):
    """Yield the modules of the package that a module imports."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in import_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
            continue
        base = node.module or ""
        if node.level:
            parent = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parent, *([node.module] if node.module else [])])
        if base in MODULES:
            submodules = [f"{base}.{alias.name}" for alias in node.names]
            found = [module for module in submodules if module in MODULES]
            yield from found or [base]


IMPORTS = {name: set(imported_modules(name)) - {"sklearn_ext"} for name in MODULES}


def folder(name):
    return (*name.split("."), "")[1]


def layer(name):
    return LAYERS.get(folder(name), METHOD_LAYER)


def test_no_folder_has_more_than_ten_modules():
    sizes = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    assert {path.name: n for path, n in sizes.items() if n > LARGEST_FOLDER} == {}


def test_imports_lead_to_lower_layers_only():
    upward = [
        (name, target)
        for name, targets in IMPORTS.items()
        for target in targets
        if folder(name)
        and target != VERSION
        and folder(name) != folder(target)
        and layer(target) >= layer(name)
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError, which shows the circle


def classes_of_the_package():
    for info in pkgutil.walk_packages([str(ROOT)], "sklearn_ext."):
        module = importlib.import_module(info.name)
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__ == info.name:
                yield cls


def public_objects():
    packages = map(importlib.import_module, MODULES)
    names = ((package, name) for package in packages for name in getattr(package, "__all__", ()))
    return {id(getattr(package, name)) for package, name in names}


def test_no_private_base_class_has_a_single_child():
    children = {}
    for cls in set(classes_of_the_package()):
        for base in cls.__bases__:
            if base.__module__.startswith("sklearn_ext."):
                children.setdefault(base, []).append(cls.__name__)
    public = public_objects()
    alone = {
        base.__qualname__: found
        for base, found in children.items()
        if len(found) == 1 and id(base) not in public and not getattr(base, "_is_protocol", False)
    }
    assert alone == {}


def configs_made_by(Estimator):
    """Yield each config that an estimator makes, the names of its fields and those that are set."""
    for cls in Estimator.__mro__:
        if not cls.__module__.startswith("sklearn_ext."):
            continue
        for call in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls)))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("Config"):
                config = getattr(sys.modules[cls.__module__], ast.unparse(call.func))
                names = [field.name for field in fields(config)]
                given = {word.arg for word in call.keywords} | set(names[: len(call.args)])
                yield config, set(names), given


@pytest.mark.parametrize(("name", "Estimator"), sklearn_ext.all_estimators())
def test_parameters_are_passed_on_to_the_config(name, Estimator):
    parameters = set(inspect.signature(Estimator.__init__).parameters)
    for config, names, given in configs_made_by(Estimator):
        if None in given:  # passed as **settings
            continue
        forgotten = names & parameters - given
        assert not forgotten, f"{name} does not pass {forgotten} to {config.__name__}"


def test_test_names_are_short_enough_to_read():
    source = "\n".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    names = re.findall(r"^ *def (test_\w+)", source, flags=re.MULTILINE)
    assert [name for name in names if len(name) > LONGEST_TEST_NAME] == []


def frames_between_fit_and(formula, fit):
    """Return the fewest frames of the package from a call of `fit` to a formula, both included."""
    code, fewest = inspect.unwrap(formula).__code__, []

    def count(frame, event, _):
        if event != "call" or frame.f_code is not code:
            return
        n_frames, up_to_fit = 0, None
        while frame is not None:
            if str(ROOT) in frame.f_code.co_filename:
                n_frames += 1
                if frame.f_code.co_name == "fit":
                    up_to_fit = n_frames
            frame = frame.f_back
        fewest.append(up_to_fit)

    sys.setprofile(count)
    try:
        fit()
    finally:
        sys.setprofile(None)
    return min(fewest)


def formulas():
    """Return the function with the central formula of each method, and a call of `fit`."""
    from sklearn_ext import decentralized, impute, kernel_regression, lora, ood, soup
    from sklearn_ext.unlearning import networks, steps

    X, y = load_iris(return_X_y=True)
    forget = np.arange(len(y)) % 10 == 0
    incomplete = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.2, np.nan, X)
    net = sklearn_ext.NetClassifier(max_epochs=2, random_state=0).fit(X, y)
    target = X[:, 3]
    return {
        "LAB": (
            kernel_regression.outer_loss,
            lambda: sklearn_ext.LABRidgelessRegressor(max_iter=1).fit(X[:, :3], target),
        ),
        "DeKRR": (
            decentralized.consensus_system,
            lambda: sklearn_ext.DecentralizedRFKRR(n_components=10).fit(X[:, :3], target),
        ),
        "imputer": (
            impute.conditional_gaussian,
            lambda: sklearn_ext.SupervisedKernelImputer().fit(incomplete, y),
        ),
        "MUSO": (
            networks.projected_scores,
            lambda: sklearn_ext.MUSOUnlearner(net, label_model="projection", max_epochs=1).fit(
                X, y, forget=forget
            ),
        ),
        "NatMU": (
            networks.blend,
            lambda: sklearn_ext.NatMUUnlearner(net, max_epochs=1).fit(X, y, forget=forget),
        ),
        "SFRon": (
            steps.balanced_mask,
            lambda: sklearn_ext.SFRonUnlearner(net, max_iter=1).fit(X, y, forget=forget),
        ),
        "diffusion disparity": (
            ood.feature_disparity,
            lambda: sklearn_ext.DiffusionOODDetector(net).fit(X, y),
        ),
        "OrthLoss": (
            ood.separation_loss,
            lambda: sklearn_ext.OrthLossOODDetector(net, max_epochs=1).fit(X, y),
        ),
        "MEHL-Soup": (
            soup.coefficient_gradient,
            lambda: sklearn_ext.MEHLSoup(n_ingredients=2, min_iter=1, max_epochs=1).fit(X, y),
        ),
        "Flat-LoRA": (
            lora.noise_scale,
            lambda: instance(sklearn_ext.FlatLoRAClassifier).set_params(max_epochs=1).fit(X, y),
        ),
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", METHODS)
def test_the_formula_is_at_most_five_frames_from_fit(method):
    formula, fit = formulas()[method]
    assert frames_between_fit_and(formula, fit) <= MOST_FRAMES
