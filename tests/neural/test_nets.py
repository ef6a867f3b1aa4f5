"""The classifier and the regressor on skorch nets."""

import copy
import pickle
import warnings

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
from torch.nn.utils import parametrize

from sklearn_ext.neural import (
    MLP,
    NetClassifier,
    NetRegressor,
    SmallCNN,
    net_from_module,
    seeded,
)


@pytest.fixture(autouse=True)
def seeded_modules():
    with seeded(0):
        yield


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
    with pytest.raises(ValueError, match="not among the classes"):
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


class TwoInputs(nn.Module):
    """A model with the inputs and outputs of those in the transformers library."""

    def __init__(self):
        super().__init__()
        self.embedding, self.classifier = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        weights = attention_mask / attention_mask.sum(dim=1, keepdim=True)
        pooled = (self.embedding(input_ids) * weights[:, :, None]).sum(dim=1)
        return {"hidden": pooled, "logits": self.classifier(pooled)}


def test_a_trained_module_becomes_a_fitted_net(iris):
    X, y = iris
    trained = NetClassifier(nn.Linear(4, 3), random_state=0).fit(X, y)
    net = net_from_module(trained.module_, classes=trained.classes_)
    np.testing.assert_array_equal(net.predict_proba(X), trained.predict_proba(X))
    np.testing.assert_array_equal(net.predict(X), trained.predict(X))
    before = trained.module_.weight.detach().clone()
    net.partial_fit(X, y)
    assert torch.equal(trained.module_.weight, before)
    names = np.array(["c", "b", "a"])
    renamed = net_from_module(trained.module_, classes=names)
    np.testing.assert_array_equal(
        renamed.predict(X), names[trained.predict_proba(X).argmax(axis=1)]
    )
    assert net_from_module(nn.Linear(4, 7)).classes_.tolist() == list(range(7))
    regressor = net_from_module(nn.Linear(4, 1), criterion=nn.MSELoss)
    assert regressor.predict(X).shape == (150, 1)
    with pytest.raises(ValueError, match="pass classes"):
        net_from_module(nn.Conv1d(1, 1, 1))
    with pytest.raises(TypeError, match="must be an instance"):
        net_from_module(nn.Linear)


def test_a_model_with_named_inputs_and_outputs_is_wrapped():
    rng = np.random.RandomState(0)
    X = {"input_ids": rng.randint(20, size=(60, 5)), "attention_mask": np.ones((60, 5))}
    y = X["input_ids"][:, 0] % 3
    net = net_from_module(TwoInputs(), lr=0.05, random_state=0)
    assert net.predict_proba(X).shape == (60, 3)
    assert net.partial_fit(X, y).score(X, y) > 0.6


def test_given_classes_do_not_permute_labels_and_may_be_absent(iris):
    X, y = iris
    net = NetClassifier(nn.Linear(4, 3), random_state=0, max_epochs=5)
    expected = net.fit(X, y).predict(X)
    net.set_params(classes=["virginica", "setosa", "versicolor"]).fit(X, y)
    assert net.classes_.tolist() == np.unique(y).tolist()
    np.testing.assert_array_equal(net.predict(X), expected)
    net = NetClassifier(classes=[*np.unique(y), "none"], max_epochs=1).fit(X, y)
    assert net.predict_proba(X).shape == (150, 4)
    with pytest.raises(ValueError, match="not among the classes"):
        NetClassifier(classes=["setosa", "virginica"]).fit(X, y)
    with pytest.raises(ValueError, match="distinct labels"):
        net_from_module(nn.Linear(4, 3), classes=["a", "b", "b"])


def test_an_initialized_net_takes_its_classes_from_y(iris, tmp_path):
    X, y = iris
    trained = NetClassifier(nn.Linear(4, 3), random_state=0, max_epochs=5).fit(X, y)
    trained.save_params(f_params=tmp_path / "weights.pt")
    net = NetClassifier(nn.Linear(4, 3), max_epochs=0).initialize()
    net.load_params(f_params=tmp_path / "weights.pt")
    np.testing.assert_array_equal(net.predict(X), trained.predict_proba(X).argmax(axis=1))
    net.partial_fit(X, y)
    np.testing.assert_array_equal(net.predict(X), trained.predict(X))


def test_changed_module_parameters_discard_weights_and_warn(iris):
    net = NetClassifier(max_epochs=1).fit(*iris)
    with pytest.warns(UserWarning, match=r"set_params\(module__hidden_sizes\) .* weights are lost"):
        net.set_params(module__hidden_sizes=(7,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.set_params(lr=0.1, max_epochs=2)
        NetClassifier(max_epochs=1).set_params(module__hidden_sizes=(7,))


def test_log_probabilities_are_recognized_by_the_criterion(iris):
    X, y = iris
    for last in (nn.LogSoftmax(dim=1), nn.Softmax(dim=1)):
        module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), last)
        net = NetClassifier(module, criterion=nn.NLLLoss, lr=0.02, random_state=0).fit(X, y)
        assert net.score(X, y) > 0.9
        np.testing.assert_allclose(net.predict_proba(X).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_modules_in_other_precisions_are_trained_and_predict(dtype, iris):
    X, y = iris
    net = NetClassifier(nn.Linear(4, 3).to(dtype), optimizer=torch.optim.SGD, lr=0.1).fit(X, y)
    assert net.module_.weight.dtype == dtype
    assert net.score(X, y) > 0.8


def test_mixed_precision_keeps_the_weights_in_full_precision(iris):
    X, y = iris
    seen = []
    module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    module[1].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    net = NetClassifier(module, precision="bf16", lr=0.02, random_state=0).fit(X, y)
    assert set(seen) == {torch.bfloat16}
    assert net.module_[0].weight.dtype == torch.float32
    assert net.score(X, y) > 0.9
    with pytest.raises(ValueError, match="precision must be one of"):
        NetClassifier(precision="fp8").fit(X, y)


class Local:
    """A namespace for a function that makes modules which cannot be pickled."""

    @staticmethod
    def module():
        class Module(nn.Sequential):
            def __init__(self):
                super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
                self.act = lambda z: z.relu()
                self[0].register_forward_hook(lambda layer, args, output: self.act(output))
                parametrize.register_parametrization(self[2], "weight", nn.Tanh())

        return Module()


@pytest.mark.parametrize("compile", [False, True])
def test_nets_are_copied_without_pickling(compile, iris):
    X, y = iris
    compiled = {"compile": True, "compile__backend": "eager"} if compile else {}
    net = NetClassifier(Local.module(), max_epochs=2, random_state=0, **compiled).fit(X, y)
    copied = copy.deepcopy(net)
    before = net.predict_proba(X)
    np.testing.assert_array_equal(copied.predict_proba(X), before)
    copied.partial_fit(X, y)  # its optimizer works on its own parameters
    assert np.abs(copied.predict_proba(X) - before).max() > 0
    np.testing.assert_array_equal(net.predict_proba(X), before)


def test_a_module_that_cannot_be_copied_is_named(iris):
    layer = nn.Linear(4, 3)
    layer.computed = layer.weight * 2
    with pytest.raises(TypeError, match="Linear cannot be copied"):
        NetClassifier(layer).fit(*iris)


def test_the_refusal_of_an_absent_device_lists_the_others(iris):
    with pytest.raises(ValueError, match=r"device='cuda:99' is not available\. Available devices"):
        NetClassifier(device="cuda:99").fit(*iris)


def test_batch_norm_without_running_statistics_is_not_probed(iris):
    order = np.random.RandomState(0).permutation(150)
    X, y = (part[order] for part in iris)
    module = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    assert NetClassifier(module, lr=0.05, random_state=0).fit(X, y).score(X, y) > 0.6


def test_lazy_modules_learn_their_sizes_in_fit(iris):
    X, y = iris
    module = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    assert NetClassifier(module, lr=0.02, random_state=0).fit(X, y).score(X, y) > 0.8
