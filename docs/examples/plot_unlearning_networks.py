r"""
==============================
Networks that forget one class
==============================

A convolutional network was trained on noisy images of digits. Now it has to forget all images of
one digit. This example compares four ways to do so with a network that was trained without them.
"""

# %%
# Forgetting a class
# ------------------
#
# ``forget`` is a mask over the training samples. The network is wrapped in a
# :class:`~sklearn.frozen.FrozenEstimator`, because it is fitted already.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from skorch.callbacks import LRScheduler

from sklearn_ext import (
    MUSOUnlearner,
    NatMUUnlearner,
    NetClassifier,
    RandomLabelUnlearner,
    SFRonUnlearner,
    UnlearningReportDisplay,
    make_forget_split,
    unlearning_report,
)

X, y = load_digits(return_X_y=True)
clean = X.reshape(-1, 8, 8) / 16
X = clean + 0.3 * np.random.RandomState(0).randn(len(X), 8, 8)
X, X_test, clean, _, y, y_test = train_test_split(X, clean, y, test_size=0.4, random_state=0)


def network():
    return NetClassifier(
        module__widths=(16, 32),
        lr=1e-2,
        max_epochs=25,
        batch_size=64,
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=25)],
        random_state=0,
    )


original = network().fit(X, y)

threes = make_forget_split(y, "class", target=3)
models = {"original": original}
for Unlearner in (MUSOUnlearner, NatMUUnlearner, SFRonUnlearner, RandomLabelUnlearner):
    unlearner = Unlearner(FrozenEstimator(original), random_state=0)
    start = perf_counter()
    unlearner.fit(X, y, forget=threes)
    print(f"{Unlearner.__name__}: {perf_counter() - start:.1f} s")
    models[Unlearner.__name__.removesuffix("Unlearner")] = unlearner

start = perf_counter()
retrained = network().partial_fit(X[~threes], y[~threes], classes=original.classes_)
print(f"retraining: {perf_counter() - start:.1f} s")

# %%
# What they train on
# ------------------
#
# MUSO keeps the image and changes its label to the prediction of a model of the other digits, which
# is the digit that the image resembles most. NatMU keeps the labels true: it blends the image with
# other digits, each in a different part of the image, and labels the blend with the other digit.
# SFRon changes neither; see below. The images are shown here without their noise.

muso, natmu = models["MUSO"], models["NatMU"]
figure, axes = plt.subplots(2, 5, figsize=(8, 3.6), layout="constrained")
for number, (row, three) in enumerate(zip(axes, muso.forget_idx_[:2], strict=True)):
    shown = [(clean[three], f"MUSO: a {muso.forget_labels_[number]}")]
    for _, other, mask in natmu.hybrid_index_[natmu.hybrid_index_[:, 0] == three]:
        weight = natmu.masks_[mask]
        shown.append((weight * clean[three] + (1 - weight) * clean[other], f"NatMU: a {y[other]}"))
    for ax, (image, title) in zip(row, shown, strict=True):
        ax.imshow(image, cmap="gray_r")
        ax.set_axis_off()
        ax.set_title(title, fontsize=10)
plt.show()

# %%
# How close do they come?
# -----------------------
#
# The lines show the retrained network. It classifies threes as other digits (FA). So do the
# networks of MUSO and SFRon, and nearly always the two others. Even for the retrained network, the
# attacker (MIA) takes some threes for training images by chance. With random labels, it takes none:
# images that the network was taught to classify wrongly look unlike all others, which reveals them
# as well.

report = unlearning_report(
    models, X, y, threes, X_test=X_test, y_test=y_test, retrained=retrained, random_state=0
)
print(report)
forgotten = {name: scores["FA"] for name, scores in report.scores.items() if name != "original"}
assert max(forgotten["MUSO"], forgotten["SFRon"]) < 2
assert max(forgotten.values()) < 20
assert report.scores["RandomLabel"]["MIA"] == 0 < report.scores["retrained"]["MIA"]
gaps = {name: scores["gap"] for name, scores in report.scores.items()}
assert max(gaps["MUSO"], gaps["SFRon"]) < gaps["RandomLabel"] < gaps["original"]
UnlearningReportDisplay.from_report(report)
plt.show()

# %%
# What do the networks predict for new images of threes?

figure, axes = plt.subplots(2, 6, figsize=(8, 2.6), layout="constrained", height_ratios=(3, 2))
images = X_test[y_test == 3][:6]
predictions = {
    name: model.predict(images) for name, model in ({"retrained": retrained} | models).items()
}
for k, (image, text) in enumerate(axes.T):
    image.imshow(images[k], cmap="gray_r")
    lines = [f"{name}: {labels[k]}" for name, labels in predictions.items()]
    text.text(0.0, 1.0, "\n".join(lines), va="top", fontsize=7)
for ax in axes.flat:
    ax.set_axis_off()
plt.show()

# %%
# Following a network as it forgets
# ---------------------------------
#
# :class:`~sklearn_ext.SFRonUnlearner` alternates steps that climb the loss of the threes with steps
# that repair the rest. It stops climbing whenever the accuracy on the threes has fallen to that of
# a model of the other samples, here zero: to climb further would forget more than retraining does.

history = models["SFRon"].history_
iterations = [record["iteration"] for record in history]
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.plot(iterations, [record["forget_score"] for record in history])
left.axhline(models["SFRon"].stop_forget_score_, color="0.5", linestyle="--", label="pause")
left.set(xlabel="iteration", ylabel="accuracy on the threes")
left.legend(frameon=False)
right.plot(iterations, [record["remain_loss"] for record in history], label="other digits")
right.plot(iterations, [record["forget_loss"] for record in history], "o", label="threes")
right.set(xlabel="iteration", ylabel="loss of the batch", yscale="log")
right.legend(frameon=False)
plt.show()
