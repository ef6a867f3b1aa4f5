"""LAB-RBF: kernel regression with learned bandwidths."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.cbook import get_sample_data
from matplotlib.figure import FigureBase
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_sample_image
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ext import LABRidgelessRegressor

from .shared import show, timed

FloatArray: TypeAlias = npt.NDArray[np.floating]
Split: TypeAlias = tuple[FloatArray, FloatArray, FloatArray, FloatArray]  # X, X_test, y, y_test

PATCH = 5  # pixels; a patch of the mosaic predicts the colors missing at its center
N_SUPPORT = 200
N_KERNEL_SAMPLES = 5000  # kernel ridge regression stores all samples; its time is cubic in them


def run(figure: FigureBase) -> None:
    """Compare regressors on one task that suits LAB-RBF and on one that does not."""
    title = (
        "Camera mosaic: green and blue of a photo's red pixels, from the 5 x 5 pixels around them"
    )
    patches = split(*mosaic_patches())
    models = compare_regressors(title, patches)
    plot(figure, models, patches)
    title = "Terrain: elevation in meters from two coordinates; equally rough everywhere"
    compare_regressors(title, split(*terrain()))


def mosaic_patches() -> tuple[FloatArray, FloatArray]:
    """Return patches of a camera mosaic, and the colors missing at their centers.

    The sensor of a camera records one color per pixel, in the Bayer pattern. A row of X holds the
    25 values around a red pixel of a photo; a row of y holds the true green and blue values there.
    """
    image = load_sample_image("china.jpg").astype(float)
    image = image[: image.shape[0] // 2 * 2]
    mosaic = np.empty(image.shape[:2])
    for row, column, color in [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)]:
        mosaic[row::2, column::2] = image[row::2, column::2, color]
    patches = np.lib.stride_tricks.sliding_window_view(mosaic, (PATCH, PATCH))[::2, ::2]
    margin = PATCH // 2
    targets = image[margin:-margin, margin:-margin][::2, ::2, 1:]
    return patches.reshape(-1, PATCH**2), targets.reshape(-1, 2)


def terrain() -> tuple[FloatArray, FloatArray]:
    """Return the coordinates of a grid around the Jacksboro fault, and the elevations there."""
    elevation = get_sample_data("jacksboro_fault_dem.npz")["elevation"].astype(float)
    return np.stack(np.indices(elevation.shape), axis=-1).reshape(-1, 2), elevation.ravel()


def split(X: FloatArray, y: FloatArray) -> Split:
    return train_test_split(X, y, train_size=20_000, test_size=20_000, random_state=0)


def lab(X: FloatArray, y: FloatArray, n_support: int) -> LABRidgelessRegressor:
    # Neighboring pixels act together, and so do coordinates. The laplacian kernel is additive.
    model = LABRidgelessRegressor(kernel="exponential", n_support=n_support, random_state=0)
    return model.fit(X, y)


def kernel_ridge(
    kernel: str, X: FloatArray, y: FloatArray, n_samples: int
) -> TransformedTargetRegressor:
    """Fit kernel ridge regression; cross-validation on 1,000 samples chooses gamma and alpha."""
    grid = {
        "regressor__kernelridge__gamma": np.array([0.03, 0.3, 3, 30, 300]) / X.shape[1],
        "regressor__kernelridge__alpha": [1e-3, 1e-1],
    }
    pipeline = make_pipeline(StandardScaler(), KernelRidge(kernel=kernel))
    model = TransformedTargetRegressor(pipeline, transformer=StandardScaler())
    search = GridSearchCV(model, grid, cv=3, refit=False).fit(X[:1000], y[:1000])
    return model.set_params(**search.best_params_).fit(X[:n_samples], y[:n_samples])


def boosting(X: FloatArray, y: FloatArray) -> BaseEstimator:
    model = HistGradientBoostingRegressor(random_state=0)
    return (model if y.ndim == 1 else MultiOutputRegressor(model)).fit(X, y)


def compare_regressors(title: str, data: Split) -> dict[str, BaseEstimator]:
    """Fit LAB-RBF and the baselines, print a table, and return the models by name."""
    X, X_test, y, y_test = data
    fits = {
        "* LAB-RBF": lambda: lab(X, y, N_SUPPORT),
        "KernelRidge rbf": lambda: kernel_ridge("rbf", X, y, N_KERNEL_SAMPLES),
        "KernelRidge laplacian": lambda: kernel_ridge("laplacian", X, y, N_KERNEL_SAMPLES),
        "HistGradientBoosting": lambda: boosting(X, y),
    }
    stored = [N_SUPPORT, N_KERNEL_SAMPLES, N_KERNEL_SAMPLES, "trees"]
    models, rows = {}, []
    for (name, fit), n_stored in zip(fits.items(), stored, strict=True):
        models[name], seconds = timed(fit)
        predicted = models[name].predict(X_test)
        scores = r2_score(y_test, predicted), root_mean_squared_error(y_test, predicted)
        rows.append((name, n_stored, *scores, seconds))
    show(title, ["", "stored samples", "R2", "RMSE", "fit seconds"], rows)
    return models


def plot(figure: FigureBase, models: dict[str, BaseEstimator], data: Split) -> None:
    """Draw the error against the number of stored samples, and the relevance of the pixels."""
    X, X_test, y, y_test = data
    left, right = figure.subplots(1, 2, width_ratios=(5, 4))

    def draw(
        label: str,
        sizes: list[int],
        fit: Callable[[int], BaseEstimator],
        last: BaseEstimator,
        **style: Any,
    ) -> None:
        fitted = [*(fit(size) for size in sizes[:-1]), last]
        errors = [root_mean_squared_error(y_test, model.predict(X_test)) for model in fitted]
        left.plot(sizes, errors, label=label, **style)

    for kernel, marker in (("rbf", "s"), ("laplacian", "D")):
        name = f"KernelRidge {kernel}"
        refit = functools.partial(refit_on_fewer, models[name], X, y)
        draw(name, [100, 500, 1500, N_KERNEL_SAMPLES], refit, models[name], marker=marker, ms=4)
    ours = functools.partial(lab, X, y)
    draw("LAB-RBF", [50, 100, N_SUPPORT], ours, models["* LAB-RBF"], marker="*", ms=10, color="C3")
    left.set(xscale="log", xlabel="stored samples", ylabel="test RMSE (range: 0 to 255)")
    left.legend(frameon=False)

    importances = models["* LAB-RBF"].feature_importances_.reshape(PATCH, PATCH)
    image = right.imshow(importances, cmap="Greys", vmin=0)
    for row, column in np.ndindex(PATCH, PATCH):
        letter, color = [("R", "tab:red"), ("G", "tab:green"), ("B", "tab:blue")][
            row % 2 + column % 2
        ]
        right.text(column, row, letter, color=color, ha="center", va="center", weight="bold")
    right.set(xticks=[], yticks=[], title="learned relevance of the 25 pixels")
    figure.colorbar(image, ax=right)


def refit_on_fewer(
    model: BaseEstimator, X: FloatArray, y: FloatArray, n_samples: int
) -> BaseEstimator:
    return clone(model).fit(X[:n_samples], y[:n_samples])
