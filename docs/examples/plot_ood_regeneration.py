r"""
===================================================
Regenerating images: what do unusual images become?
===================================================

:class:`~sklearn_ext.DiffusionOODDetector` adds noise to an image and lets a diffusion model of the
training images remove it. An ordinary image comes back almost unchanged. An unusual image comes
back as something ordinary, and the difference reveals it.
"""

# %%
# A detector for digits 0 to 7
# ----------------------------
#
# The detector is fitted on digits 0 to 7 only. It trains a small convolutional network as the
# classifier. Its diffusion model is the exact minimizer of the denoising loss, which needs no
# training.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from sklearn_ext import DiffusionOODDetector

X, y = load_digits(return_X_y=True)
X, known = X.reshape(-1, 8, 8), y < 8
X_train, X_test, y_train, y_test = train_test_split(
    X[known], y[known], test_size=0.4, stratify=y[known], random_state=0
)
detector = DiffusionOODDetector(random_state=0).fit(X_train, y_train)

rng = np.random.RandomState(0)
kinds = {
    "new digits 0 to 7": X_test,
    "digits 8 and 9": X[~known],
    "rotated": np.rot90(X_test, axes=(1, 2)),
    "inverted": 16 - X_test,
    "noise": rng.uniform(0, 16, size=(200, 8, 8)),
}
scores = {kind: detector.decision_function(images) for kind, images in kinds.items()}
for kind, values in scores.items():
    line = f"{kind:18s} called outliers: {np.mean(values < 0):6.1%}"
    if kind != "new digits 0 to 7":
        both = np.concatenate([scores["new digits 0 to 7"], values])
        is_new = np.arange(len(both)) < len(X_test)
        line += f"   AUROC: {roc_auc_score(is_new, both):.3f}"
    print(line)
outliers = {kind: np.mean(values < 0) for kind, values in scores.items()}
assert min(outliers, key=outliers.get) == "new digits 0 to 7"

# %%
# Images and their regenerations
# ------------------------------
#
# The figure shows four images of each kind, each with its regeneration (the mean over four draws of
# the noise) to its right. The number is the decision function, which is negative for outliers. An
# eight comes back as a three or a one, a rotated digit as an upright one, and noise as a blur of
# digits.

n_shown = 4
figure, axes = plt.subplots(len(kinds), 2 * n_shown, figsize=(9, 6.5), layout="constrained")
for ax in axes.flat:
    ax.set_axis_off()
for row, (kind, images) in zip(axes, kinds.items(), strict=True):
    shown = images[:n_shown]
    regenerated = detector.regenerate(shown).mean(axis=0)
    for column, pair in enumerate(zip(shown, regenerated, strict=True)):
        for ax, image in zip(row[2 * column : 2 * column + 2], pair, strict=True):
            ax.imshow(image, cmap="gray_r", vmin=0, vmax=16)
        row[2 * column].set_title(f"{scores[kind][column]:+.1f}", fontsize=9)
    row[0].text(-2.5, 3.5, kind, rotation=90, ha="center", va="center", fontsize=9)
plt.show()

# %%
# In what respect?
# ----------------
#
# ``disparities`` measures how far an image has moved in pixels, in features of the network, and in
# the probabilities of its classes. The score adds up the logs of the first two, in units of their
# spread on ordinary images. Probabilities alone would miss some rotated digits: the network is as
# confident about them as about their regenerations.

figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for kind, images in kinds.items():
    for ax, (term, values) in zip(axes, detector.disparities(images).items(), strict=True):
        logs = np.sort(np.log10(values + 1e-6))
        ax.plot(logs, np.linspace(0, 1, len(logs)), label=kind)
        ax.set_xlabel(f"log10 of the {term} disparity")
axes[0].set_ylabel("fraction of images below")
figure.legend(
    *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False
)
plt.show()
