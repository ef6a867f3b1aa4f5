r"""
=======================================================
Outliers at right angles: a classifier that says "none"
=======================================================

A net for digits 0 to 7 assigns a class to any input. :class:`~sklearn_ext.OrthLossOODDetector`
fine-tunes it with inputs that belong to no class, until their features are orthogonal to all rows
of its last layer. The features of later inputs that resemble neither the digits nor these outliers
become orthogonal, too.
"""

# %%
# Digits and outliers
# -------------------
#
# The outliers for training have the label -1: patches of a photograph, digits with shuffled pixels,
# and halves of two digits side by side. Eights, nines, inverted digits and uniform noise serve as
# unknown inputs for the test.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_sample_image
from sklearn.model_selection import train_test_split

from sklearn_ext import FeatureCosineDisplay, OODScoreDisplay, OrthLossOODDetector
from sklearn_ext.metrics import ood_report

rng = np.random.RandomState(0)
X, y = load_digits(return_X_y=True)
X, known = X / 16, y < 8
X_train, X_test, y_train, y_test = train_test_split(
    X[known], y[known], test_size=0.4, stratify=y[known], random_state=0
)

photo = load_sample_image("china.jpg").mean(axis=2)
corners = rng.randint(0, 400, size=(len(X_train), 2))
patches = np.array([photo[i : i + 16 : 2, j : j + 16 : 2].ravel() for i, j in corners])
patches -= patches.min(axis=1, keepdims=True)
patches /= patches.max(axis=1, keepdims=True)
shuffled = np.array([rng.permutation(row) for row in X_train])
halves = np.hstack([X_train[:, :32], rng.permutation(X_train)[:, 32:]])
outliers = np.concatenate([patches, shuffled, halves])

unknown = {
    "8 and 9": X[~known],
    "inverted": 1 - X_test,
    "noise": rng.uniform(size=(300, 64)),
}

# %%
# The same net without and with the outliers
# ------------------------------------------
#
# Without fine-tuning, the detector is a plain classifier, and its largest probability is the usual
# score.

X_all = np.concatenate([X_train, outliers])
y_all = np.concatenate([y_train, np.full(len(outliers), -1)])
plain = OrthLossOODDetector(max_epochs=0, ood_score="msp", random_state=0).fit(X_all, y_all)
detector = OrthLossOODDetector(random_state=0).fit(X_all, y_all)

averages = []
for name, model in {"largest probability": plain, "OrthLoss": detector}.items():
    scores = {key: model.score_samples(rows) for key, rows in unknown.items()}
    print(f"{name}; accuracy {np.mean(model.predict_class(X_test) == y_test):.3f}")
    report = ood_report(model.score_samples(X_test), scores)
    print(report, end="\n\n")
    averages.append(report.average)
assert averages[1]["auroc"] > averages[0]["auroc"]
assert averages[1]["fpr_id_positive"] < averages[0]["fpr_id_positive"]

fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
OODScoreDisplay.from_estimator(plain, X_test, unknown, name="largest probability", ax=axes[0])
OODScoreDisplay.from_estimator(detector, X_test, unknown, name="OrthLoss", ax=axes[1])
plt.show()

# %%
# Directions of the features
# --------------------------
#
# Each line is an input and each column is a class. The digits stand out in the column of their
# class before and after fine-tuning. Inverted digits and noise point along some class only before
# it. Eights and nines, which resemble the other digits, still do so afterwards.
#
# The network is small and trained briefly, so the features of a class do not coincide with its row
# of the last layer, as they would in a network trained to the end (neural collapse).

separation = {when: detector.separation_[when] for when in ("before", "after")}
for when, found in separation.items():
    print(f"{when}: mean cosine of outliers {found['outlier_cosine']:.2f}")
print(f"length of digits outside the row space: {separation['before']['id_residual']:.2f}")
assert separation["after"]["outlier_cosine"] < separation["before"]["outlier_cosine"] / 2
assert separation["before"]["id_residual"] > 0.5
before = FeatureCosineDisplay.from_estimator(plain, X_test, unknown, name="before").cosines
after = FeatureCosineDisplay.from_estimator(detector, X_test, unknown, name="after").cosines
for key in ("inverted", "noise"):
    assert np.abs(after[key]).max(axis=1).mean() < 0.1 < np.abs(before[key]).max(axis=1).mean()
assert np.abs(after["8 and 9"]).max(axis=1).mean() > 0.3
plt.show()
