"""Model soups against the best single network, an ensemble, and torch's averaging.

Twelve networks are fine-tuned from one start (see ``_soup_protocol.py`` and ``_soup_images.py``)
before anything is measured. Every contender gets their files and the mixing samples. The test
samples are separate from both.
"""

import tempfile

import numpy as np
from sklearn.base import BaseEstimator

from . import _soup_images
from ._contract import Benchmark, Task
from ._soup_protocol import RECIPES, make_problem

CIFAR = "CIFAR-10"
MODULES = {name: recipe.make_module for name, recipe in RECIPES.items()} | {
    CIFAR: _soup_images.UpperLayers
}
_FOLDERS = {}  # keeps the temporary folders until the run ends


def load_task(name, split):
    if name == CIFAR:
        return task_of(name, split, _soup_images.make_problem(split))
    folder = _FOLDERS.setdefault((name, split), tempfile.TemporaryDirectory())
    return task_of(name, split, make_problem(name, split, folder.name))


def task_of(name, split, problem):
    return Task(
        name,
        split,
        problem.X_mixing,
        problem.y_mixing,
        problem.X_test,
        problem.y_test,
        extra={"paths": problem.paths, "base": problem.base},
    )


def make_net(task):
    from sklearn_ext.neural import NetClassifier, seeded

    with seeded(0):
        return NetClassifier(MODULES[task.data](), random_state=0)


def soup(kind, *, based=False, **parameters):
    def build(task, seed, n_threads):
        import sklearn_ext

        Soup = getattr(sklearn_ext, kind)
        if based:
            parameters["base"] = task.extra["base"]
        return Soup(
            make_net(task), ingredients=task.extra["paths"], random_state=seed, **parameters
        )

    return build


class WithNetworks(BaseEstimator):
    """A peer that loads the networks from their paths."""

    def __init__(self, net, paths):
        self.net = net
        self.paths = paths

    def load(self, X, y):
        """Yield the networks, one at a time."""
        from sklearn.base import clone

        from sklearn_ext.neural import load_tensors

        net = clone(self.net).set_params(max_epochs=0).fit(X, y)
        for path in self.paths:
            net.module_.load_state_dict(load_tensors(path))
            net.module_.eval()
            yield net


class BestSingle(WithNetworks):
    """The network with the best accuracy on the mixing samples."""

    def fit(self, X, y):
        scores = [net.score(X, y) for net in self.load(X, y)]
        self.paths_ = [self.paths[int(np.argmax(scores))]]
        self.mixing_ = X, y
        return self

    def predict_proba(self, X):
        (net,) = WithNetworks(self.net, self.paths_).load(*self.mixing_)
        return net.predict_proba(X)


class TrainedFurther(BestSingle):
    """The best network, trained on the mixing samples for five more epochs."""

    def fit(self, X, y):
        super().fit(X, y)
        (self.net_,) = WithNetworks(self.net, self.paths_).load(X, y)
        self.net_.set_params(max_epochs=5, lr=3e-4).partial_fit(X, y)
        return self

    def predict_proba(self, X):
        return self.net_.predict_proba(X)


class MeanSingle(WithNetworks):
    """The mean accuracy and loss of the networks, for reference."""

    def fit(self, X, y):
        self.mixing_ = X, y
        return self

    def predict_proba(self, X):
        return np.stack([net.predict_proba(X) for net in self.load(*self.mixing_)])


class Ensemble(MeanSingle):
    """The mean of the probabilities, which makes a prediction cost twelve times as much."""

    def predict_proba(self, X):
        return super().predict_proba(X).mean(axis=0)


class TorchAverage(WithNetworks):
    """Weights averaged by ``torch.optim.swa_utils``, with statistics of the mixing samples."""

    def fit(self, X, y):
        import torch
        from torch.optim.swa_utils import AveragedModel, update_bn

        average = None
        for net in self.load(X, y):
            average = AveragedModel(net.module_) if average is None else average
            average.update_parameters(net.module_)
        update_bn(torch.as_tensor(X).split(128), average)
        self.net_ = net
        net.module_.load_state_dict(average.module.state_dict())
        return self

    def predict_proba(self, X):
        return self.net_.predict_proba(X)


def peer(kind):
    return lambda task, seed, n_threads: kind(make_net(task), task.extra["paths"])


def metrics(model, output, task):
    """Return the accuracy in percent and the negative log-likelihood on the test samples."""
    outputs = output if output.ndim == 3 else output[None]
    parts = {"": slice(None)}
    if task.data == CIFAR:
        parts = _soup_images.test_parts(len(task.y_test))
    found = {}
    for name, part in parts.items():
        y = task.y_test[part]
        right = [100 * np.mean(p[part].argmax(axis=1) == y) for p in outputs]
        found[f"accuracy %{name}"] = float(np.mean(right))
        losses = [-np.log(np.maximum(p[part][np.arange(len(y)), y], 1e-12)) for p in outputs]
        found[f"NLL{name}"] = float(np.mean(losses))
    if task.data == CIFAR:
        found |= difference_to_best_single(outputs.mean(axis=0), task)
    return found


def difference_to_best_single(p, task):
    """Return the mean difference to the best single network on the test images, and its error."""
    best = peer(BestSingle)(task, 0, 1).fit(task.X_train, task.y_train)
    part = _soup_images.test_parts(len(task.y_test))[""]
    y = task.y_test[part]
    expected = best.predict_proba(task.X_test[part])

    def quality(q):
        return 100.0 * (q.argmax(axis=1) == y), -np.log(np.maximum(q[np.arange(len(y)), y], 1e-12))

    found = {}
    names = ("accuracy % minus best single", "NLL minus best single")
    for name, own, other in zip(names, quality(p[part]), quality(expected), strict=True):
        found[name] = float(np.mean(own - other))
        found[f"{name}, standard error"] = float(np.std(own - other) / np.sqrt(len(y)))
    return found


BENCHMARK = Benchmark(
    datasets=(*RECIPES, CIFAR),
    quick=("digits",),
    load=load_task,
    splits=(0, 1, 2),
    response="predict_proba",
    ours={
        "MEHL+": soup("MEHLSoup"),
        "MEHL": soup("MEHLSoup", layerwise=False),
        "MEHL+, blocks of 4": soup("MEHLSoup", block_size=4),
        "Learned+": soup("LearnedSoup"),
        "Learned": soup("LearnedSoup", layerwise=False),
        "greedy": soup("GreedySoup"),
        "greedy, with ties": soup("GreedySoup", tie="accept"),
        "uniform": soup("UniformSoup"),
        "WiSE-FT": soup("WiSEFT", based=True),
        "TIES": soup("TIES", based=True),
        "Model Stock": soup("ModelStock", based=True),
        "RegMean": soup("RegMean"),
    },
    peers={
        "mean of the singles": peer(MeanSingle),
        "best single": peer(BestSingle),
        "best single, trained further": peer(TrainedFurther),
        "torch AveragedModel": peer(TorchAverage),
        "ensemble": peer(Ensemble),
    },
    metrics=metrics,
    warm_up=lambda model, task: model.fit(task.X_train[:200], task.y_train[:200]),
    notes=(
        "seconds and memory are those of mixing; the ingredients are trained before",
        "the ensemble predicts with all twelve networks, all others with one",
        "trained further: five epochs on the mixing samples with a learning rate of 0.0003",
        "digits: MLP; digits_cnn: a network with batch normalization; fashion_mnist: MLP",
        "CIFAR-10: the last block and the head of EfficientNet-Lite0, fine-tuned on 3,000 images "
        "with 64 x 64 pixels, and mixed on 1,000; the first columns are for the 10,000 test images",
        "differences to the best single network are paired over the test images",
    ),
)
