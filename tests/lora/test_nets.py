"""The estimators: frozen weights, the noise of each step, merging, saving and loading."""

import copy
import pickle

import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from torch import nn

from sklearn_ext import FlatLoRAClassifier, FlatLoRARegressor, NetClassifier
from sklearn_ext.lora import AdapterConfig, lora_layers, noise_strength, save_adapter
from sklearn_ext.neural import MLP, load_tensors, save_tensors, seeded
from tests.lora.layers import SmallNet

X, y = load_digits(return_X_y=True)
X, y = (X[:160] / 16).astype(np.float32), y[:160]
IMAGES = X.reshape(-1, 8, 8)
QUICK = {"r": 2, "lr": 1e-2, "max_epochs": 3, "random_state": 0}


@pytest.fixture
def module():
    with seeded(0):
        return MLP(64, 10, hidden_sizes=(24, 24))


class HalfMLP(nn.Module):
    """A network whose body is stored and evaluated in bfloat16."""

    def __init__(self):
        super().__init__()
        with seeded(0):
            self.body = MLP(64, 10, hidden_sizes=(24, 24)).to(torch.bfloat16)

    def forward(self, x):
        return self.body(x.to(torch.bfloat16)).float()


def frozen_state(module):
    """Return the state without the factors, under the names before adaptation."""
    return {
        name.replace("base_layer.", ""): tensor
        for name, tensor in module.state_dict().items()
        if "lora_" not in name
    }


def assert_bits_of(module, source):
    state, expected = frozen_state(module), source.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name


class Interrupting(skorch.callbacks.Callback):
    """Store the module, and raise an error before the update of the fourth batch."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.n_calls_ = 0

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.module_ = net.module_
        self.n_calls_ += 1
        if self.n_calls_ == 4:
            raise RuntimeError("interrupted")


@pytest.mark.parametrize("perturbation", ["weight", "local"])
@pytest.mark.parametrize("Module", [lambda: MLP(64, 10), HalfMLP], ids=["float32", "bfloat16"])
def test_fitting_does_not_change_the_backbone(Module, perturbation):
    with seeded(0):
        source = Module()
    kept = copy.deepcopy(source)
    params = QUICK | {"perturbation": perturbation, "sigma": 0.3}
    net = FlatLoRAClassifier(source, **params).fit(X, y)
    assert_bits_of(net.module_, kept)
    assert any(layer.lora_B.weight.any() for layer in lora_layers(net.module_).values())
    interrupting = Interrupting()
    net = FlatLoRAClassifier(source, **params, sigma_schedule="constant", callbacks=[interrupting])
    with pytest.raises(RuntimeError, match="interrupted"):
        net.fit(X, y)
    assert_bits_of(interrupting.module_, kept)
    assert all(layer.noise is None for layer in lora_layers(interrupting.module_).values())
    with pytest.raises(NotFittedError):
        net.predict(X)
    assert_bits_of(source, kept)


def test_an_error_in_the_forward_pass_leaves_no_noise(module):
    net = FlatLoRAClassifier(module, **QUICK, sigma_schedule="constant").fit(X, y)
    trained = net.module_
    before = copy.deepcopy(trained.state_dict())

    def fail(*_):
        raise RuntimeError("no memory")

    hook = trained[-1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="no memory"):
        net.partial_fit(X, y)
    hook.remove()
    assert all(layer.noise is None for layer in lora_layers(trained).values())
    assert all(torch.equal(before[name], t) for name, t in trained.state_dict().items())
    net.predict(X)


def test_weights_in_a_read_only_file_can_be_adapted(module, tmp_path):
    path = tmp_path / "backbone.safetensors"
    save_tensors(path, module.state_dict())
    path.chmod(0o400)
    content = path.read_bytes()
    from_file, from_memory = (
        FlatLoRAClassifier(MLP, module__hidden_sizes=(24, 24), pretrained=pretrained, **QUICK)
        for pretrained in (path, module.state_dict())
    )
    expected = from_memory.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(from_file.fit(X, y).predict_proba(X), expected)
    assert path.read_bytes() == content


def test_pretrained_weights_are_loaded_at_every_fit(module):
    net = FlatLoRAClassifier(
        MLP, module__hidden_sizes=(24, 24), pretrained=module.state_dict(), **QUICK
    )
    for _ in range(2):
        net.fit(X, y)
        assert_bits_of(net.module_, module)
    clone(net).fit(X, y)


def test_a_new_head_is_trained_and_may_change_size(module):
    params = QUICK | {"modules_to_save": ["5"]}
    few_classes = y < 4
    net = FlatLoRAClassifier(
        MLP, module__hidden_sizes=(24, 24), pretrained=module.state_dict(), **params
    )
    net.fit(X[few_classes], y[few_classes])
    assert net.module_[5].weight.shape == (4, 24)
    assert net.module_[5].weight.requires_grad
    assert torch.equal(frozen_state(net.module_)["1.weight"], module[1].weight)


def test_random_base_weights_cause_a_warning():
    net = FlatLoRAClassifier(MLP, module__hidden_sizes=(24,), **QUICK)
    with pytest.warns(UserWarning, match="base weights are random") as record:
        net.fit(X, y)
    assert record[0].filename == __file__


def test_the_optimizer_gets_trainable_parameters_only(module):
    net = FlatLoRAClassifier(module, **QUICK, modules_to_save=["5"]).fit(X, y)
    held = {id(p) for group in net.optimizer_.param_groups for p in group["params"]}
    assert held == {id(p) for p in net.module_.parameters() if p.requires_grad}
    assert net.n_trainable_ == 2 * (64 + 24 + 24 + 24) + 250
    assert net.n_total_ == net.n_trainable_ + 64 * 24 + 24 + 24 * 24 + 24
    assert net.target_modules_ == ["1", "3"]
    assert net.lora_layers_["1"] == {"shape": (24, 64), "r": 2}


def test_the_strength_follows_the_schedule(module):
    net = FlatLoRAClassifier(module, **QUICK, sigma=0.2, batch_size=16).fit(X, y)
    expected = [noise_strength(t / 30, 0.2) for t in range(30)]
    np.testing.assert_allclose(net.sigma_history_, expected, rtol=1e-12)
    assert net.history_[-1, "sigma"] == net.sigma_history_[-1]


def test_partial_fit_restarts_the_schedule_without_warm_start(module):
    net = FlatLoRAClassifier(module, **QUICK, sigma=0.2).fit(X, y)
    n = len(net.sigma_history_)
    net.partial_fit(X, y)
    np.testing.assert_array_equal(net.sigma_history_[n:], net.sigma_history_[:n])
    net.set_params(warm_start=True).fit(X, y)
    assert (net.sigma_history_[2 * n :] == 0.2).all()


def test_an_iterator_without_length_schedules_by_epochs(module):
    net = FlatLoRAClassifier(module, **QUICK, sigma=0.2)
    net.set_params(iterator_train=Unsized)
    net.fit(X, y)
    assert sorted(set(net.sigma_history_)) == [noise_strength(k / 3, 0.2) for k in range(3)]


class Unsized:
    """An iterator over batches without a length."""

    def __init__(self, dataset, batch_size, shuffle):
        self.dataset = dataset
        self.batch_size = batch_size

    def __iter__(self):
        return iter(torch.utils.data.DataLoader(self.dataset, batch_size=self.batch_size))


def seeds_of_calls(net):
    """Fit, and return the seed of the first layer's noise in each forward pass of training."""
    seeds = []

    class Recording(skorch.callbacks.Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            layer = next(iter(lora_layers(net.module_).values()))
            layer.register_forward_pre_hook(
                lambda layer, _: seeds.append(layer.noise.seed) if layer.training else None
            )

    net.set_params(callbacks=[Recording()], sigma_schedule="constant").fit(X, y)
    return seeds


def test_each_step_has_its_own_noise(module):
    seeds = seeds_of_calls(FlatLoRAClassifier(module, **QUICK))
    assert len(set(seeds)) == len(seeds) == 15


def test_evaluations_of_a_closure_share_their_noise(module):
    net = FlatLoRAClassifier(
        module, **QUICK, optimizer=torch.optim.LBFGS, optimizer__max_iter=3, batch_size=80
    )
    seeds = seeds_of_calls(net)
    assert len(seeds) > 6
    assert len(set(seeds)) == 6


class Accumulating(FlatLoRAClassifier):
    """Accumulate the gradients of two batches for each update."""

    def train_step(self, batch, **fit_params):
        self.n_batches_ = getattr(self, "n_batches_", 0) + 1
        step = self.train_step_single(batch, **fit_params)
        if self.n_batches_ % 2 == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


def test_accumulated_batches_share_their_noise(module):
    seeds = seeds_of_calls(Accumulating(module, **QUICK | {"max_epochs": 2}, batch_size=40))
    assert seeds[::2] == seeds[1::2]
    assert len(set(seeds)) == len(seeds) / 2 == 4


def test_several_draws_average_their_gradients(module):
    class OneStep(skorch.callbacks.Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            self.gradients_ = {n: p.grad.clone() for n, p in named_parameters}
            self.noises_ = net._noise._draws

    probe = OneStep()
    params = QUICK | {"max_epochs": 1, "n_noise": 3, "sigma_schedule": "constant", "lr": 0}
    net = FlatLoRAClassifier(module, **params, batch_size=200, callbacks=[probe]).fit(X, y)
    layers = list(lora_layers(net.module_).values())
    net.module_.train().zero_grad()
    for noises in probe.noises_:
        for layer, noise in zip(layers, noises, strict=True):
            layer.noise = noise
        loss = nn.functional.cross_entropy(net.module_(torch.tensor(X)), torch.tensor(y))
        (loss / 3).backward()
    assert len({noise.seed for noises in probe.noises_ for noise in noises}) == 6
    for name, p in net.module_.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(p.grad, probe.gradients_[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("params", [{}, {"perturbation": "local"}, {"n_noise": 2}])
def test_storing_the_noise_does_not_change_the_fit(module, params):
    params = QUICK | params
    plain = FlatLoRAClassifier(module, **params).fit(X, y)
    stored = FlatLoRAClassifier(module, **params, store_noise=True).fit(X, y)
    np.testing.assert_array_equal(stored.predict_proba(X), plain.predict_proba(X))


def test_sigma_zero_is_plain_low_rank_adaptation(module):
    flat, plain = (
        FlatLoRAClassifier(module, **QUICK, sigma=sigma).fit(X, y) for sigma in (0.3, 0.0)
    )
    assert np.abs(flat.predict_proba(X) - plain.predict_proba(X)).max() > 1e-3
    assert not plain.sigma_history_.any()
    local = FlatLoRAClassifier(module, **QUICK, sigma=0.0, perturbation="local").fit(X, y)
    np.testing.assert_array_equal(local.predict_proba(X), plain.predict_proba(X))


def test_predictions_are_noise_free_and_survive_merging(module):
    net = FlatLoRAClassifier(module, **QUICK, sigma=0.3).fit(X, y)
    before = net.predict_proba(X)
    np.testing.assert_array_equal(net.predict_proba(X), before)
    assert net.merge() is net
    np.testing.assert_allclose(net.predict_proba(X), before, atol=1e-6)
    np.testing.assert_array_equal(net.unmerge().predict_proba(X), before)
    assert_bits_of(net.module_, module)
    plain = net.merged_module()
    assert lora_layers(plain) == {}
    assert isinstance(plain, MLP)
    logits = plain(torch.tensor(X)).softmax(dim=1).detach()
    np.testing.assert_allclose(logits, before, atol=1e-6)
    net.merge().partial_fit(X, y)
    assert np.abs(net.predict_proba(X) - before).max() > 1e-3


def test_batch_norm_statistics_are_frozen_by_default():
    with seeded(0):
        source = SmallNet(n_outputs=10)
    net = FlatLoRAClassifier(source, **QUICK).fit(IMAGES, y)
    assert torch.equal(net.module_.norm.running_mean, source.norm.running_mean)
    assert_bits_of(net.module_, source)
    net = FlatLoRAClassifier(source, **QUICK, train_norm=True).fit(IMAGES, y)
    assert not torch.equal(net.module_.norm.running_mean, source.norm.running_mean)
    assert not torch.equal(net.module_.norm.weight, source.norm.weight)
    assert not source.norm.running_mean.any()


def test_load_adapter_restores_the_estimator(module, tmp_path):
    labels = np.array([f"digit {k}" for k in y])
    net = FlatLoRAClassifier(module, **QUICK, modules_to_save=["5"]).fit(X, labels)
    net.save_adapter(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 8_000
    loaded = FlatLoRAClassifier(module).load_adapter(tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))
    assert loaded.lora_layers_ == net.lora_layers_
    assert loaded.n_features_in_ == 64
    loaded.partial_fit(X, labels)


def test_load_adapter_restores_the_shape_of_targets(module, tmp_path):
    with seeded(0):
        module = MLP(64, 1, hidden_sizes=(24,))
    net = FlatLoRARegressor(module, **QUICK).fit(X, y / 9)
    net.save_adapter(tmp_path)
    loaded = FlatLoRARegressor(module).load_adapter(tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


def test_loading_a_bare_adapter_requires_samples(module, tmp_path):
    net = FlatLoRAClassifier(module, **QUICK).fit(X, y)
    save_adapter(net.module_, tmp_path)
    unfitted = FlatLoRAClassifier(module)
    with pytest.raises(ValueError, match="Pass some samples X and their y"):
        unfitted.load_adapter(tmp_path)
    with pytest.raises(NotFittedError):
        unfitted.predict(X)
    loaded = unfitted.load_adapter(tmp_path, X[:50], y[:50])
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))


def test_load_adapter_keeps_the_parameters(module, tmp_path):
    FlatLoRAClassifier(module, **QUICK).fit(X, y).save_adapter(tmp_path)
    params = {"r": 5, "lora_config": AdapterConfig(r=4)}
    loaded = FlatLoRAClassifier(module, **params).load_adapter(tmp_path)
    assert loaded.lora_layers_["1"]["r"] == 2
    assert {name: loaded.get_params()[name] for name in params} == params
    loaded.initialize()
    assert loaded.lora_layers_["1"]["r"] == 4


def test_load_adapter_rejects_unknown_attributes(module, tmp_path):
    FlatLoRAClassifier(module, **QUICK).fit(X, y).save_adapter(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    header = {"format": "pt", "sklearn_ext": '{"predict": 1}'}
    save_tensors(path, load_tensors(path), metadata=header)
    unfitted = FlatLoRAClassifier(module)
    with pytest.raises(ValueError, match=r"unknown fields \['predict'\]"):
        unfitted.load_adapter(tmp_path)
    assert "predict" not in vars(unfitted)


def test_grid_search_over_rank_and_sigma(module):
    net = FlatLoRAClassifier(module, **QUICK)
    search = GridSearchCV(net, {"r": [1, 4], "sigma": [0.0, 0.1]}, cv=2).fit(X, y)
    assert search.best_estimator_.lora_layers_["1"]["r"] == search.best_params_["r"]


def test_set_params_works_after_a_fit(module):
    net = FlatLoRAClassifier(module, **QUICK).fit(X, y)
    net.set_params(modules_to_save=["5"], target_modules=["3"]).fit(X, y)
    assert net.target_modules_ == ["3"]
    assert net.module_[5].weight.requires_grad


def test_a_pickled_net_continues_training(module):
    net = FlatLoRAClassifier(module, **QUICK).fit(X, y)
    restored = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(
        restored.partial_fit(X, y).predict_proba(X), net.partial_fit(X, y).predict_proba(X)
    )


def test_expected_sharpness_grows_with_the_noise(module):
    net = FlatLoRAClassifier(module, **QUICK | {"max_epochs": 20}).fit(X, y)
    small, large = (net.expected_sharpness(X, y, sigma=sigma) for sigma in (0.1, 0.3))
    assert 0 < small < large
    assert net.expected_sharpness(X, y) == small
    net.set_params(batch_size=50)  # the last batch is smaller
    assert net.expected_sharpness(X, y) == pytest.approx(small, rel=1e-4)
    net.merge()
    assert net.expected_sharpness(X, y) == pytest.approx(small, rel=1e-4)
    with pytest.raises(ValueError, match="The 'n_draws' parameter of FlatLoRAClassifier"):
        net.expected_sharpness(X, y, n_draws=0)
    with pytest.raises(ValueError, match="The 'sigma' parameter"):
        net.expected_sharpness(X, y, sigma=-0.1)


def test_the_step_of_a_nonfinite_loss_is_reported(module):
    net = FlatLoRAClassifier(module, **QUICK | {"lr": 1e30})
    with pytest.raises(ValueError, match=r"The loss is nan at step [1-9]"):
        net.fit(X, y)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("r", 0),
        ("sigma", -0.1),
        ("sigma_schedule", "square"),
        ("perturbation", "bias"),
        ("n_noise", 0),
        ("lora_dropout", 1.0),
        ("modules_to_save", "5"),
        ("lr_ratio", 0),
        ("use_dora", "yes"),
        ("init_lora_weights", "eva"),
    ],
)
def test_parameters_out_of_range_are_named(module, name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of FlatLoRAClassifier"):
        FlatLoRAClassifier(module, **{name: value}).fit(X, y)


def test_a_fitted_net_provides_pretrained_weights(module):
    source = NetClassifier(module, max_epochs=2, random_state=0).fit(X, y)
    net = FlatLoRAClassifier(MLP, module__hidden_sizes=(24, 24), pretrained=source, **QUICK).fit(
        X, y
    )
    assert_bits_of(net.module_, source.module_)


@pytest.mark.parametrize("Estimator", [FlatLoRAClassifier, FlatLoRARegressor])
def test_from_paper_sets_the_values_of_the_paper(Estimator, module):
    net = Estimator.from_paper(module, r=16, max_epochs=2)
    assert (net.sigma, net.sigma_schedule, net.lr, net.lora_alpha) == (0.05, "cosine", 5e-4, 16)
    assert (net.r, net.max_epochs) == (16, 2)


def test_the_rate_of_from_paper_decays_to_zero(module):
    net = FlatLoRAClassifier.from_paper(module, max_epochs=4, random_state=0).fit(X, y)
    assert 0 < net.optimizer_.param_groups[0]["lr"] < 5e-4 / 20


def test_pretrained_may_be_a_module(module):
    net = FlatLoRAClassifier(MLP, pretrained=module, module__hidden_sizes=(24, 24), **QUICK)
    net.fit(X, y)
    assert_bits_of(net.module_, module)
    again = clone(net).set_params(pretrained=copy.deepcopy(module)).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))
    assert pickle.loads(pickle.dumps(net)).score(X, y) == net.score(X, y)
    net.pretrained = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="pretrained"):
        net.fit(X, y)


def test_factors_b_learn_faster_with_a_ratio(module):
    net = FlatLoRAClassifier(module, lr_ratio=4, modules_to_save=["5"], **QUICK).fit(X, y)
    slow, fast = net.optimizer_.param_groups
    assert (slow["lr"], fast["lr"]) == (1e-2, 4e-2)
    assert len(fast["params"]) == 2
    assert len(slow["params"]) == 4
    plain = FlatLoRAClassifier(module, modules_to_save=["5"], **QUICK).fit(X, y)
    assert len(plain.optimizer_.param_groups) == 1
    assert np.abs(net.predict_proba(X) - plain.predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("method", ["gaussian", "pissa", "olora", "lora_ga"])
def test_initializations_train_and_round_trip(module, method, tmp_path):
    net = FlatLoRAClassifier(module, init_lora_weights=method, **QUICK).fit(X, y)
    for name, layer in lora_layers(net.module_).items():
        assert torch.equal(layer.base_layer.weight, module.get_submodule(name).weight)
    assert net.history_[-1, "train_loss"] < net.history_[0, "train_loss"]
    net.save_adapter(tmp_path)
    loaded = FlatLoRAClassifier(module).load_adapter(tmp_path)
    np.testing.assert_allclose(loaded.predict_proba(X), net.predict_proba(X), atol=1e-5)
    again = clone(net).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))


def test_dora_trains_the_norms_of_the_filters(module):
    net = FlatLoRAClassifier(module, use_dora=True, sigma=0.2, **QUICK).fit(X, y)
    layer = lora_layers(net.module_)["1"]
    assert not torch.equal(layer.lora_magnitude_vector.weight, layer.base_layer.weight.norm(dim=1))
    torch.testing.assert_close(layer.weight.norm(dim=1), layer.lora_magnitude_vector.weight)
    merged = net.merged_module()
    with torch.no_grad():
        outputs = merged(torch.tensor(X)).softmax(dim=1)
    np.testing.assert_allclose(outputs, net.predict_proba(X), atol=1e-5)
