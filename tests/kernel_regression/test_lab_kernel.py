"""The formulas of the LAB kernels, over every engine."""

import numpy as np
import pytest
import torch
from scipy.linalg import LinAlgError
from sklearn.metrics.pairwise import laplacian_kernel, rbf_kernel

from sklearn_ext.kernel_regression import dual_coefficients, make_engine, outer_loss
from sklearn_ext.kernel_regression.engines._lab_engine_torch import LABTorchEngine

ENGINES = ("numba", "torch")
KERNELS = ("exponential", "laplacian", "rbf")


@pytest.fixture(params=ENGINES)
def engine(request):
    return make_engine(request.param, None)


def reference_kernel(kernel, points, centers, theta):
    """The definition as a differentiable torch function."""
    gaps = points[:, None, :] - centers
    if kernel == "laplacian":
        return torch.exp(-(theta**2 * gaps.abs()).sum(dim=2))
    squares = (theta**2 * gaps**2).sum(dim=2)
    if kernel == "rbf":
        return torch.exp(-squares)
    # The square root has no derivative at zero, but that of the kernel is zero there.
    positive = squares > 0
    roots = torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)
    return torch.exp(-roots)


def problem(n_outputs=1, n_features=4, seed=0):
    """Return arrays of a problem whose batch contains some centers, one of which is repeated."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(30, n_features))
    centers[7] = centers[3]
    X = np.vstack((rng.normal(size=(21, n_features)), centers[:5]))
    return {
        "X": X,
        "Y": rng.normal(size=(26, n_outputs)),
        "weights": rng.uniform(0.1, 2.0, size=(26, 1)),
        "centers": centers,
        "targets": rng.normal(size=(30, n_outputs)),
        "theta": rng.normal(size=(30, n_features)),
        "alpha": 0.05,
    }


def evaluate(engine, kernel, p):
    arrays = {k: engine.asarray(v) for k, v in p.items() if k != "alpha"}
    return outer_loss(engine, kernel, **arrays, alpha=p["alpha"])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_loss_and_gradients_match_autograd(engine, kernel, n_outputs):
    p = problem(n_outputs)
    t = {k: torch.tensor(v, dtype=torch.float64) for k, v in p.items()}
    for name in ("theta", "targets", "alpha"):
        t[name].requires_grad_()
    K_cc = reference_kernel(kernel, t["centers"], t["centers"], t["theta"])
    coef = torch.linalg.solve(K_cc + t["alpha"] * torch.eye(30, dtype=torch.float64), t["targets"])
    residuals = reference_kernel(kernel, t["X"], t["centers"], t["theta"]) @ coef - t["Y"]
    loss = (t["weights"] * residuals**2).sum() / len(p["X"])
    loss.backward()

    computed = evaluate(engine, kernel, p)
    assert computed.value == pytest.approx(loss.item(), rel=1e-9)
    for name in ("theta", "targets"):
        expected = t[name].grad.numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            engine.to_numpy(getattr(computed, name)), expected, atol=1e-9 * scale, rtol=0
        )
    assert computed.alpha == pytest.approx(t["alpha"].grad.item(), rel=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_match_central_differences(engine, kernel):
    p = problem(n_outputs=2)
    gradient = evaluate(engine, kernel, p)
    rng = np.random.default_rng(1)
    step = 1e-6
    for name in ("theta", "targets"):
        direction = rng.normal(size=p[name].shape)
        up = evaluate(engine, kernel, {**p, name: p[name] + step * direction}).value
        down = evaluate(engine, kernel, {**p, name: p[name] - step * direction}).value
        slope = (engine.to_numpy(getattr(gradient, name)) * direction).sum()
        assert (up - down) / (2 * step) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_engines_agree(kernel):
    p = problem(n_outputs=3, n_features=17)
    numba, torch_ = (evaluate(make_engine(name, None), kernel, p) for name in ENGINES)
    assert numba.value == pytest.approx(torch_.value, rel=1e-10)
    for name in ("theta", "targets"):
        a, b = getattr(numba, name), getattr(torch_, name).numpy()
        np.testing.assert_allclose(a, b, atol=1e-10 * np.abs(a).max(), rtol=1e-10)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ENGINES)
def test_single_precision_is_close(kernel, name):
    engines = {
        "numba": make_engine("numba").in_single_precision(),
        "torch": LABTorchEngine(dtype=torch.float32),
    }
    p = problem()
    exact = evaluate(make_engine("numba", None), kernel, p)
    single = evaluate(engines[name], kernel, p)
    assert single.value == pytest.approx(exact.value, rel=1e-4)
    scale = np.abs(exact.theta).max()
    theta = engines[name].to_numpy(single.theta)
    np.testing.assert_allclose(theta, exact.theta, atol=1e-3 * scale)
    assert "float32" in str(single.theta.dtype)


@pytest.mark.parametrize("kernel", KERNELS)
def test_identical_points_are_at_distance_zero_exactly(engine, kernel):
    rng = np.random.default_rng(0)
    rows = engine.asarray(1e4 + rng.normal(size=(9, 3)))
    theta = engine.asarray(rng.normal(size=(9, 3)))
    K = engine.to_numpy(engine.kernel(kernel, rows, rows, theta)[0])
    assert (np.diag(K) == 1.0).all()
    assert np.isfinite(K).all()
    assert (K <= 1.0).all()


@pytest.mark.parametrize("n_points", [1, 3, 4, 5, 130])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernel_matches_its_definition_for_any_batch(engine, kernel, n_points):
    rng = np.random.default_rng(n_points)
    points, centers, theta = (rng.normal(size=(n, 3)) for n in (n_points, 11, 11))
    expected = reference_kernel(kernel, *map(torch.tensor, (points, centers, theta))).numpy()
    arrays = [engine.asarray(a) for a in (points, centers, theta)]
    K, _ = engine.kernel(kernel, *arrays)
    np.testing.assert_allclose(engine.to_numpy(K), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "reference"), [("laplacian", laplacian_kernel), ("rbf", rbf_kernel)]
)
def test_shared_bandwidths_give_the_kernel_of_scikit_learn(engine, kernel, reference):
    rng = np.random.default_rng(0)
    points, centers = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    theta = np.full(centers.shape, np.sqrt(0.3))
    K, _ = engine.kernel(kernel, *(engine.asarray(a) for a in (points, centers, theta)))
    np.testing.assert_allclose(engine.to_numpy(K), reference(points, centers, gamma=0.3))


def test_rows_are_points_and_columns_are_centers(engine):
    points = np.array([[0.0], [1.0]])
    centers = np.array([[0.0], [2.0]])
    theta = np.array([[1.0], [3.0]])
    K, _ = engine.kernel("laplacian", *(engine.asarray(a) for a in (points, centers, theta)))
    np.testing.assert_allclose(engine.to_numpy(K), np.exp(-np.array([[0, 18], [1, 9]])))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("alpha", [1e-12, 1e-3, 0.7])
def test_residual_on_the_centers_is_alpha_times_coefficients(engine, kernel, alpha):
    p = problem(n_outputs=2)
    centers, theta, targets = (engine.asarray(p[k][8:]) for k in ("centers", "theta", "targets"))
    coef = dual_coefficients(engine, kernel, centers, theta, targets, alpha)
    K, _ = engine.kernel(kernel, centers, centers, theta)
    residual = engine.to_numpy(targets - K @ coef)
    np.testing.assert_allclose(residual, alpha * engine.to_numpy(coef), atol=1e-10)


def test_a_repeated_center_without_ridge_is_singular(engine):
    centers = engine.asarray(np.array([[1.0, 2.0], [1.0, 2.0]]))
    theta, targets = engine.asarray(np.ones((2, 2))), engine.asarray(np.ones((2, 1)))
    with pytest.raises(LinAlgError, match="singular"):
        dual_coefficients(engine, "rbf", centers, theta, targets, 0.0)
