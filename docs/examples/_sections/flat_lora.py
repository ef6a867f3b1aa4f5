"""Flat-LoRA: low-rank adaptation under noise on the weights."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from skorch.callbacks import LRScheduler

from sklearn_ext import FlatLoRAClassifier, NetClassifier

from .shared import show, timed

NOISE = 0.3  # standard deviation, for pixels in [0, 1]


def run(figure):
    """Adapt a network for upright digits to rotated ones, of which 200 are labeled."""
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8) / 16
    rotated = np.rot90(X, axes=(1, 2))
    few, test = slice(900, 1100), slice(1100, None)
    network = NetClassifier(max_epochs=20, random_state=0).fit(X[:900], y[:900])
    noisy = rotated[test] + NOISE * np.random.RandomState(0).randn(*rotated[test].shape)
    lora = {"r": 4, "modules_to_save": ["head"], "lr": 5e-3, "max_epochs": 50, "random_state": 0}
    lora["callbacks"] = [LRScheduler("CosineAnnealingLR", T_max=50)]  # decays as the noise grows
    nets = {
        "* Flat-LoRA, sigma 0.4": FlatLoRAClassifier(network.module_, sigma=0.4, **lora),
        "* Flat-LoRA, sigma 0.2": FlatLoRAClassifier(network.module_, sigma=0.2, **lora),
        "LoRA (sigma 0)": FlatLoRAClassifier(network.module_, sigma=0.0, **lora),
    }
    rows = [("not adapted", *scores(network, rotated[test], noisy, y[test]), "-", "-")]
    sharpness = {}
    for name, net in nets.items():
        _, seconds = timed(net.fit, rotated[few], y[few])
        sharpness[name] = net.expected_sharpness(rotated[few], y[few], sigma=0.2)
        rows.append((name, *scores(net, rotated[test], noisy, y[test]), sharpness[name], seconds))
    show(
        "Digits rotated by 90 degrees: adapting a frozen network with 200 labels",
        ["", "accuracy", "with pixel noise", "log loss", "rise of loss", "fit seconds"],
        rows,
    )
    ax = figure.subplots()
    names = list(sharpness)
    colors = ["C3" if name.startswith("*") else "C0" for name in names]
    ax.barh(names, list(sharpness.values()), color=colors)
    ax.invert_yaxis()
    ax.set(title="Flat-LoRA", xlabel="rise of the loss under noise of 0.2 on the weights")


def scores(net, X, noisy, y):
    return net.score(X, y), net.score(noisy, y), log_loss(y, net.predict_proba(X))
