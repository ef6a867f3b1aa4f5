r"""
========================================================
Forgetting samples exactly, and reading the report on it
========================================================

A classifier was trained on samples that must be removed.
:class:`~sklearn_ext.RandomFeatureClassifier` can forget them: it then equals a model that was never
trained on them.
"""

# %%
# Wrong labels
# ------------
#
# A tenth of the labels of some handwritten digits are wrong, which is discovered after training.

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
print(f"wrong samples forgotten: accuracy {model.score(X_test, y_test):.1%}, {seconds:.2f} s")

retrained = clone(model).fit(X[~wrong], y[~wrong])
ours, expected = model.feature_coef_, retrained.feature_coef_
difference = abs(ours - expected).max() / abs(expected).max()
print(f"difference from the coefficients of a new fit: {difference:.0e}")
assert difference < 1e-9

# %%
# Once the right labels are known, the model can learn the samples again.

model.learn(X[wrong], y_true[wrong])
print(f"learned with the right labels: accuracy {model.score(X_test, y_test):.1%}")

# %%
# Has it forgotten?
# -----------------
#
# Someone else asks you to delete samples whose labels are right. The report compares three answers:
# you do nothing; you train on random wrong labels, a popular way to make networks forget; or you
# forget the samples. The retrained model is the reference.

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
nothing, noisy, ideal = (
    report.scores[name] for name in ("nothing done", "random labels", "retrained")
)
assert 70 < nothing["MIA"] < 80
assert ideal["MIA"] < nothing["MIA"] - 20
assert noisy["FA"] < 5
assert ideal["FA"] > 95
assert noisy["TA"] < ideal["TA"]

# %%
# A dot on the line is ideal, whatever its value. If nothing is done, the attack classifies three
# quarters of the forget set as training samples (MIA), far more than for the retrained model. With
# random labels, the accuracy on the forget set (FA) falls to nothing. The retrained model
# recognizes nearly all of these samples, as it does other samples that it was not trained on, so
# the random labels stand out just as much. They also cost accuracy on test samples (TA).

UnlearningReportDisplay.from_report(report)
plt.show()

# %%
# The best labels
# ---------------
#
# The best labels for the forget set are the predictions of the retrained model.
# :meth:`~sklearn_ext.RandomFeatureClassifier.relabel` computes them without forgetting anything.
# They are not the true labels, and they are more certain for some samples than for others.

scores = original.relabel(forget)
shown = np.argsort(scores[np.arange(len(scores)), y_true[forget]])[[0, 1, 2, -3, -2, -1]]
figure, axes = plt.subplots(2, 6, figsize=(9, 3), height_ratios=[1.4, 1], layout="constrained")
for (image, bars), i in zip(axes.T, shown, strict=True):
    image.imshow(X[forget][i].reshape(8, 8), cmap="gray_r")
    image.set(xticks=[], yticks=[], title=f"a {y_true[forget][i]}")
    bars.bar(original.classes_, scores[i], color="0.6")
    bars.bar(y_true[forget][i], scores[i, y_true[forget][i]])
    bars.set(ylim=(-1.2, 1.2), xticks=range(0, 10, 3), yticks=[-1, 0, 1])
axes[1, 0].set_ylabel("label")
plt.show()
