r"""
=====================================================
Forgetting rows exactly, and reading the report on it
=====================================================

A classifier was trained on rows that have to go. :class:`~sklearn_ext.RandomFeatureClassifier` can
take them out: afterwards it is the model that was never shown them.
"""

# %%
# Wrong labels
# ------------
#
# A tenth of the labels of some handwritten digits is wrong, which is found out later.

from copy import deepcopy
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_ext import (
    RandomFeatureClassifier,
    UnlearningReportDisplay,
    make_forget_split,
    unlearning_report,
)

X, y_true = load_digits(return_X_y=True)
X, X_test, y_true, y_test = train_test_split(X / 16, y_true, random_state=0)
wrong = make_forget_split(y_true, "random", fraction=0.1, random_state=0)
y = np.where(wrong, (y_true + 3) % 10, y_true)

model = RandomFeatureClassifier(1500, gamma=0.1, random_state=0)
start = perf_counter()
model.fit(X, y)
fitted = perf_counter()
print(f"with wrong labels: accuracy {model.score(X_test, y_test):.1%}, {fitted - start:.2f} s")

start = perf_counter()
model.forget(wrong)
seconds = perf_counter() - start
print(f"wrong rows forgotten: accuracy {model.score(X_test, y_test):.1%}, {seconds:.2f} s")

retrained = clone(model).fit(X[~wrong], y[~wrong])
difference = abs(model.coef_ - retrained.coef_).max() / abs(retrained.coef_).max()
print(f"difference from the coefficients of a new fit: {difference:.0e}")

# %%
# The right labels are known by now, and the rows are welcome again.

model.learn(X[wrong], y_true[wrong])
print(f"learned with the right labels: accuracy {model.score(X_test, y_test):.1%}")

# %%
# Has it forgotten?
# -----------------
#
# Someone else wants rows deleted that are perfectly right. Three answers: nothing is done; the rows
# get random wrong labels, a popular way to make networks forget; the rows are forgotten. What the
# retrained model does is the measure.

forget = make_forget_split(y_true, "random", fraction=0.1, random_state=1)
original = RandomFeatureClassifier(gamma=0.5, alpha=0.1, random_state=0)
original.fit(X, y_true)

forgotten = deepcopy(original).forget(forget)
noise = (y_true[forget] + np.random.RandomState(0).randint(1, 10, size=forget.sum())) % 10
models = {
    "nothing done": original,
    "random labels": deepcopy(forgotten).learn(X[forget], noise),
    "forgotten": forgotten,
}
report = unlearning_report(
    models,
    X,
    y_true,
    forget,
    X_test=X_test,
    y_test=y_test,
    retrained=clone(original).fit(X[~forget], y_true[~forget]),
    random_state=0,
)
print(report)

# %%
# Dots on the line are right, whatever the number. Nothing done: the attacker takes three quarters
# of the rows for training rows (MIA), far more than with the retrained model. Random labels: the
# accuracy on the rows to forget (FA) falls to nothing, where the retrained model recognises nearly
# all of them, as it does other rows that it has not seen. That stands out as much, and costs
# accuracy elsewhere (TA).

UnlearningReportDisplay.from_report(report)
plt.show()

# %%
# The best labels
# ---------------
#
# There are labels that do no harm: what the retrained model says of the rows.
# :meth:`~sklearn_ext.RandomFeatureClassifier.relabel` knows them without forgetting anything. They
# are not the true labels, and not equally sure of every row.

scores = original.relabel(forget)
rows = np.argsort(scores[np.arange(len(scores)), y_true[forget]])[[0, 1, 2, -3, -2, -1]]
figure, axes = plt.subplots(2, 6, figsize=(9, 3), height_ratios=[1.4, 1], layout="constrained")
for (image, bars), row in zip(axes.T, rows, strict=True):
    image.imshow(X[forget][row].reshape(8, 8), cmap="gray_r")
    image.set(xticks=[], yticks=[], title=f"a {y_true[forget][row]}")
    bars.bar(original.classes_, scores[row], color="0.6")
    bars.bar(y_true[forget][row], scores[row, y_true[forget][row]])
    bars.set(ylim=(-1.2, 1.2), xticks=range(0, 10, 3), yticks=[-1, 0, 1])
axes[1, 0].set_ylabel("label")
plt.show()
