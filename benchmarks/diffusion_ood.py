"""Regeneration against other detectors: how well rows of no known class are told apart.

Detectors that read a network read the same one: trained on the same rows from the same seed, but
that each keeps its own share of them for the threshold. Detectors of scikit-learn see flat rows.
"""

from ._contract import Benchmark
from ._ood_sets import DATASETS, QUICK, load_task, metrics

# What preset="paper" stands for, but for the trained model and the sides of the clipping.
PAPER = {
    "disparity": ("feature", "probability"),
    "feature_metric": "l2",
    "probability_metric": "kl",
}


def net(seed):
    from sklearn_ext import NetClassifier

    return NetClassifier(random_state=seed)


def ours(**parameters):
    def build(task, seed, n_threads):
        from sklearn_ext import DiffusionOODDetector

        return DiffusionOODDetector(net(seed), random_state=seed, **parameters)

    return build


def on_probabilities(task, seed, n_threads):
    from sklearn.linear_model import LogisticRegression

    from sklearn_ext import DiffusionOODDetector

    model = DiffusionOODDetector(LogisticRegression(max_iter=2000), random_state=seed)
    return flat(model)


def reading_the_net(name):
    def build(task, seed, n_threads):
        from sklearn_ext import ood

        if not hasattr(ood, name):
            raise ImportError(f"no {name} in sklearn_ext.ood")
        return getattr(ood, name)(net(seed), random_state=seed)

    return build


def flat(detector):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(as_rows), detector)


def as_rows(X):
    return X.reshape(len(X), -1)


def local_outlier_factor(task, seed, n_threads):
    from sklearn.neighbors import LocalOutlierFactor

    return flat(LocalOutlierFactor(novelty=True, n_jobs=n_threads))


def isolation_forest(task, seed, n_threads):
    from sklearn.ensemble import IsolationForest

    return flat(IsolationForest(random_state=seed, n_jobs=n_threads))


def one_class_svm(task, seed, n_threads):
    from sklearn.svm import OneClassSVM

    return flat(OneClassSVM())


BENCHMARK = Benchmark(
    datasets=DATASETS,
    quick=QUICK,
    load=load_task,
    splits=(0, 1, 2),
    response="score_samples",
    ours={
        "regeneration": ours(),
        "one draw": ours(n_repeats=1),
        "ten steps": ours(n_steps=10),
        "all three terms": ours(disparity=("pixel", "feature", "probability")),
        "pixels": ours(disparity="pixel"),
        "features": ours(disparity="feature"),
        "probabilities": ours(disparity="probability"),
        "paper": ours(preset="paper"),
        "paper, empirical": ours(**PAPER, anomaly_removal="generation"),
        "paper, empirical, both clipped": ours(**PAPER),
        "trained model": ours(diffusion="ddpm"),
        "conditional": ours(conditional=True, guidance=0.0),
        "1,000 prototypes": ours(n_prototypes=1000),
        "on logistic regression": on_probabilities,
    },
    peers={
        "largest probability": reading_the_net("MSPOODDetector"),
        "energy": reading_the_net("EnergyOODDetector"),
        "nearest features": reading_the_net("KNNOODDetector"),
        "Mahalanobis": reading_the_net("MahalanobisOODDetector"),
        "LocalOutlierFactor": local_outlier_factor,
        "IsolationForest": isolation_forest,
        "OneClassSVM": one_class_svm,
    },
    metrics=metrics,
    notes=(
        "AUROC and FPR95 in percent, known rows positive: the mean over the strange sets, and the "
        "set that is nearest to the known classes",
        "prediction time is that of all test rows, known and strange",
    ),
)
