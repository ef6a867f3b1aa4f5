"""The classifier and the regressor on skorch nets."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from torch import nn

from sklearn_ext.neural import (
    MLP,
    NetClassifier,
    NetRegressor,
    SmallCNN,
)


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), np.array(["setosa", "versicolor", "virginica"])[y]


def test_labels_may_be_strings(iris):
    X, y = iris
    net = NetClassifier(random_state=0).fit(X, y)
    assert net.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert np.mean(net.predict(X) == y) > 0.9
    np.testing.assert_allclose(net.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


def test_the_default_network_depends_on_the_shape_of_x():
    X, y = load_digits(return_X_y=True)
    X, y = X[:200] / 16, y[:200]
    assert isinstance(NetClassifier(max_epochs=1).fit(X, y).module_, MLP)
    for images in (X.reshape(-1, 8, 8), X.reshape(-1, 1, 8, 8)):
        net = NetClassifier(max_epochs=1).fit(images, y)
        assert isinstance(net.module_, SmallCNN)
        assert net.predict(images).shape == (200,)
    color = np.repeat(X.reshape(-1, 1, 8, 8), 3, axis=1)
    assert NetClassifier(max_epochs=1).fit(color, y).module_.body[0].in_channels == 3
    with pytest.raises(ValueError, match=r"must have shape \(3, 8, 8\)"):
        NetClassifier(max_epochs=1).fit(color, y).predict(color[:, :, :7])


def test_fits_depend_on_the_seed_alone(iris):
    X, y = iris
    before = torch.get_rng_state()
    probabilities = [
        NetClassifier(random_state=seed, max_epochs=2).fit(X, y).predict_proba(X)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    assert np.abs(probabilities[0] - probabilities[2]).max() > 0.01


def test_every_fit_starts_from_the_unchanged_module(iris):
    X, y = iris
    module = nn.Linear(4, 3)
    before = copy.deepcopy(module.state_dict())
    net = NetClassifier(module, random_state=0, max_epochs=2)
    first, second = (net.fit(X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    hardly_moved = NetClassifier(module, lr=1e-9, max_epochs=1).fit(X, y).module_
    torch.testing.assert_close(hardly_moved.weight, module.weight)


def test_module_parameters_can_be_searched(iris):
    X, y = iris
    search = GridSearchCV(
        make_pipeline(StandardScaler(), NetClassifier(MLP, random_state=0, max_epochs=3)),
        {"netclassifier__module__hidden_sizes": [(4,), (8, 8)]},
        cv=2,
    )
    search.set_params(
        estimator__netclassifier__module__n_features=4,
        estimator__netclassifier__module__n_outputs=3,
    )
    search.fit(X, y)
    widths = search.best_params_["netclassifier__module__hidden_sizes"]
    module = search.best_estimator_[-1].module_
    assert [m.out_features for m in module if isinstance(m, nn.Linear)] == [*widths, 3]


def test_the_default_network_takes_parameters(iris):
    net = NetClassifier(module__hidden_sizes=(7,), max_epochs=1).fit(*iris)
    assert net.module_[1].out_features == 7


def test_partial_fit_and_warm_start_continue_training(iris):
    X, y = iris
    net = NetClassifier(random_state=0, max_epochs=1).partial_fit(
        X[:10], y[:10], classes=np.unique(y)
    )
    assert net.classes_.tolist() == np.unique(y).tolist()
    before = net.module_[1].weight.detach().clone()
    net.partial_fit(X, y)
    moved = (net.module_[1].weight - before).abs().max().item()
    assert 0 < moved < 0.1
    assert len(net.history_) == 2
    warm = NetClassifier(random_state=0, max_epochs=1, warm_start=True).fit(X, y).fit(X, y)
    assert len(warm.history_) == 2
    with pytest.raises(ValueError, match="none of the classes"):
        net.partial_fit(X, np.full(len(X), "rosa"))


def test_a_failed_fit_leaves_no_model(iris):
    X, y = iris
    net = NetClassifier(max_epochs=1, module__no_such=1)
    with pytest.raises(TypeError):
        net.fit(X, y)
    assert not net.initialized_


@pytest.mark.parametrize("params", [{}, {"warm_start": True}])
def test_failed_training_restores_a_fitted_net(params, iris):
    X, y = iris
    net, twin = (NetClassifier(random_state=0, max_epochs=2, **params).fit(X, y) for _ in range(2))
    method = "fit" if params else "partial_fit"
    before = net.predict_proba(X)
    net.set_params(lr=1e38)
    with pytest.raises(ValueError, match=r"training loss is .* in epoch [34] at lr=1e\+38"):
        getattr(net, method)(X, y)
    np.testing.assert_array_equal(net.predict_proba(X), before)
    assert len(net.history_) == 2
    net.set_params(lr=twin.lr)
    after, expected = (getattr(each, method)(X, y).predict_proba(X) for each in (net, twin))
    np.testing.assert_array_equal(after, expected)


def test_regressor_takes_one_or_several_targets():
    X, y = load_diabetes(return_X_y=True)
    X, y = scale(X), scale(y)
    one = NetRegressor(random_state=0).fit(X, y)
    assert one.predict(X).shape == y.shape
    assert one.score(X, y) > 0.5
    two = NetRegressor(random_state=0).fit(X, np.column_stack([y, -y]))
    assert two.predict(X).shape == (len(y), 2)
    assert two.score(X, np.column_stack([y, -y])) > 0.5
    assert one.partial_fit(X, y[:, None]).predict(X).shape == y.shape


def test_pickled_nets_predict_and_continue_training(iris):
    X, y = iris
    net = NetClassifier(random_state=0, max_epochs=2).fit(X, y)
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))
        other.partial_fit(X, y)
        assert np.abs(other.predict_proba(X) - net.predict_proba(X)).max() > 0


def test_validation_data_are_scored_by_their_labels(iris):
    X, y = iris
    stop = EarlyStopping(monitor="valid_acc", lower_is_better=False, patience=30)
    net = NetClassifier(train_split=ValidSplit(5), callbacks=[stop], random_state=0).fit(X, y)
    assert net.history_[-1, "valid_acc"] > 0.8
    targets = np.column_stack([X[:, 0], -X[:, 0]])
    for target in (X[:, 0], targets):
        net = NetRegressor(train_split=ValidSplit(5), random_state=0).fit(X, target)
        assert net.history_[-1, "valid_loss"] < 0.2


@pytest.mark.parametrize("n_outputs", [2, 5])
def test_a_wrong_number_of_outputs_is_rejected(n_outputs, iris):
    net = NetClassifier(nn.Linear(4, n_outputs), max_epochs=1)
    with pytest.raises(ValueError, match=rf"shape \(32, {n_outputs}\) for.*require \(32, 3\)"):
        net.fit(*iris)
    with pytest.raises(NotFittedError):
        net.predict(iris[0])


def test_outputs_that_would_broadcast_are_rejected(iris):
    X = iris[0]
    with pytest.raises(ValueError, match=r"\(32, 3\) for 32 samples, but y requires \(32, 1\)"):
        NetRegressor(nn.Linear(4, 3), max_epochs=1).fit(X[:, :4], X[:, 0])


def test_squeezed_outputs_of_a_regressor_match_one_column(iris):
    X = iris[0]
    layer = nn.Linear(4, 1)
    flat, column = (
        NetRegressor(module, max_epochs=2, random_state=0).fit(X, X[:, 0]).predict(X)
        for module in (nn.Sequential(layer, nn.Flatten(0)), layer)
    )
    assert flat.shape == (len(X),)
    np.testing.assert_array_equal(flat, column)
