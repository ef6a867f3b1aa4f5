r"""
===========================================
Bandwidths that follow the data: LAB-RBF
===========================================

:class:`~sklearn_ext.LABRidgelessRegressor` stores few rows and learns, for each of them, how
fast the kernel decays along every feature. Two data sets show what that buys: a function whose
smoothness changes along one axis, and measurements whose features differ in relevance.
"""

# %%
# A function that is slow on the left and fast on the right
# ---------------------------------------------------------
#
# One width cannot suit both sides. Kernel ridge regression, its width and ridge chosen by
# cross-validation, takes a compromise; learned bandwidths need not.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV

from sklearn_ext import LABBandwidthDisplay, LABRidgelessRegressor, LossCurveDisplay

rng = np.random.default_rng(0)


def chirp(x):
    return np.sin(6 * np.exp(1.1 * x))


x = rng.uniform(0, 2, size=600)
y = chirp(x) + rng.normal(scale=0.2, size=x.size)
grid = np.linspace(0, 2, 800)

lab = LABRidgelessRegressor(kernel="rbf", n_support=60, random_state=0).fit(x[:, None], y)
search = GridSearchCV(
    KernelRidge(kernel="rbf"), {"gamma": np.logspace(0, 4, 9), "alpha": np.logspace(-3, 1, 5)}
).fit(x[:, None], y)

fig, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
top.plot(x, y, ".", color="0.8", label="data")
top.plot(grid, chirp(grid), color="k", lw=1, label="truth")
for name, model in (("LAB-RBF, 60 rows", lab), ("KernelRidge, 600 rows", search)):
    predicted = model.predict(grid[:, None])
    error = np.sqrt(np.mean((predicted - chirp(grid)) ** 2))
    top.plot(grid, predicted, label=f"{name}: RMSE {error:.3f}")
top.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
bottom.semilogy(lab.support_vectors_[:, 0], lab.bandwidths_[:, 0], "o")
bottom.axhline(search.best_params_["gamma"], color="C1", label="the one width of KernelRidge")
bottom.set(xlabel="x", ylabel="bandwidth")
bottom.legend()
plt.show()

# %%
# Which features matter, and where
# --------------------------------
#
# The diabetes data have 442 rows, few and noisy. Hence few support points, bandwidths that are
# held near their common mean (``locality``), and scores from repeated cross-validation.

from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import RepeatedKFold, cross_val_score

X, y = load_diabetes(return_X_y=True, as_frame=True)
lab = LABRidgelessRegressor(n_support=20, locality=0.1, max_iter=500, random_state=0)
folds = RepeatedKFold(n_splits=5, n_repeats=2, random_state=0)
for name, model in (("LAB-RBF", lab), ("ridge regression", RidgeCV())):
    scores = cross_val_score(model, X, y, cv=folds)
    print(f"{name}: R2 {scores.mean():.2f} +- {scores.std():.2f} over {scores.size} folds")

# %%
# A linear model does as well here; the learned kernel adds the picture of relevance. Rows are
# support points, and bright columns are features along which the prediction changes fast.

lab.fit(X, y)
LABBandwidthDisplay.from_estimator(lab)
plt.show()

# %%
# The training loss tells whether the number of steps was enough.

LossCurveDisplay.from_estimator(lab)
plt.show()
