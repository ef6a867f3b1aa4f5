r"""
====================================================
Multiple imputation: what a filled table hides
====================================================

A filled table looks as if nothing had been missing. Whatever is computed from it is then too
certain. :class:`~sklearn_ext.SupervisedKernelImputer` knows the posterior of every hole: it returns
standard deviations, and it draws. Analysing several draws and combining the results gives back the
uncertainty that the holes have caused.
"""

# %%
# Draws from one fitted model
# ---------------------------
#
# 442 patients with ten measurements; 40 % of the entries are removed.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from sklearn_ext import SupervisedKernelImputer

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X, y = X[["bmi", "bp", "s5"]], (y - y.mean()) / y.std()
X = (X - X.mean()) / X.std()
holes = np.random.RandomState(0).rand(*X.shape) < 0.4
rows = X.mask(holes)

imputer = SupervisedKernelImputer(residual_smoothing=False, clip=False, random_state=0)
imputer.fit(rows, y)
mean, std = imputer.transform(rows, return_std=True)
inside = np.abs(mean - X.to_numpy())[holes] < 1.96 * std[holes]
print(f"true values within 1.96 standard deviations: {inside.mean():.1%}")

# %%
# Means are less spread than true values, since a mean is a cautious guess. Draws have the right
# spread. One fitted model gives as many as one likes: ``random_state`` numbers them.

imputer.set_params(sample_posterior=True)
draw = imputer.set_params(random_state=1).transform(rows)
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
bins = np.linspace(-3, 3, 25)
for values, label in (
    (X.to_numpy()[holes], "true values"),
    (mean[holes], "posterior means"),
    (draw[holes], "one draw"),
):
    ax.hist(values, bins, histtype="step", density=True, linewidth=1.5, label=label)
ax.set_xlabel("value of a removed entry")
ax.legend(frameon=False)
plt.show()

# %%
# A regression on many draws
# --------------------------
#
# How does the progression of the disease depend on the three measurements? The target has to take
# part in the imputation, else its dependence is watered down: training rows are completed by
# ``fit_transform(X, y)``. Results of the draws are combined by Rubin's rules: the variance of a
# coefficient is its mean variance within draws plus the variance between them.


def regression(features, target):
    """Coefficients and their squared standard errors."""
    features = np.asarray(features)
    model = LinearRegression().fit(features, target)
    residual = target - model.predict(features)
    design = np.column_stack((np.ones(len(features)), features))
    noise = np.sum(residual**2) / (len(target) - design.shape[1])
    return model.coef_, noise * np.diag(np.linalg.inv(design.T @ design))[1:]


def draws(n):
    for seed in range(n):
        drawn = imputer.set_params(random_state=seed).fit_transform(rows, y)
        yield regression(drawn, y)


n_draws = 20
coefs, variances = map(np.array, zip(*draws(n_draws), strict=True))
between = coefs.var(axis=0, ddof=1)
pooled = coefs.mean(axis=0), variances.mean(axis=0) + (1 + 1 / n_draws) * between
complete = rows.notna().all(axis=1)
results = {
    "complete table": regression(X, y),
    "complete rows only": regression(rows[complete], y[complete]),
    "column means": regression(rows.fillna(rows.mean()), y),
    f"{n_draws} draws, combined": pooled,
}

figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for k, (label, (coef, variance)) in enumerate(results.items()):
    ax.errorbar(
        np.arange(3) + 0.15 * (k - 1.5), coef, yerr=1.96 * np.sqrt(variance), fmt="o", label=label
    )
ax.axhline(0, color="0.7", linewidth=0.8)
ax.set_xticks(range(3), X.columns)
ax.set_ylabel("coefficient, 95 % interval")
figure.legend(loc="outside upper center", ncols=2, frameon=False)
plt.show()

# %%
# The combined intervals are wider than those of the complete table, as they should be: entries are
# missing. They are narrower than those of the complete rows, a fifth of the table. Mean and
# covariance of the model are held fixed between draws, so with few rows the intervals are still a
# little too narrow.
