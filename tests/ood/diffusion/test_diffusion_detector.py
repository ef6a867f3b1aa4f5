import pickle
import warnings

import numpy as np
import pytest
import skorch
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._testing import assert_docstring_consistency
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sklearn_ext.generative import ConditionalDDPM
from sklearn_ext.neural import NetClassifier, penultimate
from sklearn_ext.ood import DiffusionOODDetector, MSPOODDetector
from sklearn_ext.ood.diffusion._fit_denoiser import DDPMDenoiser


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    known = y < 8
    X_train, X_test, y_train, y_test = train_test_split(
        X[known], y[known], test_size=0.4, stratify=y[known], random_state=0
    )
    return X_train, y_train, X_test, y_test, X[~known]


@pytest.fixture(scope="module")
def detector(digits):
    return DiffusionOODDetector(random_state=0).fit(digits[0], digits[1])


@pytest.fixture(scope="module")
def net(digits):
    return NetClassifier(max_epochs=10, random_state=0).fit(digits[0] / 16, digits[1])


@pytest.fixture(scope="module")
def logistic(digits):
    return LogisticRegression(max_iter=2000).fit(digits[0], digits[1])


def auroc(detector, X_in, X_out):
    is_in = np.repeat([1, 0], [len(X_in), len(X_out)])
    return roc_auc_score(is_in, detector.score_samples(np.concatenate([X_in, X_out])))


def test_unseen_digits_and_noise_score_below_new_samples(digits, detector):
    _, _, X_test, y_test, X_near = digits
    noise = np.random.RandomState(0).uniform(0, 16, size=(200, 64))
    assert auroc(detector, X_test, X_near) > 0.975
    assert auroc(detector, X_test, noise) > 0.999
    assert auroc(detector, X_test, 16 - X_test) > 0.999
    assert (detector.predict_class(X_test) == y_test).mean() > 0.95


def test_the_rejection_rate_of_new_samples_is_as_requested(digits):
    X_train, _, X_test, _, _ = digits
    for rate in (0.05, 0.2):
        detectors = [
            DiffusionOODDetector(id_rejection_rate=rate, random_state=seed).fit(X_train)
            for seed in range(3)
        ]
        rejected = [fitted.predict(X_test) == -1 for fitted in detectors]
        assert np.mean(rejected) == pytest.approx(rate, abs=0.04)


def test_decisions_and_predictions_follow_from_the_scores(digits, detector):
    X = digits[2][:100]
    scores = detector.score_samples(X)
    np.testing.assert_array_equal(detector.decision_function(X), scores - detector.offset_)
    np.testing.assert_array_equal(detector.predict(X), np.where(scores >= detector.offset_, 1, -1))


def settings():
    net = NetClassifier(max_epochs=3, random_state=0)
    ddpm = ConditionalDDPM(max_iter=20, width=16, random_state=0)
    logistic = LogisticRegression(max_iter=2000)
    conditional = DiffusionOODDetector(net, conditional=True, n_steps=3)
    paper = DiffusionOODDetector.from_paper(estimator=net, diffusion=ddpm)
    return [
        pytest.param(DiffusionOODDetector(net), (64,), id="net"),
        pytest.param(DiffusionOODDetector(net), (8, 8), id="images"),
        pytest.param(DiffusionOODDetector(logistic), (64,), id="logistic"),
        pytest.param(conditional, (64,), id="conditional"),
        pytest.param(paper, (64,), id="paper"),
    ]


@pytest.mark.parametrize(("detector", "shape"), settings())
def test_a_score_does_not_depend_on_the_other_samples(digits, detector, shape):
    X_train, y_train, X_test, _, _ = digits
    X_train, X_test = X_train.reshape(-1, *shape) / 16, X_test.reshape(-1, *shape)[:60] / 16
    detector = clone(detector).set_params(random_state=0).fit(X_train, y_train)
    scores = detector.score_samples(X_test)
    order = np.random.RandomState(1).permutation(len(X_test))
    np.testing.assert_allclose(detector.score_samples(X_test[order]), scores[order], atol=1e-6)
    one_by_one = np.concatenate([detector.score_samples(X_test[[i]]) for i in range(5)])
    np.testing.assert_allclose(one_by_one, scores[:5], atol=1e-6)
    for batch_size in (7, 37, 4096):
        detector.set_params(batch_size=batch_size)
        np.testing.assert_allclose(detector.score_samples(X_test), scores, atol=1e-6)


def test_more_repeats_reduce_the_spread_of_scores_over_seeds(digits):
    X_train, _, X_test, _, _ = digits

    def spread(n_repeats):
        detectors = [
            DiffusionOODDetector(n_repeats=n_repeats, noise_level=0.4, random_state=0).fit(X_train)
            for _ in range(6)
        ]
        for seed, fitted in enumerate(detectors):
            rng = np.random.RandomState(seed)
            fitted.noise_ = rng.standard_normal(fitted.noise_.shape).astype(np.float32)
        return np.std([fitted.score_samples(X_test[:100]) for fitted in detectors], axis=0).mean()

    assert spread(4) < 0.7 * spread(1)


def test_a_perfect_regeneration_has_no_disparity(digits, net):
    X_train, y_train = digits[0] / 16, digits[1]
    detector = DiffusionOODDetector(net, diffusion=lambda x_t, t, y: np.zeros_like(x_t))
    detector.set_params(scale=(0, 1)).fit(X_train, y_train)
    detector.noise_ = np.zeros_like(detector.noise_)  # which is what the callable estimates
    disparities = detector.disparities(X_train)
    assert sorted(disparities) == ["feature", "pixel", "probability"]
    for values in disparities.values():
        np.testing.assert_allclose(values, 0, atol=1e-6)
    assert np.isfinite(detector.score_samples(X_train)).all()


def test_samples_with_equal_scores_are_all_inliers():
    X = np.ones((20, 3))
    detector = DiffusionOODDetector(random_state=0).fit(X)
    np.testing.assert_allclose(detector.score_samples(X), 0, atol=1e-12)
    assert (detector.predict(X) == 1).all()
    assert (detector.predict(X + 1) == -1).all()


def test_clipping_at_the_largest_feature_changes_nothing(digits, net):
    X_train, y_train = digits[0] / 16, digits[1]
    common = {"estimator": net, "disparity": "feature", "validation_fraction": 0.01}
    clipped = DiffusionOODDetector(clip_quantile=1.0, random_state=0, **common)
    plain = DiffusionOODDetector(anomaly_removal="none", random_state=0, **common)
    clipped.fit(X_train, y_train)
    plain.fit(X_train, y_train)
    largest = net_features(net, X_train).max(axis=1)
    stored = largest <= clipped.clip_value_
    assert stored.mean() > 0.98
    np.testing.assert_allclose(
        clipped.disparities(X_train)["feature"][stored],
        plain.disparities(X_train)["feature"][stored],
        atol=1e-5,
    )


def net_features(net, X):
    return penultimate(net, X.astype(np.float32)).numpy()


def test_clipping_both_sides_never_increases_distances(digits, net):
    X_train, y_train, X_test, _, X_near = digits
    X = np.concatenate([X_test, X_near]) / 16
    common = {"estimator": net, "feature_metric": "l2", "random_state": 0}
    distances = {
        sides: DiffusionOODDetector(anomaly_removal=sides, **common)
        .fit(X_train / 16, y_train)
        .disparities(X)["feature"]
        for sides in ("none", "both", "generation")
    }
    assert (distances["both"] <= distances["none"] + 1e-6).all()
    assert (distances["generation"] > distances["none"]).any()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_fitted_net_is_copied_and_not_trained(digits, net, frozen):
    X_train, y_train = digits[0] / 16, digits[1]
    before = {name: value.clone() for name, value in net.module_.state_dict().items()}
    given = FrozenEstimator(net) if frozen else net
    detector = DiffusionOODDetector(given, random_state=0).fit(X_train, y_train)
    assert detector.disparity_ == ("pixel", "feature")
    assert detector.classifier_ is not net
    for state in (net.module_.state_dict(), detector.classifier_.module_.state_dict()):
        for name, value in state.items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    unlabeled = DiffusionOODDetector(given, conditional=True, random_state=0).fit(X_train)
    assert unlabeled.disparity_ == ("pixel", "feature")


def test_a_plain_skorch_net_with_probabilities_works(digits):
    X_train, y_train, X_test, _, X_near = digits

    class Softmax(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU())
            self.head = torch.nn.Linear(32, 8)

        def forward(self, X):
            return self.head(self.body(X)).softmax(dim=1)

    torch_net = skorch.NeuralNetClassifier(
        Softmax, max_epochs=20, lr=0.1, train_split=None, verbose=0
    )
    detector = DiffusionOODDetector(torch_net, disparity=("pixel", "probability"), random_state=0)
    detector.fit(X_train / 16, y_train)
    logits = detector._outputs.logits(detector._outputs.compute((X_test / 16).astype(np.float32)))
    np.testing.assert_allclose(
        np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True),
        detector.predict_proba(X_test / 16),
        atol=1e-5,
    )
    assert auroc(detector, X_test / 16, X_near / 16) > 0.9


def test_any_classifier_with_probabilities_works(digits, logistic):
    X_train, y_train, X_test, y_test, X_near = digits
    detector = DiffusionOODDetector(logistic, disparity=("pixel", "probability"), random_state=0)
    detector.fit(X_train, y_train)
    assert auroc(detector, X_test, X_near) > 0.95
    assert sorted(detector.disparities(X_near)) == ["pixel", "probability"]
    np.testing.assert_array_equal(detector.predict_class(X_test), logistic.predict(X_test))
    names = np.array([f"digit {k}" for k in range(8)])
    pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=20))
    global_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    forests = [
        DiffusionOODDetector(pipeline, random_state=0).fit(X_train, names[y_train])
        for _ in range(2)
    ]
    assert forests[0].disparity_ == ("pixel", "probability")
    assert (forests[0].predict_class(X_test) == names[y_test]).mean() > 0.8
    np.testing.assert_array_equal(*(forest.score_samples(X_near) for forest in forests))
    after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    np.testing.assert_array_equal(after["key"], global_state["key"])
    assert after["pos"] == global_state["pos"]


def test_without_classes_it_is_a_novelty_detector(digits):
    X_train, _, X_test, _, X_near = digits
    detector = DiffusionOODDetector(random_state=0).fit(X_train)
    assert detector.disparity_ == ("pixel",)
    assert detector.classifier_ is None
    assert not hasattr(detector, "predict_proba")
    assert not hasattr(detector, "predict_class")
    assert auroc(detector, X_test, X_near) > 0.95


def test_with_one_class_it_is_a_novelty_detector(digits):
    X_train, y_train, _, _, X_near = digits
    plain = DiffusionOODDetector(random_state=0).fit(X_train)
    y = np.append(np.full(len(X_train), "digit"), np.full(len(X_near), "odd"))
    alike = DiffusionOODDetector(outlier_label="odd", random_state=0)
    alike.fit(np.concatenate([X_train, X_near]), y)
    assert alike.disparity_ == ("pixel",)
    np.testing.assert_array_equal(alike.score_samples(X_near), plain.score_samples(X_near))
    with pytest.raises(ValueError, match="cannot be fitted: y has one class"):
        DiffusionOODDetector(LogisticRegression()).fit(X_train, np.zeros(len(X_train)))
    with pytest.raises(ValueError, match="got none"):
        DiffusionOODDetector().fit(X_train, np.full(len(X_train), -1))
    logistic = LogisticRegression(max_iter=2000).fit(X_train, y_train)
    few = DiffusionOODDetector(logistic, random_state=0)
    few.fit(X_train[y_train == 3], y_train[y_train == 3])
    assert few.disparity_ == ("pixel", "probability")


def test_from_paper_sets_its_parameters_and_a_trained_model(digits, net, ddpm):
    X_train, y_train, X_test = digits[0] / 16, digits[1], digits[2] / 16
    paper = DiffusionOODDetector.from_paper(estimator=net, diffusion=ddpm, random_state=0)
    paper.fit(X_train, y_train)
    spelled = DiffusionOODDetector(
        net,
        diffusion=ddpm,
        disparity=("feature", "probability"),
        feature_metric="l2",
        probability_metric="kl",
        anomaly_removal="generation",
        random_state=0,
    ).fit(X_train, y_train)
    assert paper.disparity_ == ("feature", "probability")
    np.testing.assert_array_equal(paper.score_samples(X_test), spelled.score_samples(X_test))
    X, y = (values[::5] for values in load_iris(return_X_y=True))
    trained = DiffusionOODDetector.from_paper(random_state=0).fit(X, y)
    assert isinstance(trained.denoiser_, DDPMDenoiser)


@pytest.fixture(scope="module")
def ddpm(digits):
    model = ConditionalDDPM(max_iter=150, width=64, schedule="cosine", random_state=0)
    return model.fit(digits[0] / 16, digits[1])


def test_a_fitted_model_is_used_as_it_is(digits, ddpm):
    X_train, _, X_test, _, X_near = digits
    detector = DiffusionOODDetector(diffusion=ddpm, random_state=0).fit(X_train / 16)
    unit_range = ddpm.diffusion_.unit_range
    np.testing.assert_array_equal(detector.scale_.center, unit_range.center)
    for name, value in ddpm.diffusion_.module.state_dict().items():
        torch.testing.assert_close(
            detector.denoiser_.diffusion.module.state_dict()[name], value, rtol=0, atol=0
        )
    level = float(ddpm.diffusion_.levels[200])
    assert detector.denoiser_.signal_level(0.2) == level
    x = unit_range.forward((X_test[:5] / 16).astype(np.float32))
    x_t = torch.from_numpy(level**0.5 * x + (1 - level) ** 0.5 * detector.noise_[0])
    any_class = torch.full((5,), ddpm.diffusion_.null_code)
    with torch.no_grad():
        noise = ddpm.diffusion_.module(x_t.float(), torch.full((5,), 0.2), any_class)
    clean = ((x_t - (1 - level) ** 0.5 * noise) / level**0.5).clip(-1, 1)
    expected = unit_range.backward(clean.numpy())
    actual = detector.regenerate(X_test[:5] / 16, n_repeats=1)[0]
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert auroc(detector, X_test / 16, X_near / 16) > 0.6
    frozen = DiffusionOODDetector(diffusion=FrozenEstimator(ddpm), random_state=0)
    np.testing.assert_array_equal(
        clone(frozen).fit(X_train / 16).score_samples(X_near), detector.score_samples(X_near)
    )


def test_an_unfitted_model_is_trained_in_the_units_of_the_path(digits, logistic):
    X_train, y_train, X_test, _, X_near = digits
    own = ConditionalDDPM(max_iter=60, width=32, schedule="cosine")
    pixels = []
    for factor, scale in ((1, (0, 16)), (1 / 16, (0, 1))):
        detector = DiffusionOODDetector(diffusion=own, scale=scale, random_state=0)
        pixels.append(detector.fit(factor * X_train).disparities(factor * X_test)["pixel"])
    np.testing.assert_allclose(*pixels, rtol=1e-3)
    assert not hasattr(own, "diffusion_")
    conditional = DiffusionOODDetector(logistic, diffusion=own, conditional=True, random_state=0)
    conditional.fit(X_train, y_train)
    scores = conditional.score_samples(X_near)
    stored = pickle.loads(pickle.dumps(conditional))
    np.testing.assert_array_equal(stored.score_samples(X_near), scores)
    order = np.random.RandomState(0).permutation(len(X_near))
    np.testing.assert_allclose(conditional.score_samples(X_near[order]), scores[order], atol=1e-5)
    assert conditional.sample(3, [1, 2, 3]).shape == (3, 64)


def test_a_model_must_fit_the_samples_and_the_classes(digits, ddpm, logistic):
    X_train, y_train = digits[0], digits[1]
    with pytest.raises(ValueError, match="samples of shape"):
        DiffusionOODDetector(diffusion=ddpm).fit(X_train[:, :10])
    with pytest.raises(ValueError, match=r"trained without the classes \[10"):
        DiffusionOODDetector(
            LogisticRegression(max_iter=100), diffusion=ddpm, conditional=True
        ).fit(X_train / 16, y_train + 10)
    few = ConditionalDDPM(max_iter=5, width=8)
    detector = DiffusionOODDetector(logistic, diffusion=few, random_state=0).fit(X_train, y_train)
    with pytest.raises(ValueError, match="was trained without classes"):
        detector.sample(1, 3)


@pytest.mark.parametrize("scale", ["minmax", "standard", (0, 16)])
def test_results_are_in_the_units_of_the_data(digits, scale):
    X_train, _, X_test, _, _ = digits
    detector = DiffusionOODDetector(scale=scale, noise_level=1e-3, random_state=0).fit(X_train)
    # With hardly any noise, a stored sample comes back unchanged.
    stored = detector.denoiser_.samples + detector.denoiser_.center
    samples = detector.scale_.from_path(stored)
    np.testing.assert_allclose(detector.regenerate(samples)[0], samples, atol=1e-3)
    far = detector.regenerate(10 * X_test)
    assert far.min() >= X_train.min() - 1e-3
    assert far.max() <= X_train.max() + 1e-3


def test_the_noise_level_falls_with_the_density_of_samples(digits):
    X_train = digits[0]
    assert DiffusionOODDetector(random_state=0).fit(X_train).noise_level_ == 0.2
    assert DiffusionOODDetector(noise_level=0.3).fit(X_train).noise_level_ == 0.3
    assert DiffusionOODDetector(diffusion=lambda x, t, y: x).fit(X_train).noise_level_ == 0.2
    rng = np.random.RandomState(0)
    levels = []
    for n in (30, 300, 3000):
        angle = rng.uniform(0, 2 * np.pi, size=n)
        ring = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.02 * rng.randn(n, 2)
        detector = DiffusionOODDetector(random_state=0).fit(ring)
        levels.append(detector.noise_level_)
    assert levels[0] > levels[1] >= levels[2] == 0.02
    inside = 0.5 * ring[:200]
    usual = DiffusionOODDetector(noise_level=0.2, random_state=0).fit(ring)
    assert auroc(detector, ring[:200], inside) > 0.999
    assert auroc(detector, ring[:200], 0.8 * ring) > auroc(usual, ring[:200], 0.8 * ring)


def test_the_units_of_features_do_not_matter():
    X = load_iris().data
    units = np.array([1e3, 1e-3, 1.0, 7.0])
    levels = [DiffusionOODDetector(random_state=0).fit(Z).noise_level_ for Z in (X, X * units)]
    assert levels[0] == levels[1]
    # At lower levels, the distances of stored samples are mere rounding errors.
    plain = DiffusionOODDetector(noise_level=0.2, random_state=0).fit(X)
    scaled = DiffusionOODDetector(noise_level=0.2, random_state=0).fit(X * units)
    np.testing.assert_allclose(
        scaled.score_samples(X * units), plain.score_samples(X), rtol=1e-3, atol=1e-3
    )


def test_a_change_of_a_constant_feature_is_detected():
    X = np.random.RandomState(0).uniform(size=(200, 3))
    X[:, 2] = 5.0
    detector = DiffusionOODDetector(random_state=0).fit(X)
    moved = X.copy()
    moved[:, 2] = 8.0
    assert detector.score_samples(X).min() > detector.score_samples(moved).max()


def test_a_callable_gets_samples_times_and_classes(digits, logistic):
    X_train, y_train, X_test, _, _ = digits
    calls = []

    def function(x_t, t, y):
        calls.append((x_t.shape, x_t.dtype, t, y))
        return x_t

    detector = DiffusionOODDetector(logistic, diffusion=function, conditional=True, guidance=0.0)
    detector.set_params(n_steps=2, n_repeats=3, noise_level=0.4, random_state=0)
    detector.fit(X_train, y_train)
    calls.clear()
    detector.regenerate(X_test[:20])
    assert [(shape, dtype, t) for shape, dtype, t, _ in calls] == [
        ((60, 64), np.float32, 0.4),
        ((60, 64), np.float32, 0.2),
    ]
    np.testing.assert_array_equal(calls[0][3], np.tile(logistic.predict(X_test[:20]), 3))


def test_regenerations_are_those_of_the_score(digits, detector):
    X = digits[2][:30]
    x_hat = detector.regenerate(X)
    assert x_hat.shape == (4, 30, 64)
    assert x_hat.dtype == np.float32
    np.testing.assert_array_equal(detector.regenerate(X, n_repeats=2), x_hat[:2])
    moved = (x_hat - X) / detector.scale_.width
    np.testing.assert_allclose(
        np.linalg.norm(moved, axis=-1).mean(axis=0), detector.disparities(X)["pixel"], rtol=1e-4
    )
    with pytest.raises(ValueError, match="n_repeats must be between 1 and 4"):
        detector.regenerate(X, n_repeats=5)


def test_conditional_regenerations_are_mixtures_of_the_class(digits, logistic):
    X_train, y_train, X_test, _, _ = digits
    X_train = np.column_stack([X_train, y_train])  # a mixture of a class shows the class itself
    X_test = np.column_stack([X_test, np.zeros(len(X_test))])
    classifier = LogisticRegression(max_iter=2000).fit(X_train * ([1] * 64 + [0]), y_train)
    detector = DiffusionOODDetector(
        FrozenEstimator(classifier), conditional=True, guidance=0.0, noise_level=0.75
    )
    x_hat = detector.fit(X_train, y_train).regenerate(X_test)
    seen = classifier.predict(X_test)
    np.testing.assert_allclose(x_hat[..., 64], np.tile(seen, (4, 1)), atol=1e-4)


def test_draws_of_the_empirical_model_are_stored_samples(digits, detector):
    X_train = digits[0]
    x = detector.sample(20, np.repeat([3, 7], 10))
    assert x.shape == (20, 64)
    nearest = ((x[:, None] - X_train[None]) ** 2).sum(axis=-1)
    assert np.sqrt(nearest.min(axis=1)).max() < 3.0
    assert (digits[1][nearest.argmin(axis=1)] == np.repeat([3, 7], 10)).all()
    np.testing.assert_array_equal(detector.sample(5), detector.sample(5))
    assert detector.sample(2, 3).shape == (2, 64)
    with pytest.raises(ValueError, match="not among the classes"):
        detector.sample(1, 9)
    with pytest.raises(ValueError, match="n_steps"):
        detector.sample(1, n_steps=0)
    with pytest.raises(ValueError, match="fitted without classes"):
        DiffusionOODDetector(random_state=0).fit(X_train).sample(1, 3)


def test_few_prototypes_are_almost_as_accurate(digits):
    X_train, _, X_test, _, X_near = digits
    detector = DiffusionOODDetector(n_prototypes=200, random_state=0).fit(X_train)
    assert detector.denoiser_.samples.shape == (200, 64)
    assert auroc(detector, X_test, X_near) > 0.9


def test_samples_labeled_as_outliers_are_left_out(digits):
    X_train, y_train, X_test, _, X_near = digits
    X, y = np.concatenate([X_train, X_near]), np.append(y_train, np.full(len(X_near), -1))
    order = np.random.RandomState(0).permutation(len(X))
    detector = DiffusionOODDetector(LogisticRegression(max_iter=2000), random_state=0)
    detector.fit(X[order], y[order])
    assert detector.classes_.tolist() == list(range(8))
    assert auroc(detector, X_test, X_near) > 0.95


@pytest.mark.parametrize(
    ("parameters", "with_y", "message"),
    [
        ({"diffusion": "ldm"}, True, "diffusion"),
        ({"disparity": ("pixel", "color")}, True, "disparity must be"),
        ({"disparity": ()}, True, "disparity must be"),
        ({"disparity": "feature"}, False, "need a classifier"),
        ({"disparity": ("feature", "probability")}, False, "need a classifier"),
        ({"conditional": True}, False, "needs classes"),
        ({"estimator": LogisticRegression()}, False, "not fitted"),
        ({"estimator": NetClassifier()}, False, "not fitted"),
        ({"estimator": FrozenEstimator(LogisticRegression())}, True, "not fitted"),
        ({"estimator": FrozenEstimator(NetClassifier())}, True, "not fitted"),
        ({"estimator": LogisticRegression(), "disparity": "feature"}, True, "feature"),
        (
            {"estimator": LogisticRegression(), "probability_metric": "logit_l1"},
            True,
            "needs the logits",
        ),
        ({"scale": (1, 1)}, True, "low < high"),
        ({"diffusion": FrozenEstimator(ConditionalDDPM())}, False, "fitted ConditionalDDPM"),
        ({"n_prototypes": 2, "conditional": True}, True, "Increase n_prototypes"),
    ],
)
def test_invalid_combinations_of_parameters_are_refused(parameters, with_y, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        DiffusionOODDetector(**parameters).fit(X, y if with_y else None)


def test_a_classifier_without_probabilities_is_refused():
    with pytest.raises(TypeError, match="predict_proba"):
        DiffusionOODDetector(Perceptron()).fit(*load_iris(return_X_y=True))


def test_sparse_samples_are_refused():
    with pytest.raises(TypeError, match="dense"):
        DiffusionOODDetector().fit(sparse.csr_array(np.eye(20)))


def test_pickled_and_cloned_detectors_score_the_same(digits, detector):
    X = digits[2][:50]
    stored = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(stored.score_samples(X), detector.score_samples(X))
    again = clone(detector).fit(digits[0], digits[1])
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))


def test_it_works_in_pipelines_and_cross_validation(digits):
    X_train, y_train, _, _, X_near = digits
    order = np.random.RandomState(0).permutation(360)
    X = np.concatenate([X_train[:300], X_near[:60]])[order]
    y = np.append(y_train[:300], np.full(60, -1))[order]

    def scorer(pipeline, X, y):
        return roc_auc_score(y != -1, pipeline.score_samples(X))

    pipeline = make_pipeline(
        StandardScaler(), DiffusionOODDetector(LogisticRegression(max_iter=500), random_state=0)
    )
    assert cross_val_score(pipeline, X, y, scoring=scorer, cv=3).min() > 0.8


@pytest.mark.parametrize("scale", ["minmax", "standard", (0, 16)])
def test_scores_of_extreme_samples_are_finite(digits, scale):
    detector = DiffusionOODDetector(scale=scale, random_state=0).fit(digits[0])
    far = digits[2][:18] * 10.0 ** np.arange(0, 36, 2)[:, None]
    scores = detector.score_samples(far)
    assert np.isfinite(scores).all()
    assert (scores[2:] < detector.offset_ - 1).all()


def test_a_classifier_of_named_columns_gets_their_names():
    X, y = load_iris(return_X_y=True, as_frame=True)
    named = make_column_transformer((StandardScaler(), list(X.columns)))
    classifier = make_pipeline(named, LogisticRegression()).fit(X, y)
    detector = DiffusionOODDetector(FrozenEstimator(classifier), random_state=0).fit(X, y)
    with warnings.catch_warnings(action="error"):
        assert (detector.predict(X) == 1).mean() > 0.8
        expected = classifier.predict_proba(X)
        np.testing.assert_allclose(detector.predict_proba(X), expected, atol=1e-5)


def test_shared_parameters_are_described_as_in_other_detectors():
    assert_docstring_consistency(
        [MSPOODDetector, DiffusionOODDetector],
        include_params=["outlier_label", "id_rejection_rate"],
        include_attrs=["offset_", "input_shape_", "n_features_in_", "feature_names_in_"],
    )


class Images(Dataset):
    """A map-style dataset of pairs that counts how often its samples are read."""

    def __init__(self, X, y):
        self.X, self.y, self.n_read = X, y, 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, k):
        self.n_read += 1
        return torch.as_tensor(self.X[k]), int(self.y[k])


@pytest.mark.parametrize("kind", ["net", "logistic", "conditional", "standard"])
def test_datasets_and_tensors_give_the_scores_of_arrays(digits, net, logistic, kind):
    X_train, y_train, X_test, y_test, _ = (values[:200] for values in digits)
    X_train, X_test = (X_train / 16).astype(np.float32), (X_test / 16).astype(np.float32)
    given, params = {
        "net": (net, {"n_prototypes": 50}),
        "logistic": (logistic, {}),
        "conditional": (net, {"conditional": True, "n_steps": 2}),
        "standard": (net, {"scale": "standard"}),
    }[kind]
    detector = DiffusionOODDetector(FrozenEstimator(given), random_state=0, **params)
    expected = clone(detector).fit(X_train, y_train)
    scores, classes = expected.score_samples(X_test), expected.predict_class(X_test)
    tensors = torch.as_tensor(X_train), torch.as_tensor(y_train)
    for data in (tensors, (TensorDataset(*tensors),), (Images(X_train, y_train),)):
        found = clone(detector).fit(*data)
        assert found.offset_ == pytest.approx(expected.offset_, rel=1e-5)
        for X in (torch.as_tensor(X_test), Images(X_test, y_test)):
            np.testing.assert_allclose(found.score_samples(X), scores, rtol=1e-4, atol=1e-6)
            np.testing.assert_array_equal(found.predict_class(X), classes)
    regenerated = expected.regenerate(Images(X_test, y_test), n_repeats=1)
    np.testing.assert_array_equal(regenerated, expected.regenerate(X_test, n_repeats=1))


def test_a_model_is_trained_on_a_dataset_batch_by_batch(digits):
    X_train, y_train, X_test, _, X_near = digits
    own = ConditionalDDPM(max_iter=60, width=32, schedule="cosine")
    detector = DiffusionOODDetector(diffusion=own, scale=(0, 16), random_state=0)
    detector.fit(Images(X_train.astype(np.float32), y_train))
    labeled = np.append(np.zeros(len(X_test)), np.ones(len(X_near)))
    both = Images(np.concatenate([X_test, X_near]).astype(np.float32), labeled)
    assert roc_auc_score(labeled == 0, detector.score_samples(both)) > 0.6
    assert both.n_read >= len(both)


def test_samples_that_are_not_single_arrays_are_refused(digits):
    X, y = digits[0], digits[1]
    with pytest.raises(TypeError, match=r"must be an array, a tensor or a map-style .* got dict"):
        DiffusionOODDetector().fit({"pixels": X}, y)
    with pytest.raises(TypeError, match="must not be a DataLoader"):
        DiffusionOODDetector().fit(DataLoader(Images(X, y)))

    class Pairs(Images):
        def __getitem__(self, k):
            return {"pixels": self.X[k]}, int(self.y[k])

    with pytest.raises(TypeError, match="Each sample in X must be a single array"):
        DiffusionOODDetector().fit(Pairs(X, y))
    fitted = DiffusionOODDetector(random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"must have shape \(64,\) as in fit, got \(32,\)"):
        fitted.score_samples(Images(X[:, :32], y))


class Recorder:
    """A callback that records the end of each task, including those inside the detector."""

    max_propagation_depth = None

    def setup(self, estimator, context):
        self.ended = []

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.ended.append((type(estimator).__name__, context.task_name))


def test_steps_are_reported_to_callbacks_and_printed(digits, capsys):
    recorder = Recorder()
    ddpm = ConditionalDDPM(max_iter=3, width=16)
    detector = DiffusionOODDetector(diffusion=ddpm, random_state=0, verbose=1)
    detector.set_callbacks(recorder).fit(digits[0])
    own = [task for name, task in recorder.ended if name == "DiffusionOODDetector"]
    assert own == ["classifier", "calibration", "fit"]
    steps = [task for name, task in recorder.ended if name == "ConditionalDDPM"]
    assert steps == ["step", "step", "step", "fit"]
    assert capsys.readouterr().out.splitlines() == [
        "[DiffusionOODDetector] step 1/3, classifier",
        "[DiffusionOODDetector] step 2/3, diffusion model",
        "[DiffusionOODDetector] step 3/3, calibration",
    ]
