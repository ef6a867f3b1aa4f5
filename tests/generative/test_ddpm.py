import contextlib
import copy
import functools
import json
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sklearn_ext import ConditionalDDPM
from sklearn_ext.generative import MLPDenoiser
from sklearn_ext.neural import load_tensors, save_tensors
from tests.files import damaged, killed_at

QUICK = {"max_iter": 20, "width": 16, "random_state": 0}


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True, as_frame=True)
    return X, np.array(["setosa", "versicolor", "virginica"], dtype=object)[y]


@pytest.fixture(scope="module")
def trained(iris):
    return ConditionalDDPM(width=64, max_iter=1000, random_state=0).fit(*iris)


@pytest.fixture(scope="module")
def images():
    X, y = load_digits(return_X_y=True)
    return X[:100].reshape(-1, 8, 8), y[:100]


def weights(model):
    return model.diffusion_.module.state_dict()


def assert_same_weights(first, second):
    expected = weights(second)
    for name, value in weights(first).items():
        assert torch.equal(value, expected[name]), name


def test_samples_of_a_class_resemble_its_training_samples(trained, iris):
    X, y = np.asarray(iris[0]), iris[1]
    centers = np.array([X[y == label].mean(axis=0) for label in trained.classes_])
    X_new, y_new = trained.sample(300, random_state=0)
    assert X_new.shape == (300, 4)
    nearest = np.square(X_new[:, None] - centers).sum(axis=2).argmin(axis=1)
    assert np.mean(trained.classes_[nearest] == y_new) > 0.9
    for label, center in zip(trained.classes_, centers, strict=True):
        X_new, y_new = trained.sample(200, label, guidance=0.0, random_state=1)
        assert (y_new == label).all()
        np.testing.assert_allclose(X_new.mean(axis=0), center, atol=0.2)
        np.testing.assert_allclose(X_new.std(axis=0), X[y == label].std(axis=0), atol=0.3)


def test_samples_stay_in_the_range_of_the_training_data(trained, iris):
    X_new, _ = trained.sample(100, eta=1.0, guidance=2.0, n_steps=10, random_state=0)
    X = np.asarray(iris[0])
    assert (X_new >= X.min(axis=0) - 1e-5).all()
    assert (X_new <= X.max(axis=0) + 1e-5).all()


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_seed_repeats_samples_and_reconstructions(trained, iris, eta):
    options = {"n_steps": 5, "eta": eta}
    for draw in (
        lambda seed: trained.sample(7, random_state=seed, **options)[0],
        lambda seed: trained.reconstruct(iris[0], random_state=seed, **options),
    ):
        np.testing.assert_array_equal(draw(3), draw(3))
        assert not np.array_equal(draw(3), draw(4))
        assert not np.array_equal(draw(None), draw(None))


def test_classes_are_sampled_by_their_frequency(iris):
    X, y = iris
    model = ConditionalDDPM(**QUICK).fit(X[:75], y[:75])
    np.testing.assert_allclose(model.class_prior_, [2 / 3, 1 / 3])
    _, labels = model.sample(3000, n_steps=1, random_state=0)
    assert np.mean(labels == "setosa") == pytest.approx(2 / 3, abs=0.03)
    wanted = np.array(["versicolor", "setosa"])
    assert (model.sample(2, wanted, random_state=0)[1] == wanted).all()


def test_a_model_without_labels_has_no_classes(iris):
    X, _ = iris
    model = ConditionalDDPM(**QUICK).fit(X)
    X_new, y_new = model.sample(5, random_state=0)
    assert X_new.shape == (5, 4)
    assert y_new is None
    with pytest.raises(ValueError, match="y must be None"):
        model.sample(5, "setosa")
    with pytest.raises(ValueError, match="y must be None"):
        model.score_samples(X, np.zeros(len(X)))


@pytest.mark.parametrize(("guidance", "samples_per_pass"), [(0.0, 6), (1.5, 12)])
def test_only_guidance_costs_a_second_estimate(trained, guidance, samples_per_pass):
    sizes = []
    module = trained.diffusion_.module
    hook = module.register_forward_hook(lambda _, args, out: sizes.append(len(args[0])))
    trained.sample(6, n_steps=9, guidance=guidance, random_state=0)
    hook.remove()
    assert sizes == [samples_per_pass] * 9


def test_reconstruction_errors_grow_with_the_noise(trained, iris):
    X = iris[0]
    spread = X.to_numpy().std()
    error = [
        np.abs(trained.reconstruct(X, start=start, random_state=0) - X.to_numpy()).mean() / spread
        for start in (0.0, 0.2, 1.0)
    ]
    assert error[0] < 0.02 < error[1] < error[2]


def test_scores_prefer_training_samples_and_true_classes(trained, iris):
    X, y = iris
    rng = np.random.default_rng(0)
    shuffled = X.apply(rng.permutation)
    assert trained.score(X) > trained.score(shuffled) + 0.3
    assert trained.score(X, y) > trained.score(X, np.roll(y, 50)) + 0.3
    scores = trained.score_samples(X, y)
    assert scores.shape == (150,)
    assert trained.score(X, y) == pytest.approx(scores.mean())
    np.testing.assert_allclose(trained.score_samples(X[40:41], y[40:41]), scores[40:41])


def test_constant_features_and_single_samples_are_reproduced():
    X = np.array([[1.0, 7.0], [2.0, 7.0], [4.0, 7.0]])
    X_new, _ = ConditionalDDPM(**QUICK).fit(X).sample(5, random_state=0)
    assert (X_new[:, 1] == 7).all()
    X_new, _ = ConditionalDDPM(**QUICK).fit(X[:1]).sample(5, random_state=0)
    np.testing.assert_array_equal(X_new, np.repeat(X[:1], 5, axis=0))


def test_images_get_a_u_net_and_a_common_range(images):
    X, y = images
    model = ConditionalDDPM(**QUICK).fit(X, y)
    assert type(model.diffusion_.module).__name__ == "UNetDenoiser"
    X_new, _ = model.sample(3, 5, n_steps=3, random_state=0)
    assert X_new.shape == (3, 8, 8)
    assert X_new.min() >= 0
    assert X_new.max() <= 16
    flat = clone(model).set_params(image_shape=(8, 8)).fit(X.reshape(-1, 64), y)
    assert_same_weights(model, flat)
    np.testing.assert_array_equal(
        flat.sample(3, 5, n_steps=3, random_state=0)[0], X_new.reshape(3, 64)
    )
    assert model.reconstruct(X[:2], y[:2], n_steps=2, random_state=0).shape == (2, 8, 8)
    mlp = clone(model).set_params(module="mlp").fit(X, y)
    assert mlp.sample(2, n_steps=2, random_state=0)[0].shape == (2, 8, 8)


class Linear(nn.Module):
    def __init__(self, sample_shape=(4,), n_classes=3):
        super().__init__()
        self.x = nn.Linear(*sample_shape, *sample_shape)
        self.c = nn.Embedding(n_classes + 1, *sample_shape)

    def forward(self, x, t, c):
        return self.x(x) * t[:, None] + self.c(c)


@pytest.mark.parametrize(
    "module", [Linear(), Linear, functools.partial(MLPDenoiser, width=8, n_blocks=1)]
)
def test_a_custom_network_is_accepted_and_left_unchanged(iris, module):
    before = pickle.dumps(module)
    model = ConditionalDDPM(module=module, max_iter=5, random_state=0).fit(*iris)
    assert pickle.dumps(module) == before
    kind = module.func if isinstance(module, functools.partial) else module
    assert type(model.diffusion_.module) in (kind, type(kind))
    assert model.sample(2, random_state=0)[0].shape == (2, 4)
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        twin.sample(2, random_state=0)[0], model.sample(2, random_state=0)[0]
    )


def test_auto_max_iter_grows_with_the_samples_up_to_a_limit(iris):
    X, y = iris
    model = ConditionalDDPM(width=8, random_state=0)
    assert model.fit(X[:30], y[:30]).n_iter_ == 120
    assert len(model.loss_curve_) == 120
    assert ConditionalDDPM()._config(1797, 0).max_iter == 6000


def test_an_interrupted_training_resumes_from_its_checkpoint(iris, tmp_path):
    class InterruptionError(Exception): ...

    class InterruptAt13:
        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context, **data): ...

        def on_fit_task_end(self, estimator, context, **data):
            if context.task_name == "step" and context.task_id == 13:
                raise InterruptionError

    path = tmp_path / "model.safetensors"
    whole = ConditionalDDPM(**QUICK).fit(*iris)
    interrupted = ConditionalDDPM(**QUICK, checkpoint=path, checkpoint_interval=5)
    with pytest.raises(InterruptionError):
        interrupted.set_callbacks(InterruptAt13()).fit(*iris)
    with pytest.raises(NotFittedError):
        interrupted.sample()
    resumed = ConditionalDDPM(**{**QUICK, "random_state": 5}, warm_start=True)
    assert resumed.load_checkpoint(path).n_iter_ == 10
    resumed.fit(*iris)
    assert_same_weights(resumed, whole)
    np.testing.assert_array_equal(resumed.loss_curve_, whole.loss_curve_)


def test_a_loaded_checkpoint_equals_the_saved_model(trained, iris, tmp_path):
    path = tmp_path / "model.safetensors"
    trained.save_checkpoint(path)
    loaded = ConditionalDDPM(width=64).load_checkpoint(path)
    assert loaded.feature_names_in_.tolist() == list(iris[0].columns)
    for name in ("classes_", "class_prior_", "loss_curve_", "forgotten_classes_"):
        expected = getattr(trained, name)
        assert getattr(loaded, name).dtype == expected.dtype
        np.testing.assert_array_equal(getattr(loaded, name), expected)
    X_new, y_new = trained.sample(5, random_state=0)
    for actual, expected in zip(loaded.sample(5, random_state=0), (X_new, y_new), strict=True):
        np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(loaded.score_samples(*iris), trained.score_samples(*iris))


def test_files_of_other_models_are_refused(trained, tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"weight": torch.zeros(2)})
    with pytest.raises(ValueError, match="is not a checkpoint of a ConditionalDDPM"):
        ConditionalDDPM().load_checkpoint(path)
    trained.save_checkpoint(path)
    with pytest.raises(ValueError, match="do not fit the denoiser"):
        ConditionalDDPM(width=32).load_checkpoint(path)
    with pytest.raises(ValueError, match=r"must end with '.safetensors'"):
        trained.save_checkpoint(tmp_path / "model.txt")


def test_a_checkpoint_without_names_removes_the_old_names(iris, tmp_path):
    X, y = iris
    path = tmp_path / "model.safetensors"
    ConditionalDDPM(**QUICK).fit(X.to_numpy(), y).save_checkpoint(path)
    model = ConditionalDDPM(**QUICK).fit(X, y)
    assert not hasattr(model.load_checkpoint(path), "feature_names_in_")


def test_a_failed_load_leaves_the_model_as_it_was(iris, trained, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    trained.save_checkpoint(path)
    model = ConditionalDDPM(**{**QUICK, "width": 64}).fit(*iris)
    before = dict(vars(model))

    def fail(self, name, value):
        object.__setattr__(self, name, value)
        if name == "loss_curve_":
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(ConditionalDDPM, "__setattr__", fail)
        with pytest.raises(MemoryError):
            model.load_checkpoint(path)
    assert vars(model) == before
    assert model.n_iter_ == 20


def test_a_copy_with_forgotten_classes_leaves_the_model(trained):
    module = torch.nn.Linear(1, 1)
    changed = trained.with_forgotten_classes(["virginica", "setosa"], module)
    assert changed.forgotten_classes_.tolist() == ["setosa", "virginica"]
    assert changed.diffusion_.module is module
    assert changed.training_state_ is None
    assert len(trained.forgotten_classes_) == 0
    assert trained.diffusion_.module is not module
    assert trained.training_state_ is not None
    with pytest.raises(ValueError, match="not among the classes"):
        trained.with_forgotten_classes("tulip", module)


def test_warm_start_counts_the_steps_of_all_fits(iris):
    X, y = iris
    model = ConditionalDDPM(**QUICK, warm_start=True).fit(X, y)
    before = clone(model).fit(X, y)
    assert_same_weights(model, before)
    model.set_params(max_iter=30).fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == 30
    with pytest.raises(AssertionError):
        assert_same_weights(model, before)
    longer = copy.deepcopy(model)
    assert_same_weights(model.fit(X, y), longer)  # all steps have been made
    with pytest.raises(ValueError, match=r"at least n_iter_=30, got 10"):
        model.set_params(max_iter=10).fit(X, y)
    with pytest.raises(ValueError, match="warm_start=True requires y"):
        model.set_params(max_iter=40).fit(X)


def test_forgotten_classes_are_sampled_only_on_request(trained):
    module = trained.diffusion_.module
    model = trained.with_forgotten_classes("setosa", module)
    with pytest.raises(ValueError, match=r"forgotten: .'setosa'.; pass allow_forgotten=True"):
        model.sample(2, "setosa")
    _, labels = model.sample(300, n_steps=1, random_state=0)
    assert set(labels) == {"versicolor", "virginica"}
    assert (model.sample(2, "setosa", allow_forgotten=True)[1] == "setosa").all()
    empty = model.with_forgotten_classes(["virginica", "versicolor"], module)
    with pytest.raises(ValueError, match="All classes are forgotten"):
        empty.sample(2)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_shape": (3, 3)}, "has 9 entries, but the samples of X have 4"),
        ({"image_shape": (4,)}, r"image_shape must be None, \(height, width\)"),
        ({"feature_range": (1, 0)}, "feature_range must be 'auto' or a pair"),
        ({"module": "transformer"}, "'module' parameter"),
        ({"module": "unet"}, "images of shape"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        (
            {"learning_rate": 1e20, "clip_norm": 1e30, "ema_decay": 0.0},
            "Training diverged: .* Use a learning_rate below",
        ),
    ],
)
def test_errors_name_the_invalid_parameter(iris, params, message):
    with pytest.raises(ValueError, match=message):
        ConditionalDDPM(**{**QUICK, **params}).fit(*iris)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, X, y: m.sample(0), "'n_samples' parameter"),
        (lambda m, X, y: m.sample(2, eta=1.5), "'eta' parameter"),
        (lambda m, X, y: m.sample(2, "tulip"), "not among the classes"),
        (lambda m, X, y: m.sample(2, y[:3]), "n_samples=2 labels, got 3"),
        (lambda m, X, y: m.reconstruct(X, start=2), "'start' parameter"),
        (lambda m, X, y: m.score_samples(X, y[:3]), "one label for each of the 150 samples in X"),
        (lambda m, X, y: m.score_samples(X, y, n_draws=0), "'n_draws' parameter"),
    ],
)
def test_errors_name_the_invalid_argument(trained, iris, call, message):
    with pytest.raises(ValueError, match=message):
        call(trained, *iris)


def test_continuous_targets_are_refused(iris):
    X, _ = iris
    with pytest.raises(ValueError, match="Unknown label type"):
        ConditionalDDPM(**QUICK).fit(X, np.linspace(0, 1, len(X)))


def test_callbacks_are_called_at_each_step(iris):
    X, y = iris
    monitor = ScoringMonitor(scoring={"score": lambda est, X, y: est.score(X, y)})
    model = ConditionalDDPM(**{**QUICK, "max_iter": 6, "ema_decay": 0.0}).set_callbacks(monitor)
    model.fit(X, y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "step"]
    assert len(rows) == 6
    assert rows[-1]["score"] == pytest.approx(model.score(X, y))


def test_verbose_prints_the_progress(iris, capsys):
    ConditionalDDPM(**QUICK, verbose=1).fit(*iris)
    assert "[ConditionalDDPM] step 20/20, loss" in capsys.readouterr().out


class Tied(nn.Module):
    """A denoiser of vectors with four features, two of whose layers share their weights."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 9), nn.Linear(9, 4)
        self.inner, self.tied = nn.Linear(9, 9), nn.Linear(9, 9)
        self.tied.weight = self.inner.weight

    def forward(self, x, t, c):
        return self.last(self.tied(self.inner(self.first(x))).relu())


def test_checkpoints_of_tied_networks_are_loaded_and_continued(tmp_path):
    X, path = np.random.RandomState(0).rand(50, 4), tmp_path / "tied.safetensors"
    params = {"module": Tied(), "random_state": 0}
    whole = ConditionalDDPM(**params, max_iter=20).fit(X)
    ConditionalDDPM(**params, max_iter=20, checkpoint=path).fit(X)
    loaded = ConditionalDDPM(**params, max_iter=20).load_checkpoint(path)
    assert loaded.diffusion_.module.tied.weight is loaded.diffusion_.module.inner.weight
    assert_same_weights(loaded, whole)
    longer = ConditionalDDPM(**params, max_iter=25, warm_start=True).load_checkpoint(path).fit(X)
    assert longer.n_iter_ == 25


class LazyImages(Dataset):
    """Images that are read one at a time, and their labels."""

    def __init__(self, X, y):
        self.X, self.y = X.astype(np.uint8), y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return torch.from_numpy(self.X[index]), int(self.y[index])

    def __array__(self, *args, **kwargs):
        raise AssertionError("a dataset must not become an array")


def test_a_dataset_trains_like_its_array(images):
    X, y = images
    params = {"max_iter": 8, "width": 8, "random_state": 0}
    expected = ConditionalDDPM(**params).fit(X, y)
    for data, labels in ((LazyImages(X, y), None), (LazyImages(X, 0 * y), y)):
        actual = ConditionalDDPM(**params).fit(data, labels)
        assert_same_weights(actual, expected)
        np.testing.assert_array_equal(actual.classes_, expected.classes_)
        np.testing.assert_array_equal(actual.sample(3, random_state=0)[0],
                                      expected.sample(3, random_state=0)[0])  # fmt: skip
        np.testing.assert_array_equal(
            actual.score_samples(data, labels, n_draws=2), expected.score_samples(X, y, n_draws=2)
        )
        options = {"n_steps": 2, "random_state": 0}
        np.testing.assert_array_equal(
            actual.reconstruct(data, labels, **options), expected.reconstruct(X, y, **options)
        )
    flat = X.reshape(len(X), -1)
    per_feature = ConditionalDDPM(**params).fit(LazyImages(flat, y))
    assert_same_weights(per_feature, ConditionalDDPM(**params).fit(flat, y))
    with pytest.raises(TypeError, match="must not be a DataLoader"):
        ConditionalDDPM().fit(DataLoader(LazyImages(X, y)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        ConditionalDDPM(**params).fit(TensorDataset(torch.full((9, 2), torch.nan), torch.zeros(9)))


class HalfPrecision(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 32).bfloat16(), nn.LazyLinear(4)

    def forward(self, x, t, c):
        return self.b(self.a(x.bfloat16()).relu().float())


def test_half_precision_and_lazy_layers_train_and_continue(tmp_path):
    X, path = np.random.RandomState(0).rand(50, 4), tmp_path / "half.safetensors"
    torch.manual_seed(0)
    params = {"module": HalfPrecision(), "random_state": 0}
    whole = ConditionalDDPM(**params, max_iter=20).fit(X)
    assert whole.diffusion_.module.a.weight.dtype == torch.bfloat16
    assert_same_weights(pickle.loads(pickle.dumps(whole)), whole)
    whole.save_checkpoint(path)
    with pytest.raises(ValueError, match="do not fit the denoiser"):
        ConditionalDDPM().load_checkpoint(path)
    continued = ConditionalDDPM(**params, max_iter=20, warm_start=True).fit(X)
    continued.set_params(max_iter=30).fit(X)
    assert continued.n_iter_ == 30
    moments = continued.training_state_["exp_avg.0"]
    assert moments.dtype == np.float32
    again = pickle.loads(pickle.dumps(MLPDenoiser((4,), 2, width=8).bfloat16()))
    assert next(again.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, x, t, c: x[:, :1], r"module=.* must return one estimate .* got \(2, 1\)"),
        (lambda self, x, t, c: (x,), "got tuple"),
        (lambda self, x: x, r"must have forward\(x, t, c\) for samples x of shape \(2, 4\)"),
        (lambda self, x, t, c: x @ x, "shapes cannot be multiplied"),
    ],
)
def test_a_module_of_the_wrong_kind_is_refused_before_training(forward, message):
    module = type("Wrong", (nn.Module,), {"forward": forward})()
    model = ConditionalDDPM(module=module, max_iter=5)
    with pytest.raises(ValueError, match=message):
        model.fit(np.random.RandomState(0).rand(20, 4))
    assert not hasattr(model, "diffusion_")


def changed_checkpoint(path, field, value):
    tensors = load_tensors(path)
    if field in tensors:
        tensors[field] = value
    else:
        stored = json.loads(bytes(tensors["description"].tolist())) | {field: value}
        tensors["description"] = torch.tensor(list(json.dumps(stored).encode()), dtype=torch.uint8)
    save_tensors(path, tensors)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("predict", 1, r"unknown fields \['predict'\]"),
        ("format", "other", "format in .*must be one of"),
        ("n_iter_", -1, "n_iter_ in .*must be an integer"),
        ("n_iter_", 3, "loss_curve must have one entry per step"),
        ("score_seed_", "0", "score_seed_ in .*got '0'"),
        ("classes_", {"dtype": "<i8", "values": ["a"]}, "classes_ in .*labels and their type"),
        ("forgotten_classes_", {"dtype": "<i8", "values": [77]}, "forgotten_classes_ must be some"),
        ("input_shape_", [5], "row_shape and input_shape_"),
        ("feature_names_in_", ["a"], "feature_names_in_ must name all features"),
        ("class_prior", torch.ones(3), "class_prior must be the frequencies"),
        ("half_width", torch.full((4,), -1.0), "half_width must not be negative"),
        ("center", torch.full((4,), float("nan")), "center in .*finite numbers"),
        ("levels", torch.tensor([2.0]), "levels must be numbers from 0 to 1"),
        ("training.step", torch.tensor(7), r"invalid values in \['step'\]"),
        ("training.generator", torch.zeros(3), r"invalid values in \['generator'\]"),
    ],
)
def test_load_checkpoint_names_the_field_that_is_invalid(trained, tmp_path, field, value, message):
    path = tmp_path / "model.safetensors"
    trained.save_checkpoint(path)
    changed_checkpoint(path, field, value)
    model = ConditionalDDPM(width=64)
    with pytest.raises(ValueError, match=message):
        model.load_checkpoint(path)
    with pytest.raises(NotFittedError):
        model.sample()


def test_checkpoints_that_are_not_finite_are_refused(trained, tmp_path):
    path = tmp_path / "model.safetensors"
    trained.save_checkpoint(path)
    name = next(name for name in load_tensors(path) if name.startswith("module."))
    changed_checkpoint(path, name, load_tensors(path)[name] * float("nan"))
    with pytest.raises(ValueError, match=rf"{name} in .* must contain finite numbers only"):
        ConditionalDDPM(width=64).load_checkpoint(path)


def test_a_killed_save_leaves_the_old_checkpoint(trained, tmp_path):
    path = tmp_path / "model.safetensors"
    other = ConditionalDDPM(width=64, max_iter=1, random_state=1).fit(np.zeros((4, 2)))
    other.save_checkpoint(path)
    for moment in ("fsync", "replace"):
        assert killed_at(moment, lambda: trained.save_checkpoint(path))
        assert_same_weights(ConditionalDDPM(width=64).load_checkpoint(path), other)
    trained.save_checkpoint(path)
    assert_same_weights(ConditionalDDPM(width=64).load_checkpoint(path), trained)
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_checkpoints_raise_or_have_the_right_content(trained, tmp_path):
    path, rng = tmp_path / "model.safetensors", np.random.default_rng(0)
    trained.save_checkpoint(path)
    whole = path.read_bytes()
    for _ in range(60):
        path.write_bytes(damaged(whole, rng))
        with contextlib.suppress(ValueError):
            assert_same_weights(ConditionalDDPM(width=64).load_checkpoint(path), trained)
