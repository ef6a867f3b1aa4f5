r"""
==================================================
One network from twelve: model soups on the digits
==================================================

You fine-tune a network several times, with different learning rates and lengths, and keep only the
best one. A soup uses all of them by averaging their *weights*. The result is a single network,
which is often better calibrated than its best ingredient.
"""

# %%
# One start, twelve ingredients
# -----------------------------
#
# Averaging weights makes sense only if all networks have the same start. Here, the start is a
# network that was trained on noisy digits. It is fine-tuned on clean digits, with settings drawn
# from distributions. ``cache_dir`` keeps the ingredients, so that the soups below share them
# instead of training them again.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

from sklearn_ext import (
    GreedySoup,
    LearnedSoup,
    MEHLSoup,
    SoupCoefficientDisplay,
    SoupScoreDisplay,
    UniformSoup,
)
from sklearn_ext.neural import NetClassifier

X, y = load_digits(return_X_y=True)
X_start, X_rest, y_start, y_rest = train_test_split(X / 16, y, train_size=500, random_state=0)
X_tune, X_test, y_tune, y_test = train_test_split(X_rest, y_rest, train_size=600, random_state=0)

noise = 0.35 * np.random.RandomState(0).normal(size=X_start.shape)
start = NetClassifier(module__hidden_sizes=(64,), max_epochs=20, random_state=0)
start.fit(X_start + noise, y_start)

folder = tempfile.TemporaryDirectory()
shared = {
    "param_grid": {
        "lr": loguniform(3e-4, 1e-2),
        "optimizer__weight_decay": loguniform(1e-4, 1e-1),
        "max_epochs": [8, 12, 16],
    },
    "n_ingredients": 12,
    "validation_fraction": 0.5,
    "cache_dir": folder.name,
    "random_state": 0,
}
soups = {
    "uniform": UniformSoup(start, **shared),
    "greedy": GreedySoup(start, **shared),
    "learned": LearnedSoup(start, layerwise=False, **shared),
    "MEHL": MEHLSoup(start, layerwise=False, **shared),
    "MEHL+": MEHLSoup(start, **shared),
}
for soup in soups.values():
    soup.fit(X_tune, y_tune)

# %%
# The idea: one basin
# -------------------
#
# Three networks span a plane of networks, whose points are mixtures of their weights. The gray
# areas show the loss on the test samples. The star is the average of the three: its loss is below
# their mean, but the best corner is slightly better. Points outside the triangle, which have
# negative coefficients, can be better than all corners.

three = np.eye(12)[np.argsort(soups["MEHL"].ingredient_losses_)[:3]]


def loss_of(weights):
    network = soups["MEHL"].combine(weights @ three)
    return log_loss(y_test, network.predict_proba(X_test.astype(np.float32)))


grid = np.linspace(-0.5, 1.5, 17)
losses = [[loss_of(np.array([1 - u - v, u, v])) for u in grid] for v in grid]
figure, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
figure.colorbar(ax.contourf(grid, grid, losses, 20, cmap="Greys"), label="log loss")
corners = [loss_of(corner) for corner in np.eye(3)]
for loss, corner in zip(corners, [(0, 0), (1, 0), (0, 1)], strict=True):
    ax.plot(*corner, "o", color="C0")
    ax.annotate(f"{loss:.3f}", corner, xytext=(6, 6), textcoords="offset points")
ax.plot(1 / 3, 1 / 3, "*", color="C3", ms=14)
middle = loss_of(np.full(3, 1 / 3))
ax.annotate(f"{middle:.3f}", (1 / 3, 1 / 3), xytext=(8, 6), textcoords="offset points", color="C3")
assert middle < np.mean(corners)
assert np.min(losses) < min(corners) < middle
ax.set(xlabel="weight of the second network", ylabel="weight of the third")
plt.show()

# %%
# Scores on the mixing samples
# ----------------------------
#
# Half of the samples are held out to evaluate the ingredients and to learn the coefficients.

SoupScoreDisplay.from_estimator(soups["greedy"])
plt.show()

# %%
# The greedy soup averages only a few ingredients. The hyperplane learned soup gives each parameter
# tensor its own coefficients. They sum to one and may be negative; a negative coefficient moves the
# soup away from its ingredient.

figure, axes = plt.subplots(2, 1, figsize=(7, 8), layout="constrained", height_ratios=(1, 2))
SoupCoefficientDisplay.from_estimator(soups["MEHL"], ax=axes[0])
axes[0].set_xticks([])
axes[0].set_xlabel("")
SoupCoefficientDisplay.from_estimator(soups["MEHL+"], ax=axes[1])
plt.show()

# %%
# Scores on the test samples
# --------------------------
#
# The coefficients were learned on the mixing samples, so the comparison needs a third part of the
# data. The ensemble averages the probabilities of all twelve networks, and each prediction costs
# twelve times as much.

MEHL = soups["MEHL"]
single = [MEHL.combine(row).predict_proba(X_test.astype(np.float32)) for row in np.eye(12)]
best = np.lexsort((MEHL.ingredient_losses_, -MEHL.ingredient_scores_))[0]
predictions = {
    "best single": single[best],
    **{name: soup.predict_proba(X_test) for name, soup in soups.items()},
    "ensemble of 12": np.mean(single, axis=0),
}
results = pd.DataFrame(
    {
        "accuracy": {k: accuracy_score(y_test, p.argmax(axis=1)) for k, p in predictions.items()},
        "log loss": {k: log_loss(y_test, p) for k, p in predictions.items()},
    }
)
print(results.round(4))
losses = results["log loss"]
assert losses[list(soups)].min() < losses["best single"]

figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
ax.barh(results.index[::-1], results["log loss"][::-1])
ax.set_xlabel("log loss on test samples")
plt.show()

# %%
# The differences in accuracy are within the noise of about 700 test samples. At this size, soups
# improve the log loss. A soup is a single net and is saved like one: as a safetensors file, whose
# header contains the coefficients.

soups["MEHL+"].save(f"{folder.name}/soup.safetensors")
again = MEHLSoup(start).load(f"{folder.name}/soup.safetensors")
assert (again.predict(X_test) == soups["MEHL+"].predict(X_test)).all()
folder.cleanup()
