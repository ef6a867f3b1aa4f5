"""Unlearning in networks: closeness to the retrained model, and time relative to retraining.

A cell is a data set and a scenario, named ``data@scenario``, and a split is a seed. The scenarios
are a class, a part of a class ("subclass": the network distinguishes groups of classes only) and a
tenth of each class at random. A cell trains the original network on all samples and, with the same
initial weights, the retrained network on the retained samples. Contenders get the original network.
They are evaluated by how far their accuracies (FA on the forget set, RA on the retained set, TA on
test samples) and the fraction of the forget set that a membership attack finds (MIA) are from those
of the retrained network. "gap" is the mean distance, in points.

- ``digits``: 8 x 8 digits with noise, a perceptron of 256 and 128 units, 60 epochs.
- ``fashion14``: 3,000 images of 14 x 14 pixels, a perceptron of 256 and 64 units, 120 epochs.
- ``fashion28``: 30,000 images of 28 x 28 pixels, a perceptron of 256 and 64 units, 30 epochs.
- ``fashion28cnn``: 6,000 images, a convolutional network of 8, 16 and 32 channels, 30 epochs.
- ``cifar10resnet``: 2,500 photographs, a ResNet of eight layers with batch normalization, trained
  from scratch for 30 epochs.
- ``cifar10efficientnet``: 1,000 photographs, EfficientNet-Lite0 with the weights of ImageNet,
  trained for five epochs.

Our three methods use their defaults, and so do all methods on photographs, and SCRUB, SSD, MSG and
CT everywhere. Elsewhere, the learning rates of the other baselines are the best of three by the
average gap on seed 100, where other classes are forgotten (digits and fashion14 together, by
scenario); gradient ascent has a lower rate on fashion28. The defaults of ours were chosen on seed
100, too, on digits, fashion14 and cifar10resnet.

``python -m benchmarks.unlearning RESULT.json`` prints a result of the runner by scenario.
"""

import json
import statistics
import sys
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from skorch.callbacks import LRScheduler

from sklearn_ext import make_forget_split, unlearning_report
from sklearn_ext.neural import MLP, NetClassifier, cosine_decay

from . import _photographs
from ._contract import Benchmark, Task
from ._data import load

SCENARIOS = ("class", "random", "subclass")
# The forgotten class, the groups of classes, and the forgotten class within them, by seed.
CLASSES = {"digits": (3, 8, 5), "fashion": (0, 5, 8), "cifar10": (0, 5, 8)}
FASHION_GROUPS = np.array([0, 2, 1, 0, 1, 3, 2, 4, 3, 4])
DIGIT_GROUPS = np.array([0, 1, 2, 2, 3, 4, 0, 1, 4, 3])
GROUPS = {"digits": DIGIT_GROUPS, "fashion": FASHION_GROUPS, "cifar10": _photographs.GROUPS}
FINE_CLASSES = {"digits": (3, 7, 9), "fashion": (7, 2, 3), "cifar10": (7, 2, 1)}


def digits(seed):
    X, y = load("digits").values()
    X = (X / 16 + 0.3 * np.random.RandomState(0).randn(*X.shape)).astype(np.float32)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=seed)
    return X, y, X_test, y_test


def fashion(seed, *, n_train, n_test, pooled=False):
    arrays = load("fashion_mnist")
    rng = np.random.RandomState(seed)

    def draw(part, n):
        images, labels = arrays[f"X_{part}"], arrays[f"y_{part}"].astype(np.int64)
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(labels == c), n // 10, replace=False) for c in range(10)]
        )
        X = images[rows].astype(np.float32) / 255
        if pooled:
            X = X.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
        return X, labels[rows]

    return *draw("train", n_train), *draw("test", n_test)


DATA = {
    "digits": digits,
    "fashion14": partial(fashion, n_train=3000, n_test=4000, pooled=True),
    "fashion28": partial(fashion, n_train=30_000, n_test=10_000),
    "fashion28cnn": partial(fashion, n_train=6000, n_test=4000),
    "cifar10resnet": partial(_photographs.photographs, n_train=2500),
    "cifar10efficientnet": partial(_photographs.photographs, n_train=1000),
}


def scheduled(n_epochs, warmup=0):
    return LRScheduler(
        "LambdaLR", lr_lambda=partial(cosine_decay, total_steps=n_epochs, warmup=warmup)
    )


NETWORKS = {
    "digits": {
        "module__hidden_sizes": (256, 128), "lr": 0.05, "optimizer__weight_decay": 5e-4,
        "max_epochs": 60, "callbacks": [scheduled(60)],
    },
    "fashion14": {
        "module": MLP, "module__n_features": 14 * 14, "module__hidden_sizes": (256, 64),
        "lr": 0.12, "max_epochs": 120,
        "callbacks": [scheduled(120, warmup=2)],
    },
    "fashion28": {
        "module": MLP, "module__n_features": 28 * 28, "module__hidden_sizes": (256, 64),
        "lr": 0.12, "max_epochs": 30,
        "callbacks": [scheduled(30, warmup=2)],
    },
    "fashion28cnn": {
        "module__widths": (8, 16, 32), "lr": 0.1, "optimizer__weight_decay": 5e-4,
        "max_epochs": 30, "callbacks": [scheduled(30)],
    },
    "cifar10resnet": {
        "module": _photographs.ResNet8, "lr": 0.1, "optimizer__weight_decay": 5e-4,
        "max_epochs": 30, "callbacks": [scheduled(30)],
    },
    "cifar10efficientnet": {
        "module": _photographs.PretrainedEfficientNet, "optimizer": torch.optim.AdamW, "lr": 1e-3,
        "batch_size": 32, "max_epochs": 5, "callbacks": [scheduled(5)],
    },
}  # fmt: skip
SGD = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "batch_size": 64}


def network(data, seed, n_outputs):
    params = NETWORKS[data]
    sizes = {"module__n_outputs": n_outputs} if "module" in params else {}
    trained_with = {} if "optimizer" in params else SGD
    return NetClassifier(random_state=seed, **trained_with, **params, **sizes)


@cache
def original(data, seed, grouped):
    """Train the original network; class and random scenarios share one."""
    X, y, _, _ = DATA[data](seed)
    y = GROUPS[family(data)][y] if grouped else y
    return network(data, seed, len(np.unique(y))).fit(X, y)


def family(data):
    return next(name for name in CLASSES if data.startswith(name))


def load_task(name, split):
    data, scenario = name.split("@")
    X, fine, X_test, fine_test = DATA[data](split)
    y, y_test, forget_test = fine, fine_test, None
    if scenario == "class":
        forget = fine == CLASSES[family(data)][split]
    elif scenario == "random":
        forget = make_forget_split(fine, "random", random_state=split)
    else:
        target, groups = FINE_CLASSES[family(data)][split], GROUPS[family(data)]
        y, y_test, forget_test = groups[fine], groups[fine_test], fine_test == target
        forget = fine == target
    torch.set_num_threads(1)
    net = original(data, split, scenario == "subclass")
    classes = np.unique(y)
    fresh = network(data, split, len(classes))
    retrained, seconds = timed(fresh.partial_fit, X[~forget], y[~forget], classes=classes)
    extra = {"original": net, "retrained": retrained, "seconds": seconds, "forget": forget,
             "forget_test": forget_test, "scenario": scenario, "data": data}  # fmt: skip
    return Task(name, split, X, y, X_test, y_test, {"forget": forget}, extra)


def timed(function, *args, **kwargs):
    """Call a function, and return its value and the processor seconds that it took."""
    start = time.process_time()
    value = function(*args, **kwargs)
    return value, time.process_time() - start


class Timed(BaseEstimator):
    """An unlearner with its processor time, which hardly depends on other load."""

    def __init__(self, unlearner):
        self.unlearner = unlearner

    def fit(self, X, y, forget):
        torch.set_num_threads(1)
        self.unlearner_ = clone(self.unlearner)
        _, self.seconds_ = timed(self.unlearner_.fit, X, y, forget=forget)
        self.classes_ = self.unlearner_.classes_
        return self

    def predict_proba(self, X):
        return self.unlearner_.predict_proba(X)


class Untouched(Timed):
    """The original network."""

    def fit(self, X, y, forget):
        self.unlearner_, self.seconds_ = self.unlearner, 0.0
        self.classes_ = self.unlearner_.classes_
        return self


class Retrained(Timed):
    """Another retraining with other initial weights, to show the effect of chance."""

    def fit(self, X, y, forget):
        torch.set_num_threads(1)
        net, rows = clone(self.unlearner), ~forget
        self.unlearner_, self.seconds_ = timed(
            net.partial_fit, X[rows], y[rows], classes=np.unique(y)
        )
        self.classes_ = net.classes_
        return self


# Learning rates of the baselines by scenario.
RATES = {
    "FineTuneUnlearner": {"class": 0.2, "random": 0.1, "subclass": 0.2},
    "GradientAscentUnlearner": {"class": 3e-3, "random": 1e-2, "subclass": 3e-3},
    "RandomLabelUnlearner": {"class": 3e-3, "random": 3e-4, "subclass": 3e-4},
    "SalUnUnlearner": {"class": 3e-3, "random": 3e-4, "subclass": 3e-4},
    "BadTeacherUnlearner": {"class": 1e-3, "random": 3e-4, "subclass": 3e-4},
}
# Ten times as many samples mean ten times as many steps, so the weights overflow at these rates.
RATES_ELSEWHERE = {("GradientAscentUnlearner", "fashion28"): 3e-4}


def rate(name, extra):
    """Return the learning rate of a baseline on a cell."""
    return RATES_ELSEWHERE.get((name, extra["data"]), RATES[name][extra["scenario"]])


def contender(name):
    def build(task, seed, n_threads):
        import sklearn_ext

        frozen = FrozenEstimator(task.extra["original"])
        tuned = name in RATES and not task.extra["data"].startswith("cifar10")
        rates = {"learning_rate": rate(name, task.extra)} if tuned else {}
        return Timed(getattr(sklearn_ext, name)(frozen, random_state=seed, **rates))

    return build


def untouched(task, seed, n_threads):
    return Untouched(FrozenEstimator(task.extra["original"]))


def retrained_again(task, seed, n_threads):
    return Retrained(network(task.extra["data"], 1000 + seed, len(np.unique(task.y_train))))


def evaluate(model, task):
    """Return the metrics of a model, relative to the retrained network of the task."""
    extra = task.extra
    return unlearning_report(
        {"model": model},
        task.X_train,
        task.y_train,
        extra["forget"],
        X_test=task.X_test,
        y_test=task.y_test,
        forget_test=extra["forget_test"],
        retrained=extra["retrained"],
        random_state=0,
    ).scores["model"]


def metrics(model, output, task):
    report = evaluate(model, task)
    scores = {name: report[name] for name in ("gap", "FA", "RA", "TA", "MIA", "KL_f")}
    return scores | {"time %": 100 * model.seconds_ / task.extra["seconds"]}


def warm_up(model, task):
    """Fit a few samples of each class, so that imports are not timed."""
    rows = np.concatenate([np.flatnonzero(task.y_train == c)[:10] for c in np.unique(task.y_train)])
    model.fit(task.X_train[rows], task.y_train[rows], np.arange(len(rows)) % 10 == 0)


def table(rows):
    """Format the rows of a report as text: one block per cell, means over seeds."""
    groups = {}
    for row in rows:
        if "metrics" in row:
            groups.setdefault(row["data"], {}).setdefault(row["contender"], []).append(row)
    lines = []
    for data, contenders in groups.items():
        names = list(next(iter(contenders.values()))[0]["metrics"])
        lines += ["", f"{data:<24}" + "".join(f"{name:>8}" for name in names) + "   gaps"]
        for name, found in contenders.items():
            values = [statistics.fmean(row["metrics"][key] for row in found) for key in names]
            gaps = ", ".join(f"{row['metrics']['gap']:.1f}" for row in found)
            lines.append(f"{name:<24}" + "".join(f"{v:>8.2f}" for v in values) + f"   {gaps}")
    return "\n".join(lines).lstrip("\n")


BENCHMARK = Benchmark(
    datasets=tuple(f"{data}@{scenario}" for data in DATA for scenario in SCENARIOS),
    quick=tuple(f"digits@{scenario}" for scenario in SCENARIOS),
    load=load_task,
    splits=(0, 1, 2),
    response="predict_proba",
    ours={
        "MUSO": contender("MUSOUnlearner"),
        "NatMU": contender("NatMUUnlearner"),
        "SFRon": contender("SFRonUnlearner"),
    },
    peers={
        "fine-tuning": contender("FineTuneUnlearner"),
        "gradient ascent": contender("GradientAscentUnlearner"),
        "random labels": contender("RandomLabelUnlearner"),
        "SalUn": contender("SalUnUnlearner"),
        "bad teacher": contender("BadTeacherUnlearner"),
        "SCRUB": contender("SCRUBUnlearner"),
        "SSD": contender("SSDUnlearner"),
        "MSG": contender("MSGUnlearner"),
        "CT": contender("CTUnlearner"),
        "untouched": untouched,
        "retrained again": retrained_again,
    },
    metrics=metrics,
    higher_is_better=False,
    warm_up=warm_up,
    notes=(
        "gap, FA, RA, TA and MIA are points; KL_f is in nats; time is in processor seconds, "
        "relative to retraining",
        "use one seed for the larger sets: --splits 0",
    ),
)

if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())["rows"]))
