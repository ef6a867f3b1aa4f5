"""Compare regeneration with other detectors of samples of unknown classes.

Detectors on a network use networks trained on the same samples with the same seed, except that each
detector holds out its own fraction of them for the threshold. scikit-learn's detectors get flat
vectors.
"""

from ._contract import Benchmark
from ._ood_sets import DATASETS, QUICK, load_task, metrics


def net(seed):
    from sklearn_ext import NetClassifier

    return NetClassifier(random_state=seed)


def ours(**parameters):
    def build(task, seed, n_threads):
        from sklearn_ext import DiffusionOODDetector

        return DiffusionOODDetector(net(seed), random_state=seed, **parameters)

    return build


def paper(**parameters):
    def build(task, seed, n_threads):
        from sklearn_ext import DiffusionOODDetector

        return DiffusionOODDetector.from_paper(estimator=net(seed), random_state=seed, **parameters)

    return build


def on_probabilities(task, seed, n_threads):
    from sklearn.linear_model import LogisticRegression

    from sklearn_ext import DiffusionOODDetector

    model = DiffusionOODDetector(LogisticRegression(max_iter=2000), random_state=seed)
    return flat(model)


def on_the_net(name):
    def build(task, seed, n_threads):
        from sklearn_ext import ood

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
        "paper": paper(),
        "paper, empirical": paper(diffusion="empirical"),
        "paper, empirical, both clipped": paper(diffusion="empirical", anomaly_removal="both"),
        "paper, empirical, no removal": paper(diffusion="empirical", anomaly_removal="none"),
        "trained model": ours(diffusion="ddpm"),
        "conditional": ours(conditional=True, guidance=0.0),
        "1,000 prototypes": ours(n_prototypes=1000),
        "on logistic regression": on_probabilities,
    },
    peers={
        "largest probability": on_the_net("MSPOODDetector"),
        "energy": on_the_net("EnergyOODDetector"),
        "nearest features": on_the_net("KNNOODDetector"),
        "Mahalanobis": on_the_net("MahalanobisOODDetector"),
        "LocalOutlierFactor": local_outlier_factor,
        "IsolationForest": isolation_forest,
        "OneClassSVM": one_class_svm,
    },
    metrics=metrics,
    notes=(
        "AUROC and FPR95 are in percent, with samples of known classes as positives. They are "
        'means over the sets of outliers; "near" is the set nearest to the known classes.',
        "The prediction time is for all test samples, of known and unknown classes.",
    ),
)
