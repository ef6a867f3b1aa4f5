"""OrthLoss and detectors that read a trained net, beside those of pytorch-ood on the same net.

OrthLoss trains on the known outliers; all others leave them out. Detectors that read a net get
one that was fitted to the rows of the classes, the same for ours and for pytorch-ood's; it is
``NetClassifier`` with its defaults unless "as OrthLoss" says that it is the network, and the
training, that OrthLoss begins with.

pytorch-ood is not in the extra ``bench``: it needs torchvision, and where that was built for CUDA
beside a torch for the CPU, other packages that find it fail to import. Install it to compare.
"""

import warnings

import numpy as np
from sklearn.base import BaseEstimator

from ._contract import Benchmark
from ._ood_outliers import DATASETS, QUICK, load_task
from ._ood_sets import metrics

CLASSES_ONLY = {"sep_weight": 0.0, "clu_weight": 0.0}
EARLIER = {"sep_reduction": "sum", "stage2_start": 0.5, "outlier_ratio": 2.0}


def orthloss(**parameters):
    def build(task, seed, n_threads):
        from sklearn_ext import OrthLossOODDetector

        return OrthLossOODDetector(random_state=seed, **parameters)

    return build


class OnOneNet(BaseEstimator):
    """Fit a net to the rows of the classes, then hand it to a detector."""

    def __init__(self, make, random_state, as_orthloss=False):
        self.make = make
        self.random_state = random_state
        self.as_orthloss = as_orthloss

    def fit(self, X, y):
        X, y = X[y != -1], y[y != -1]
        self.score_ = self.make(self._net(X, y), X, y)
        return self

    def _net(self, X, y):
        from sklearn_ext import NetClassifier, OrthLossOODDetector

        if not self.as_orthloss:
            return NetClassifier(random_state=self.random_state).fit(X, y)
        untuned = OrthLossOODDetector(
            max_epochs=0, synthetic_outliers="uniform", random_state=self.random_state
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # made outliers, which are not used
            return untuned.fit(X, y).classifier_

    def score_samples(self, X):
        return self.score_(X)


def reading(name, as_orthloss=False, **parameters):
    def build(task, seed, n_threads):
        from sklearn_ext import ood

        def make(net, X, y):
            detector = getattr(ood, name)(net, random_state=seed, **parameters)
            return detector.fit(X, y).score_samples

        return OnOneNet(make, seed, as_orthloss)

    return build


def pytorch_ood_detectors():
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        # A torchvision built for CUDA does not load beside torch for the CPU, for want of operators
        # that no detector uses: declare them.
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from pytorch_ood import detector

    return detector


def of_pytorch_ood(name):
    """Return a detector of pytorch-ood, with its defaults where it has any."""

    def build(task, seed, n_threads):
        detectors = pytorch_ood_detectors()

        def make(net, X, y):
            return scorer(getattr(detectors, name), net, X, y)

        return OnOneNet(make, seed)

    return build


def scorer(Detector, net, X, y):
    import torch

    from sklearn_ext.neural import head_of, outputs_and_features

    module = net.module_.eval()
    head = head_of(module)

    def features(rows):
        with torch.no_grad():
            return outputs_and_features(module, rows, head)[1]

    if Detector.__name__ in ("MaxSoftmax", "MaxLogit", "EnergyBased"):
        detector = Detector(module)
    elif Detector.__name__ == "ViM":
        half = head.in_features // 2
        detector = Detector(features, d=half, w=head.weight.detach(), b=head.bias.detach())
    elif Detector.__name__ == "ReAct":
        detector = Detector(features, head)
    elif Detector.__name__ == "KNN":
        detector = Detector(features, k=min(50, len(X)))  # 50 is its default
    else:
        detector = Detector(features)
    codes = np.searchsorted(net.classes_, y)
    batches = list(
        zip(torch.from_numpy(X).split(1024), torch.from_numpy(codes).split(1024), strict=True)
    )
    detector.fit(batches)

    @torch.no_grad()
    def score(rows):
        # pytorch-ood's scores are higher for outliers.
        parts = [detector.predict(part) for part in torch.from_numpy(rows).split(1024)]
        return -torch.cat(parts).numpy().astype(float)

    return score


BENCHMARK = Benchmark(
    datasets=DATASETS,
    quick=QUICK,
    load=load_task,
    splits=(0, 1, 2),
    response="score_samples",
    ours={
        "OrthLoss": orthloss(),
        "OrthLoss, msp+rowspace": orthloss(ood_score="msp+rowspace"),
        "OrthLoss, maxcos": orthloss(ood_score="maxcos"),
        "OrthLoss as published": orthloss(ood_score="msp+cos", **EARLIER),
        "OE, msp": orthloss(ood_score="msp", **CLASSES_ONLY),
        "OE, rowspace": orthloss(**CLASSES_ONLY),
        "MSP as OrthLoss": reading("MSPOODDetector", as_orthloss=True),
        "KNN as OrthLoss": reading("KNNOODDetector", as_orthloss=True),
        "Mahalanobis as OrthLoss": reading("MahalanobisOODDetector", as_orthloss=True),
        "MSP": reading("MSPOODDetector"),
        "MaxLogit": reading("MaxLogitOODDetector"),
        "Energy": reading("EnergyOODDetector"),
        "KNN": reading("KNNOODDetector"),
        "Mahalanobis": reading("MahalanobisOODDetector"),
        "ReAct": reading("ReActOODDetector"),
        "ViM": reading("ViMOODDetector"),
        "regeneration": reading("DiffusionOODDetector"),
    },
    peers={
        "pytorch-ood MaxSoftmax": of_pytorch_ood("MaxSoftmax"),
        "pytorch-ood MaxLogit": of_pytorch_ood("MaxLogit"),
        "pytorch-ood EnergyBased": of_pytorch_ood("EnergyBased"),
        "pytorch-ood KNN": of_pytorch_ood("KNN"),
        "pytorch-ood Mahalanobis": of_pytorch_ood("Mahalanobis"),
        "pytorch-ood ReAct": of_pytorch_ood("ReAct"),
        "pytorch-ood ViM": of_pytorch_ood("ViM"),
    },
    metrics=metrics,
    notes=(
        "AUROC and FPR95 in percent, known rows positive: the mean over the strange sets, and the "
        "set that is nearest to the known classes",
        "OrthLoss and OE train on known outliers, all others do not see them",
        "fit time of detectors that read a net includes the training of the net",
    ),
)
