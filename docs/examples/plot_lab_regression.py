r"""
========================================
Bandwidths that follow the data: LAB-RBF
========================================

:class:`~sklearn_ext.LABRidgelessRegressor` stores a few training samples as support points. For
each support point, it learns how fast the kernel decays along every feature. This example shows the
benefit on a function of one variable, on a function whose relevant features change between regions,
and on measurements of patients.
"""

# %%
# The idea, in one dimension
# --------------------------
#
# A wave is slow on the left and fast on the right. Both fits use 20 support points. With
# ``locality=0``, all support points share one bandwidth, which is a compromise. When each support
# point has its own bandwidth, kernels are wide where the wave is slow or the support points are far
# apart, and narrow elsewhere.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV

from sklearn_ext import LABBandwidthDisplay, LABRidgelessRegressor, LossCurveDisplay

rng = np.random.default_rng(0)


def wave(x):
    return np.sin(4 * np.exp(1.5 * x))


samples = rng.uniform(-1, 1.2, size=(800, 1))
noisy = wave(samples[:, 0]) + rng.normal(scale=0.1, size=len(samples))
x = np.linspace(-1, 1.2, 400)[:, None]

fig, axes = plt.subplots(
    2, 2, figsize=(9, 4), sharex=True, sharey="row", height_ratios=(2, 1), layout="constrained"
)
errors = []
for (top, bottom), locality in zip(axes.T, (0.0, 1.0), strict=True):
    lab = LABRidgelessRegressor(kernel="rbf", n_support=20, locality=locality, random_state=0)
    lab.fit(samples, noisy)
    errors.append(np.sqrt(np.mean((lab.predict(x) - wave(x[:, 0])) ** 2)))
    top.plot(samples, noisy, ".", color="0.8", ms=3)
    top.plot(x, lab.predict(x), color="C3")
    top.plot(lab.support_vectors_, lab.predict(lab.support_vectors_), "*", color="C3", ms=9)
    kernels = np.exp(-lab.bandwidths_.T * (x - lab.support_vectors_.T) ** 2)
    bottom.plot(x, kernels, color="C3", lw=0.8)
    name = "one shared bandwidth" if locality == 0 else "one bandwidth per support point"
    top.set_title(f"{name}: error {errors[-1]:.2f}")
assert errors[1] < errors[0]
axes[0, 0].set_ylabel("prediction")
axes[1, 0].set_ylabel("kernels")
plt.show()

# %%
# A function whose features matter in different regions
# -----------------------------------------------------
#
# The first feature switches between two regimes. On the left, the target depends on the second
# feature; on the right, it depends on the third. The other three features are noise.


def switching(X):
    right = 1 / (1 + np.exp(-8 * X[:, 0]))
    return (1 - right) * np.sin(4 * X[:, 1]) + right * np.sin(4 * X[:, 2])


X = rng.uniform(-1, 1, size=(2000, 6))
y = switching(X) + rng.normal(scale=0.1, size=len(X))
X_test = rng.uniform(-1, 1, size=(2000, 6))

# %%
# Kernel ridge regression stores every sample and gives all six features the same weight in its
# distances. Cross-validation chooses its bandwidth and its regularization.

lab = LABRidgelessRegressor(n_support=150, random_state=0).fit(X, y)
models = {"LAB-RBF, 150 stored samples": lab}
for kernel in ("rbf", "laplacian"):
    grid = {"gamma": [0.03, 0.1, 0.3, 1.0], "alpha": [0.001, 0.01, 0.1]}
    search = GridSearchCV(KernelRidge(kernel=kernel), grid, cv=3).fit(X, y)
    models[f"KernelRidge {kernel}, 2000 stored samples"] = search
errors = {
    name: np.sqrt(np.mean((model.predict(X_test) - switching(X_test)) ** 2))
    for name, model in models.items()
}
for name, error in errors.items():
    print(f"{name}: RMSE {error:.3f}")
assert min(errors, key=errors.get) == "LAB-RBF, 150 stored samples"

# %%
# The learned bandwidths separate the noise from the relevant features. They hardly differ between
# the two regions, although the target depends on the second feature in one and on the third in the
# other.

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
positions = np.arange(X.shape[1])
for shift, (side, chosen) in enumerate(
    {
        "support points on the left": lab.support_vectors_[:, 0] < -0.3,
        "support points on the right": lab.support_vectors_[:, 0] > 0.3,
    }.items()
):
    median = np.median(lab.bandwidths_[chosen], axis=0)
    assert median[:3].min() > 100 * median[3:].max()
    ax.bar(positions + 0.4 * shift - 0.2, median, width=0.4, label=side)
ax.set_xticks(positions, [f"feature {k}" for k in positions])
ax.set_ylabel("median bandwidth")
ax.legend(frameon=False)
plt.show()

# %%
# A few noisy samples
# -------------------
#
# The diabetes data have only 442 noisy samples. We therefore use few support points, keep the
# bandwidths near their common mean (``locality``), set a large regularization (``alpha``), and
# compute scores by repeated cross-validation.

from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import RepeatedKFold, cross_val_score

X, y = load_diabetes(return_X_y=True, as_frame=True)
lab = LABRidgelessRegressor(n_support=20, locality=0.1, alpha=1.0, max_iter=500, random_state=0)
folds = RepeatedKFold(n_splits=5, n_repeats=2, random_state=0)
means = []
for name, model in (("LAB-RBF", lab), ("ridge regression", RidgeCV())):
    scores = cross_val_score(model, X, y, cv=folds)
    means.append(scores.mean())
    print(f"{name}: R2 {scores.mean():.2f} +- {scores.std():.2f} over {scores.size} folds")
assert means[1] >= means[0]

# %%
# A linear model is at least as accurate on these data. The learned kernel also shows which features
# are relevant: each row of the picture is a support point, and bright columns are features along
# which the prediction changes fast.

lab.fit(X, y)
LABBandwidthDisplay.from_estimator(lab)
plt.show()

# %%
# The training loss shows whether the number of iterations was sufficient.

LossCurveDisplay.from_estimator(lab)
plt.show()
