import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.neighbors import NearestNeighbors

from sklearn_ext.generative import add_noise, cosine_signal_level
from sklearn_ext.ood import DiffusionOODDetector, EmpiricalDenoiser, regenerate
from sklearn_ext.ood.diffusion import _empirical_denoiser
from sklearn_ext.ood.diffusion._empirical_denoiser import draw_prototypes

WIDE = (-9.0, 9.0)


def normal(seed, *shape):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def direct_noise(x_t, stored, level):
    """The formula without rearrangement, in double precision."""
    x_t, stored = x_t.astype(np.float64), stored.astype(np.float64)
    squared = ((x_t[:, None] - np.sqrt(level) * stored) ** 2).sum(axis=-1)
    mean = softmax(-squared / (2 * (1 - level)), axis=1) @ stored
    return (x_t - np.sqrt(level) * mean) / np.sqrt(1 - level)


@pytest.mark.parametrize("t", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("offset", [0.0, -1.0])
def test_noise_is_that_of_the_direct_softmax(t, offset):
    stored = np.clip(normal(0, 300, 64) / 3, -1, 1) + np.float32(offset)
    x_t = add_noise(stored[:90], normal(1, 90, 64), cosine_signal_level(t))
    actual = EmpiricalDenoiser(stored).predict_noise(x_t, t)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, direct_noise(x_t, stored, cosine_signal_level(t)), atol=1e-5)


def test_the_effective_number_counts_the_samples_in_a_mean():
    stored = np.repeat(np.eye(3, dtype=np.float32) * 5, [1, 4, 2], axis=0)
    codes = np.repeat([0, 1, 1], [1, 4, 2])
    denoiser = EmpiricalDenoiser(stored, codes)
    x_t = 5 * np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(denoiser.effective_samples(x_t, 0.9), [1, 4, 2], rtol=1e-5)
    of_class = denoiser.effective_samples(x_t, 0.9, np.array([0, 1, 1]))
    np.testing.assert_allclose(of_class, [1, 4, 2], rtol=1e-5)
    np.testing.assert_allclose(denoiser.effective_samples(x_t, 1e-9), 7, rtol=1e-3)
    x_t, level = normal(1, 20, 3), 0.4
    squared = ((x_t[:, None] - np.sqrt(level) * stored) ** 2).sum(axis=-1)
    weights = softmax(-squared / (2 * (1 - level)), axis=1)
    np.testing.assert_allclose(
        denoiser.effective_samples(x_t, level), 1 / (weights**2).sum(axis=1), rtol=1e-4
    )


@pytest.mark.parametrize("t", [0.02, 0.2, 0.9])
def test_a_device_computes_what_numpy_computes(t, monkeypatch):
    stored, level = normal(0, 300, 16), cosine_signal_level(t)
    denoiser = EmpiricalDenoiser(stored)
    queries = add_noise(stored[:50], normal(1, 50, 16), level)
    arguments = queries, denoiser.samples, denoiser.half_norms, level
    monkeypatch.setattr(_empirical_denoiser, "_DEVICE_ENTRIES", 6000)  # blocks of 20 queries
    actual = _empirical_denoiser.posterior_mean_on_device(*arguments, "cpu")
    expected = _empirical_denoiser.posterior_mean(*arguments)
    np.testing.assert_allclose(actual, expected, atol=2e-5)
    assert actual.dtype == np.float32


def test_a_missing_device_is_refused_by_name():
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ValueError, match=r"device='cuda' is not available"):
        EmpiricalDenoiser(normal(0, 3, 2), device="cuda")
    for diffusion in ("empirical", "ddpm", lambda x, t, y: x):
        with pytest.raises(ValueError, match=r"device='cuda' is not available"):
            DiffusionOODDetector(diffusion=diffusion, device="cuda").fit(normal(0, 30, 2))


def training_draws(stored, n, seed):
    """Draw stored samples and noise as the denoising loss does."""
    rng = np.random.RandomState(seed)
    which, noise = rng.randint(len(stored), size=n), rng.randn(n, stored.shape[1])
    return which, noise.astype(np.float32)


@pytest.mark.parametrize("t", [0.3, 0.6])
def test_it_minimizes_the_denoising_loss(t):
    stored = normal(0, 40, 4)
    which, noise = training_draws(stored, 20_000, 1)
    x_t = add_noise(stored[which], noise, cosine_signal_level(t))
    estimate = EmpiricalDenoiser(stored).predict_noise(x_t, t)
    residual = noise - estimate
    # The residual of a conditional mean is orthogonal to every function of the condition.
    for function in (np.ones_like(x_t), x_t, np.tanh(x_t), np.sign(x_t), x_t**3, estimate):
        products = (residual * function).mean(axis=1)
        error = products.std() / np.sqrt(len(products))
        assert abs(products.mean()) < 4 * error
    loss = (residual**2).mean()
    perturbed = ((residual - 0.1 * normal(2, *noise.shape)) ** 2).mean()
    assert perturbed - loss == pytest.approx(0.01, abs=2e-3)


@pytest.mark.parametrize(("t", "gap"), [(0.0, 0.01), (0.02, 0.1)])
def test_little_noise_gives_the_nearest_stored_sample(t, gap):
    stored, x = normal(0, 300, 16), normal(1, 50, 16)
    denoiser = EmpiricalDenoiser(stored)
    x_hat = regenerate(x, normal(2, 1, 16), denoiser, noise_level=t, bounds=WIDE)[0]
    distance = np.linalg.norm(x - x_hat, axis=1)
    nearest = NearestNeighbors(n_neighbors=1).fit(stored).kneighbors(x)[0][:, 0]
    np.testing.assert_allclose(distance, nearest, rtol=gap)


def test_pure_noise_gives_the_mean():
    stored, x = normal(0, 300, 16), normal(1, 50, 16)
    denoiser = EmpiricalDenoiser(stored)
    x_hat = regenerate(x, normal(2, 3, 16), denoiser, noise_level=0.9999, bounds=WIDE)
    np.testing.assert_allclose(x_hat, np.broadcast_to(stored.mean(axis=0), x_hat.shape), atol=0.03)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("n_steps", [1, 4])
def test_a_single_stored_sample_is_always_returned(t, n_steps):
    stored, x = normal(0, 1, 16), normal(1, 10, 16)
    x_hat = regenerate(
        x, normal(2, 2, 16), EmpiricalDenoiser(stored), noise_level=t, n_steps=n_steps, bounds=WIDE
    )
    np.testing.assert_allclose(x_hat, np.broadcast_to(stored, x_hat.shape), atol=2e-3)


def test_the_conditional_mean_mixes_samples_of_its_class():
    stored, codes = normal(0, 60, 8), np.random.RandomState(1).randint(3, size=60)
    stored[:, 0] = codes  # a convex combination of samples of a class keeps this feature
    x_t, y = normal(2, 200, 8), np.random.RandomState(3).randint(3, size=200)
    denoiser = EmpiricalDenoiser(stored, codes)
    mean = denoiser.posterior_mean(x_t, 0.4, y)
    np.testing.assert_allclose(mean[:, 0], y, atol=1e-5)
    for code in range(3):
        alone = EmpiricalDenoiser(stored[codes == code]).posterior_mean(x_t[y == code], 0.4)
        np.testing.assert_allclose(mean[y == code], alone, atol=1e-5)
    free = denoiser.posterior_mean(x_t, 0.4)
    np.testing.assert_allclose(free, EmpiricalDenoiser(stored).posterior_mean(x_t, 0.4), atol=1e-5)


def test_a_result_does_not_depend_on_the_other_queries():
    stored, x_t = normal(0, 3000, 64), normal(1, 500, 64)
    denoiser = EmpiricalDenoiser(stored, np.random.RandomState(2).randint(40, size=3000))
    for y in (None, np.random.RandomState(3).randint(40, size=500)):
        whole = denoiser.posterior_mean(x_t, 0.8, y)
        order = np.random.RandomState(4).permutation(500)
        for which in (order, order[:1], order[:17]):
            labels = None if y is None else y[which]
            actual = denoiser.posterior_mean(x_t[which], 0.8, labels)
            np.testing.assert_allclose(actual, whole[which], atol=1e-6)


def test_results_for_distant_queries_are_finite():
    stored, x_t = normal(0, 50, 8), 1e4 * normal(1, 20, 8)
    mean = EmpiricalDenoiser(stored).posterior_mean(x_t, 0.99)
    assert np.isfinite(mean).all()
    distances = (np.sqrt(0.99) * stored[None] - x_t[:, None]).astype(np.float64)
    np.testing.assert_allclose(mean, stored[(distances**2).sum(axis=-1).argmin(axis=1)], atol=1e-5)


@pytest.mark.parametrize("n_prototypes", [4, 10, 137, 400, 1000])
def test_prototypes_are_drawn_from_classes_in_proportion(n_prototypes):
    codes = np.random.RandomState(0).permutation(np.repeat([0, 1, 2, 3], [1, 50, 149, 200]))
    chosen = draw_prototypes(codes, n_prototypes, np.random.RandomState(1))
    assert len(np.unique(chosen)) == len(chosen) == min(n_prototypes, 400)
    counts = np.bincount(codes[chosen], minlength=4)
    assert (counts >= 1).all()
    fraction = min(n_prototypes / 400, 1)
    np.testing.assert_allclose(counts, fraction * np.bincount(codes), atol=2)
