"""Forgetting a class in a diffusion model: what is left of it, and the damage to the others.

The split is the class to forget. ``digits`` has 8 x 8 pixels, a residual MLP as the model and a
perceptron as the classifier; ``mnist`` and ``fashion_mnist`` have 28 x 28 pixels, a U-Net and a
convolutional network. The model is trained once with default parameters. Every contender starts
from it, and it is stored in ``$SKLEARN_EXT_CACHE`` (by default ``~/.cache/sklearn_ext``).

FA is the fraction of samples requested from the forgotten class that the classifier assigns to it.
FA_in is the fraction that, in addition, are as close to a real sample as real samples are to each
other.

``python -m benchmarks.class_forgetting FILE.png DATA CLASS`` plots samples before and after.
"""

import json
import os
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier

from sklearn_ext import (
    ConditionalDDPM,
    GeneratedSamplesDisplay,
    NetClassifier,
    SFRonClassForgetter,
)
from sklearn_ext.metrics import generation_report
from sklearn_ext.neural import penultimate

from ._contract import Benchmark, Task
from ._data import load, load_npz

N_COMPARED = 100  # real samples per class in the report, except for digits
N_SAMPLES = {"digits": 100, "mnist": 50, "fashion_mnist": 50}  # generated samples per class
N_CLASSIFIER_SAMPLES = 20_000


@cache
def samples(name):
    """Return training samples and labels, and those that the report compares with."""
    if name == "digits":
        arrays = load("digits")
        X, y = (arrays["X"] / 8 - 1).astype(np.float32), arrays["y"]
        return X, y, X, y
    arrays = load_npz(name)
    X, y = arrays["X_test"].astype(np.float32), arrays["y_test"].astype(int)
    some = np.concatenate([np.flatnonzero(y == label)[:N_COMPARED] for label in range(10)])
    X_train, y_train = arrays["X_train"].astype(np.float32), arrays["y_train"].astype(int)
    return X_train, y_train, X[some], y[some]


def cached(name, suffix):
    folder = Path(os.environ.get("SKLEARN_EXT_CACHE", Path.home() / ".cache" / "sklearn_ext"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"class_forgetting_{name}{suffix}"


@cache
def trained(name):
    """Return the model and the CPU seconds of its training; interrupted training continues."""
    weights, times = cached(name, ".safetensors"), cached(name, ".json")
    model = ConditionalDDPM(random_state=0, warm_start=True, checkpoint=weights)
    if weights.exists():
        model.load_checkpoint(weights)
    if not times.exists():
        start = time.process_time()
        model.fit(*samples(name)[:2])
        seconds = time.process_time() - start
        times.write_text(json.dumps({"cpu_seconds": seconds}))
    return model.set_params(checkpoint=None), json.loads(times.read_text())["cpu_seconds"]


@cache
def classifier_of(name):
    X, y, *_ = samples(name)
    if name == "digits":
        return MLPClassifier((256, 128), random_state=0).fit(X, y)
    some = np.random.RandomState(0).permutation(len(X))[:N_CLASSIFIER_SAMPLES]
    return NetClassifier(max_epochs=3, batch_size=64, random_state=0).fit(X[some] / 255, y[some])


class OnUnitPixels:
    """A classifier of images that divides the pixels by 255 first."""

    def __init__(self, net):
        self.net = net

    def predict(self, X):
        return self.net.predict(X / 255)

    def features(self, X):
        return penultimate(self.net, np.float32(X / 255)).numpy()


def load_task(name, split):
    X, y, X_test, y_test = samples(name)
    model, cpu_seconds = trained(name)
    extra = {"model": model, "cpu_seconds": cpu_seconds, "classifier": classifier_of(name)}
    return Task(name, split, X, y, X_test, y_test, {"forget_class": split}, extra)


class TimedForgetter(SFRonClassForgetter):
    """The forgetter with the CPU time of its fit as an attribute."""

    def fit(self, X, y, *, forget_class=None):
        start = time.process_time()
        super().fit(X, y, forget_class=forget_class)
        self.cpu_seconds_ = time.process_time() - start
        return self


def forgetter(**parameters):
    def build(task, seed, n_threads):
        model = FrozenEstimator(task.extra["model"])
        return TimedForgetter(model, random_state=seed, **parameters)

    return build


def warm_up(model, task):
    model.set_params(max_iter=1, mask_batches=1).fit(task.X_train, task.y_train, **task.fit_params)


def metrics(model, output, task):
    classifier, features = task.extra["classifier"], None
    if task.data != "digits":
        classifier = OnUnitPixels(classifier)
        features = classifier.features
    report = generation_report(
        model,
        classifier,
        task.X_test,
        task.y_test,
        task.split,
        n_samples=N_SAMPLES[task.data],
        features=features,
        random_state=0,
    )
    scores = next(iter(report.scores.values()))
    return {
        "FA_in": scores["valid_forget_accuracy"],
        "FA": scores["forget_accuracy"],
        "others": scores["other_accuracy"],
        "FD others": scores["other_frechet_distance"],
        "L_f": scores["forget_loss"],
        "L_r": scores["other_loss"],
        "% of training": 100 * model.cpu_seconds_ / task.extra["cpu_seconds"],
    }


BENCHMARK = Benchmark(
    datasets=("digits", "mnist", "fashion_mnist"),
    quick=("digits",),
    load=load_task,
    splits=tuple(range(10)),
    ours={
        "SFRon redirect": forgetter(),
        "SFRon ascent": forgetter(forget_loss="ascent"),
    },
    peers={
        "untouched": forgetter(max_iter=0, saliency_threshold=None),
        "redirect, no mask": forgetter(saliency_threshold=None),
        "ascent, no repair": forgetter(forget_loss="ascent", n_repair=0),
        "repair only": forgetter(forget_alpha=0.0),
    },
    response="score_samples",
    metrics=metrics,
    higher_is_better=False,
    warm_up=warm_up,
    notes=(
        "The split is the forgotten class.",
        "Samples are drawn in 25 deterministic steps with guidance 1.",
    ),
)


def draw(path, name, label):
    """Write a figure of samples before and after forgetting a class."""
    X, y, *_ = samples(name)
    model, _ = trained(name)
    changed = SFRonClassForgetter(model, random_state=0).fit(X, y, forget_class=label)
    display = GeneratedSamplesDisplay.from_estimator(
        {"before": model, f"after forgetting class {label}": changed},
        image_shape=(8, 8) if name == "digits" else None,
        random_state=0,
    )
    display.figure_.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(sys.argv[1], sys.argv[2], int(sys.argv[3]))
