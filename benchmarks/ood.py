"""OrthLoss and post-hoc detectors, compared with those of pytorch-ood on the same net.

OrthLoss trains on the known outliers; all other methods leave them out. Post-hoc detectors get a
net that was fitted to the inliers, the same net for ours and for pytorch-ood's. It is
``NetClassifier`` with its defaults. In methods named "as OrthLoss" it is the network and the
training that OrthLoss starts with.

pytorch-ood is not in the extra ``bench`` because it needs torchvision. If torchvision was built for
CUDA but torch for the CPU, other packages that use it fail to import. Install it to compare.
"""

import warnings

import numpy as np
from sklearn.base import BaseEstimator

from ._contract import Benchmark
from ._ood_outliers import DATASETS, QUICK, load_task
from ._ood_sets import metrics

WITHOUT_FEATURE_TERMS = {"sep_weight": 0.0, "clu_weight": 0.0}


def orthloss(**parameters):
    def build(task, seed, n_threads):
        from sklearn_ext import OrthLossOODDetector

        return OrthLossOODDetector(random_state=seed, **parameters)

    return build


def orthloss_as_published(task, seed, n_threads):
    from sklearn_ext import OrthLossOODDetector

    return OrthLossOODDetector.from_paper(random_state=seed)


class OnOneNet(BaseEstimator):
    """Fit a net to the inliers, and a detector to this net."""

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
            warnings.simplefilter("ignore", UserWarning)  # synthetic outliers, which are not used
            return untuned.fit(X, y).classifier_

    def score_samples(self, X):
        return self.score_(X)


def post_hoc(name, as_orthloss=False, **parameters):
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
        # A torchvision built for CUDA does not load with torch for the CPU, because some operators
        # are missing. No detector uses them, so declaring them is enough.
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from pytorch_ood import detector

    return detector


def pytorch_ood_detector(name):
    """Return a builder of one of pytorch-ood's detectors, with its default settings."""

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
        "OrthLoss, rowspace": orthloss(ood_score="rowspace"),
        "OrthLoss, msp+rowspace": orthloss(ood_score="msp+rowspace"),
        "OrthLoss, maxcos": orthloss(ood_score="maxcos"),
        "OrthLoss as published": orthloss_as_published,
        "OE, msp": orthloss(ood_score="msp", **WITHOUT_FEATURE_TERMS),
        "OE, rowspace": orthloss(ood_score="rowspace", **WITHOUT_FEATURE_TERMS),
        "fused as OrthLoss": post_hoc("FusedOODDetector", as_orthloss=True),
        "MSP as OrthLoss": post_hoc("MSPOODDetector", as_orthloss=True),
        "KNN as OrthLoss": post_hoc("KNNOODDetector", as_orthloss=True),
        "Mahalanobis as OrthLoss": post_hoc("MahalanobisOODDetector", as_orthloss=True),
        "MSP": post_hoc("MSPOODDetector"),
        "MaxLogit": post_hoc("MaxLogitOODDetector"),
        "Energy": post_hoc("EnergyOODDetector"),
        "KNN": post_hoc("KNNOODDetector"),
        "Mahalanobis": post_hoc("MahalanobisOODDetector"),
        "ReAct": post_hoc("ReActOODDetector"),
        "ViM": post_hoc("ViMOODDetector"),
        "fused": post_hoc("FusedOODDetector"),
        "GEN": post_hoc("GENOODDetector"),
        "ASH": post_hoc("ASHOODDetector"),
        "SCALE": post_hoc("SCALEOODDetector"),
        "NNGuide": post_hoc("NNGuideOODDetector"),
        "fDBD": post_hoc("FDBDOODDetector"),
        "regeneration": post_hoc("DiffusionOODDetector"),
    },
    peers={
        "pytorch-ood MaxSoftmax": pytorch_ood_detector("MaxSoftmax"),
        "pytorch-ood MaxLogit": pytorch_ood_detector("MaxLogit"),
        "pytorch-ood EnergyBased": pytorch_ood_detector("EnergyBased"),
        "pytorch-ood KNN": pytorch_ood_detector("KNN"),
        "pytorch-ood Mahalanobis": pytorch_ood_detector("Mahalanobis"),
        "pytorch-ood ReAct": pytorch_ood_detector("ReAct"),
        "pytorch-ood ViM": pytorch_ood_detector("ViM"),
    },
    metrics=metrics,
    notes=(
        "AUROC and FPR95 in percent, with known samples as positives: the mean over the unknown "
        "sets, and the set that is nearest to the known classes",
        "OrthLoss and OE train on known outliers, which no other method uses",
        "the fit time of post-hoc detectors includes the training of the net",
    ),
)
