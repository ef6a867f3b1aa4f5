r"""
===================================================
Multiple imputation: account for the missing values
===================================================

An imputed table looks as if nothing had been missing, so results computed from it are too certain.
:class:`~sklearn_ext.SupervisedKernelImputer` fits a posterior for each missing value. It returns
standard deviations and draws from the posterior. If you analyze several draws and combine the
results, they include the uncertainty from the missing values.
"""

# %%
# Draws from one fitted model
# ---------------------------
#
# The data are three measurements of 442 patients. We remove 40% of the entries.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from sklearn_ext import SupervisedKernelImputer

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X, y = X[["bmi", "bp", "s5"]], (y - y.mean()) / y.std()
X = (X - X.mean()) / X.std()
missing = np.random.RandomState(0).rand(*X.shape) < 0.4
samples = X.mask(missing)

imputer = SupervisedKernelImputer(residual_smoothing=False, clip=False, random_state=0)
imputer.fit(samples, y)
mean, std = imputer.transform(samples, return_std=True)
inside = np.abs(mean - X.to_numpy())[missing] < 1.96 * std[missing]
print(f"true values within 1.96 standard deviations: {inside.mean():.1%}")
assert 0.9 < inside.mean() < 0.99

# %%
# Posterior means vary less than true values. Draws have the right spread. One fitted model gives
# any number of draws, and ``random_state`` selects one of them.

imputer.set_params(sample_posterior=True)
draw = imputer.set_params(random_state=1).transform(samples)
spread = X.to_numpy()[missing].std()
assert mean[missing].std() < 0.8 * spread < 0.9 * draw[missing].std() < spread
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
bins = np.linspace(-3, 3, 25)
for values, label in (
    (X.to_numpy()[missing], "true values"),
    (mean[missing], "posterior means"),
    (draw[missing], "one draw"),
):
    ax.hist(values, bins, histtype="step", density=True, linewidth=1.5, label=label)
ax.set_xlabel("value of a removed entry")
ax.legend(frameon=False)
plt.show()

# %%
# A regression on many draws
# --------------------------
#
# How does the progression of the disease depend on the three measurements? The imputation must use
# the target, because the estimated dependence is too weak otherwise. We therefore impute by
# ``fit_transform(X, y)``. Rubin's rules combine the results of the draws: the variance of a
# coefficient is its mean variance within draws plus the variance between draws.


def regression(features, target):
    """Return the coefficients and their squared standard errors."""
    features = np.asarray(features)
    model = LinearRegression().fit(features, target)
    residual = target - model.predict(features)
    design = np.column_stack((np.ones(len(features)), features))
    noise = np.sum(residual**2) / (len(target) - design.shape[1])
    return model.coef_, noise * np.diag(np.linalg.inv(design.T @ design))[1:]


def draws(n):
    for seed in range(n):
        drawn = imputer.set_params(random_state=seed).fit_transform(samples, y)
        yield regression(drawn, y)


n_draws = 20
coefs, variances = map(np.array, zip(*draws(n_draws), strict=True))
between = coefs.var(axis=0, ddof=1)
pooled = coefs.mean(axis=0), variances.mean(axis=0) + (1 + 1 / n_draws) * between
complete = samples.notna().all(axis=1)
results = {
    "complete table": regression(X, y),
    "complete samples only": regression(samples[complete], y[complete]),
    "column means": regression(samples.fillna(samples.mean()), y),
    f"{n_draws} draws, combined": pooled,
}

widths = {label: variance for label, (_, variance) in results.items()}
assert (pooled[1] > widths["complete table"]).all()
assert (pooled[1] < widths["complete samples only"]).all()

figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for k, (label, (coef, variance)) in enumerate(results.items()):
    ax.errorbar(
        np.arange(3) + 0.15 * (k - 1.5), coef, yerr=1.96 * np.sqrt(variance), fmt="o", label=label
    )
ax.axhline(0, color="0.7", linewidth=0.8)
ax.set_xticks(range(3), X.columns)
ax.set_ylabel("coefficient, 95% interval")
figure.legend(loc="outside upper center", ncols=2, frameon=False)
plt.show()

# %%
# The combined intervals are wider than those of the complete table, as they should be, because
# entries are missing. They are narrower than those of the complete samples, which are a fifth of
# the table. The draws treat the fitted mean and covariance as exact, so with few samples the
# intervals are still slightly too narrow.
