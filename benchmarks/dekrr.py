"""Decentralized kernel ridge regression on the splits of the paper's authors.

The name of a data set gives the assignment of its samples to nodes and the number of features per
node: ``air_y_70`` is AirQuality, sorted over ten nodes by the size of the target, with 70 features.
"RSE" is the relative squared error 1 - R2 on all test samples, each predicted by its own node, and
"RSE mean" is that of the mean over all nodes. "paper" is the paper's figure, if it has one.

``air_sites_50`` deals AirQuality at random to 40 sites of 50 samples, for the release with
differential privacy.

As in the paper, inputs are scaled to [0, 1] and targets to [-1, 1] with the extremes of training
*and* test samples, and AirQuality's -200 for "missing" is kept as a number.
"""

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.kernel_approximation import RBFSampler
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from ._contract import Benchmark, Task
from ._data import load

# name: (file, prefix of the stored split or None, sigma, lambda)
SETTINGS = {
    "air_y": ("AirQuality", "fig1_air", 0.25, 1e-6),
    "air_x": ("AirQuality", "fig2_air", 0.25, 1e-6),
    "air_iid": ("AirQuality", "fig4_air", 0.25, 1e-6),
    "houses_y": ("Houses", "fig1_houses", 0.25, 1e-6),
    "houses_x": ("Houses", "fig2_houses", 0.25, 1e-6),
    "energy_y": ("Energy", "fig1_energy", 2.0, 1e-8),
    "energy_x": ("Energy", "fig2_energy", 2.0, 1e-8),
    "toms_y": ("TomsHardware", None, 4.0, 1e-7),
    "diabetes": ("diabetes", None, 0.5, 1e-4),
    "air_sites": ("AirQuality", None, 0.25, 1e-6),
    "houses_sites": ("Houses", None, 0.25, 1e-6),
    "energy_sites": ("Energy", None, 2.0, 1e-8),
    "toms_sites": ("TomsHardware", None, 4.0, 1e-7),
}
N_SITES = 40
SITE_COMPONENTS = 41  # features for the release with differential privacy
# Stored errors of the paper: features per node -> (DKLA, DeKRR with the authors' rule).
PAPER = {
    "air_y": {30: (0.446, 0.181), 70: (0.205, 0.0907), 130: (0.111, 0.0645)},
    "air_x": {30: (0.470, 0.196), 70: (0.217, 0.109), 130: (0.112, 0.0771)},
    "air_iid": {
        **{30: (0.468, 0.224), 70: (0.243, 0.115)},
        **{130: (0.101, 0.0747), 150: (0.102, 0.0695)},
    },
    "houses_y": {20: (0.536, 0.312), 60: (0.351, 0.2485), 120: (0.288, 0.2344)},
    "houses_x": {20: (0.549, 0.364), 60: (0.339, 0.2946), 120: (0.284, 0.2755)},
    "energy_y": {50: (0.867, 0.836), 90: (0.829, 0.819), 150: (0.804, 0.791)},
    "energy_x": {50: (0.870, 0.854), 90: (0.835, 0.825), 150: (0.815, 0.801)},
}
DATASETS = tuple(f"{name}_{D}" for name, figures in PAPER.items() for D in figures)
# What "tuned" chooses from: multiples of the default coefficient of the kernel, and ridges.
GAMMA_FACTORS = (4.0, 1.0, 1 / 4, 1 / 16, 1 / 64)
ALPHAS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
TUNED = {"gamma": "cv", "gamma_grid": GAMMA_FACTORS, "alpha": "cv", "alpha_grid": ALPHAS}
IID_FRACTION = 0.2  # of the samples of a node, in splits that are not the authors'


def load_task(name, split):
    setting, n_components = name.rsplit("_", 1)
    file, prefix, sigma, ridge = SETTINGS[setting]
    arrays = load(file)
    if setting.endswith("_sites"):
        train, test, node, test_node = dealt_at_random(arrays["y"], int(n_components), seed=split)
        n_components = SITE_COMPONENTS
    elif prefix is None:
        train, test, node, test_node = sorted_by_target(arrays["y"], n_nodes=10, seed=split)
    else:
        train, test = arrays[f"{prefix}_train"], arrays[f"{prefix}_test"]
        sizes, test_sizes = arrays[f"{prefix}_ntrain"], arrays[f"{prefix}_ntest"]
        node, test_node = (np.repeat(np.arange(len(n)), n) for n in (sizes, test_sizes))
    used = np.concatenate((train, test))
    X = scaled(arrays["X"], used)
    y = 2.0 * scaled(arrays["y"], used) - 1.0
    return Task(
        name,
        split,
        X[train],
        y[train],
        X[test],
        y[test],
        fit_params={"node": node},
        extra={
            "node": test_node,
            "n_components": int(n_components),
            "gamma": 0.5 / sigma**2,
            "alpha": ridge,
            "graph": "ring" if len(np.unique(node)) == 6 else "circulant",
            "paper": PAPER.get(setting, {}).get(int(n_components)),
        },
    )


def scaled(values, used):
    values = values.astype(np.float64)
    low, high = values[used].min(axis=0), values[used].max(axis=0)
    return (values - low) / np.where(high > low, high - low, 1.0)


def sorted_by_target(y, n_nodes, seed):
    """Assign a fraction of the samples at random, and sort the others by the size of the target."""
    rng = np.random.RandomState(seed)
    size = len(y) // n_nodes
    rows = rng.permutation(len(y))[: size * n_nodes]
    n_random = int(IID_FRACTION * size) * n_nodes
    at_random, others = rows[:n_random], rows[n_random:]
    scale = y.min(), np.ptp(y)
    others = others[np.argsort(-np.abs(2.0 * (y[others] - scale[0]) / scale[1] - 1.0))]
    parts = [
        rng.permutation(np.concatenate(pair))
        for pair in zip(
            np.array_split(at_random, n_nodes), np.array_split(others, n_nodes), strict=True
        )
    ]
    half = size // 2
    nodes = np.arange(n_nodes)
    return (
        np.concatenate([part[:half] for part in parts]),
        np.concatenate([part[half:] for part in parts]),
        np.repeat(nodes, half),
        np.repeat(nodes, [len(part) - half for part in parts]),
    )


def dealt_at_random(y, n_per_site, seed):
    """Deal samples to sites at random, and up to 100 test samples per site."""
    rows = np.random.RandomState(seed).permutation(len(y))
    sites = np.arange(N_SITES)
    train, test = rows[: N_SITES * n_per_site], rows[N_SITES * n_per_site :][: N_SITES * 100]
    return train, test, np.repeat(sites, n_per_site), np.resize(sites, len(test))


class Pooled(RegressorMixin, BaseEstimator):
    """One regressor on the samples of all nodes."""

    def __init__(self, regressor, paper=None):
        self.regressor = regressor
        self.paper = paper  # its error in the paper

    def fit(self, X, y, node=None):
        self.regressor.fit(X, y)
        return self

    def predict(self, X, node=None):
        return self.regressor.predict(X)


class LocalKernelRidge(RegressorMixin, BaseEstimator):
    """Exact kernel ridge regression at every node, without exchange."""

    def __init__(self, gamma, alpha):
        self.gamma = gamma
        self.alpha = alpha

    def fit(self, X, y, node):
        self.regressors_ = {
            j: KernelRidge(kernel="rbf", gamma=self.gamma, alpha=self.alpha * (node == j).sum())
            .fit(X[node == j], y[node == j])
            for j in np.unique(node)
        }  # fmt: skip
        return self

    def predict(self, X, node=None):
        if node is None:
            return np.mean(
                [regressor.predict(X) for regressor in self.regressors_.values()], axis=0
            )
        out = np.empty(len(X))
        for j in np.unique(node):
            out[node == j] = self.regressors_[j].predict(X[node == j])
        return out


def decentralized(*, paper_form=False, **parameters):
    """Build our estimator with the paper's width and ridge; None stands for our defaults."""

    def build(task, seed, n_threads):
        from sklearn_ext import DecentralizedRFKRR

        chosen = {"gamma": task.extra["gamma"], "alpha": task.extra["alpha"]} | parameters
        make = DecentralizedRFKRR.from_paper if paper_form else DecentralizedRFKRR
        return make(
            n_components=task.extra["n_components"],
            graph=task.extra["graph"],
            n_jobs=n_threads,
            random_state=seed,
            **{name: value for name, value in chosen.items() if value is not None},
        )

    return build


def pooled_features(per_node):
    def build(task, seed, n_threads):
        D, paper = task.extra["n_components"], task.extra["paper"]
        if per_node:
            D *= len(np.unique(task.fit_params["node"]))
        ridge = task.extra["alpha"] * len(task.y_train)
        features = RBFSampler(gamma=task.extra["gamma"], n_components=D, random_state=seed)
        regressor = make_pipeline(features, Ridge(alpha=ridge, fit_intercept=False))
        return Pooled(regressor, paper=paper[0] if paper and not per_node else None)

    return build


class OneExchange(RegressorMixin, BaseEstimator):
    """Ridge regression on one shared map, from sums that all nodes add up once.

    The width, the ridge and the intercept are those of our defaults. With `tuned`, cross-validation
    with five folds chooses width and ridge, as for "DeKRR tuned". This is also the limit of DKLA
    with these parameters.
    """

    def __init__(self, n_components, tuned, seed):
        self.n_components = n_components
        self.tuned = tuned
        self.seed = seed

    def fit(self, X, y, node):
        # The median rule of our estimator: the median distance in a node, averaged over nodes.
        widths = [
            np.median(pdist(X[node == j][:: max(1, (node == j).sum() // 500)]))
            for j in np.unique(node)
        ]
        gamma = 0.5 / np.mean(widths) ** 2
        model = make_pipeline(
            RBFSampler(gamma=gamma, n_components=self.n_components, random_state=self.seed),
            Ridge(alpha=1e-6 * len(X)),
        )
        if self.tuned:
            grid = {
                "rbfsampler__gamma": [gamma * factor for factor in GAMMA_FACTORS],
                "ridge__alpha": [alpha * len(X) for alpha in ALPHAS],
            }
            model = GridSearchCV(model, grid, cv=KFold(5, shuffle=True, random_state=0))
        self.model_ = model.fit(X, y)
        n_nodes, D = len(np.unique(node)), self.n_components
        # The sums travel up a tree and back: a triangle, the moment, and sums of features, targets
        # and samples.
        self.bytes_ = 8 * 2 * (n_nodes - 1) * (D * (D + 1) // 2 + 2 * D + 2)
        return self

    def predict(self, X, node=None):
        return self.model_.predict(X)


def one_exchange(tuned):
    def build(task, seed, n_threads):
        return OneExchange(task.extra["n_components"], tuned, seed)

    return build


class DKLA(RegressorMixin, BaseEstimator):
    """The paper's ADMM for DKLA: one shared map, and neighbors that agree on coefficients.

    It stops when the error on all training samples, averaged over the functions of the nodes, is
    within one percent of the limit's error.
    """

    def __init__(self, gamma, alpha, n_components, graph, seed, max_iter=1500):
        self.gamma = gamma
        self.alpha = alpha
        self.n_components = n_components
        self.graph = graph
        self.seed = seed
        self.max_iter = max_iter

    def fit(self, X, y, node):
        from sklearn_ext.decentralized import make_graph

        labels, codes = np.unique(node, return_inverse=True)
        J, N, D = len(labels), len(X), self.n_components
        self.features_ = RBFSampler(gamma=self.gamma, n_components=D, random_state=self.seed).fit(X)
        Z = self.features_.transform(X)
        grams = [Z[codes == j].T @ Z[codes == j] for j in range(J)]
        moments = [Z[codes == j].T @ y[codes == j] for j in range(J)]
        limit = np.linalg.solve(sum(grams) + self.alpha * N * np.eye(D), sum(moments))
        adjacency = make_graph(self.graph, J)
        degree = adjacency.sum(axis=1)
        theta, dual, rho = np.zeros((J, D)), np.zeros((J, D)), 1e-4
        bound = 1.01 * ((Z @ limit - y) ** 2).sum()
        for n_iter in range(1, self.max_iter + 1):
            if n_iter % 200 == 1:
                rho = rho * 2 if n_iter > 1 else rho
                inverses = [
                    np.linalg.inv(
                        2 / N * grams[j] + (2 * self.alpha / J + 2 * rho * degree[j]) * np.eye(D)
                    )
                    for j in range(J)
                ]
            pull = degree[:, None] * theta + adjacency @ theta
            theta = np.stack(
                [inverses[j] @ (2 / N * moments[j] + rho * pull[j] - dual[j]) for j in range(J)]
            )
            dual += rho * (degree[:, None] * theta - adjacency @ theta)
            if ((Z @ theta.T - y[:, None]) ** 2).sum(axis=0).mean() <= bound:
                break
        self.labels_, self.theta_ = labels, theta
        self.bytes_ = 8 * n_iter * int(adjacency.sum()) * D
        return self

    def predict(self, X, node=None):
        values = self.features_.transform(X) @ self.theta_.T
        if node is None:
            return values.mean(axis=1)
        return values[np.arange(len(X)), np.searchsorted(self.labels_, node)]


def dkla(task, seed, n_threads):
    extra = task.extra
    return DKLA(extra["gamma"], extra["alpha"], extra["n_components"], extra["graph"], seed)


def over_network(**parameters):
    """Build our estimator on a network in this process, which counts bytes."""

    def build(task, seed, n_threads):
        from sklearn_ext import InProcessNetwork

        return decentralized(
            gamma=None, alpha=None, network=InProcessNetwork(), tol=1e-4, **parameters
        )(task, seed, n_threads)

    return build


def with_privacy(epsilon):
    """Build our estimator with a release of noisy sums; the width suits inputs in [0, 1]."""

    def build(task, seed, n_threads):
        from sklearn_ext import DecentralizedRFKRR
        from sklearn_ext.decentralized import GaussianRelease

        return DecentralizedRFKRR(
            n_components=SITE_COMPONENTS,
            gamma=1.0,
            graph=task.extra["graph"],
            privacy=GaussianRelease(epsilon=epsilon, random_state=seed),
            random_state=seed,
        )

    return build


def pooled_kernel_ridge(task, seed, n_threads):
    ridge = task.extra["alpha"] * len(task.y_train)
    return Pooled(KernelRidge(kernel="rbf", gamma=task.extra["gamma"], alpha=ridge))


def local_kernel_ridge(task, seed, n_threads):
    return LocalKernelRidge(task.extra["gamma"], task.extra["alpha"])


# The direct solver finds the limit of the paper's iteration.
PAPER_FORM = decentralized(paper_form=True, solver="auto", damping=0.0)
DKLA_LIMIT = "DKLA (its limit)"


def relative_squared_error(predicted, y):
    return ((predicted - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()


def metrics(model, output, task):
    own = model.predict(task.X_test, node=task.extra["node"])
    figures = {
        "RSE": relative_squared_error(own, task.y_test),
        "RSE mean": relative_squared_error(output, task.y_test),
    }
    paper = task.extra["paper"]
    if hasattr(model, "bytes_"):
        figures["kB"] = model.bytes_ / 1e3
    if hasattr(model, "n_floats_sent_"):
        figures |= {"c": model.consensus_weight_, "floats": model.n_floats_sent_["total"]}
        if model.communication_cost_ is not None:
            cost = model.communication_cost_
            figures |= {"kB": cost["total"] / 1e3, "kB rounds": cost["rounds"] / 1e3}
        if paper and model.feature_selection == "energy":
            figures["paper"] = paper[1]
    elif getattr(model, "paper", None):
        figures["paper"] = model.paper
    return figures


def warm_up(model, task):
    """Fit a few samples of every node, so that imports and compilation are not timed."""
    node = task.fit_params["node"]
    rows = np.concatenate([np.flatnonzero(node == j)[:20] for j in np.unique(node)])
    model.fit(task.X_train[rows], task.y_train[rows], node=node[rows])


BENCHMARK = Benchmark(
    datasets=(
        *DATASETS,
        *("toms_y_60", "toms_y_120", "diabetes_20"),
        *(f"{name}_sites_{n}" for name in ("air", "houses", "energy", "toms") for n in (25, 100)),
    ),
    quick=("diabetes_20",),
    load=load_task,
    ours={
        "DeKRR": decentralized(gamma=None, alpha=None),
        "DeKRR cv": decentralized(
            fit_intercept=False,
            consensus_weight="cv",
            consensus_weight_grid=(0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0),
        ),
        "DeKRR, the paper's rule": PAPER_FORM,
        "DeKRR tuned": decentralized(consensus_weight="cv", **TUNED),
        "DeKRR, messages": over_network(),
        "DeKRR, messages, float32": over_network(message_dtype="float32"),
        "DeKRR, messages, bfloat16": over_network(message_dtype="bfloat16"),
        "DeKRR, messages, censored": over_network(censoring=0.1, censoring_decay=0.8),
        "DeKRR, epsilon 3": with_privacy(3.0),
        "DeKRR, epsilon 1": with_privacy(1.0),
        "alone, as with epsilon": with_privacy(1e-6),
    },
    peers={
        "mean of local fits": decentralized(gamma=None, alpha=None, consensus_weight=0.0),
        "local fits tuned": decentralized(consensus_weight=0.0, **TUNED),
        DKLA_LIMIT: pooled_features(per_node=False),
        "DKLA, messages": dkla,
        "one exchange": one_exchange(tuned=False),
        "one exchange tuned": one_exchange(tuned=True),
        "pooled random features": pooled_features(per_node=True),
        "local kernel ridge": local_kernel_ridge,
        "pooled kernel ridge": pooled_kernel_ridge,
    },
    metrics=metrics,
    higher_is_better=False,
    warm_up=warm_up,
    notes=(
        "DeKRR uses all defaults; 'cv' and the paper's rule use the paper's width and ridge, which "
        "were chosen on the test samples, and choose the consensus weight by cross-validation",
        "floats of a direct solution are those of the set-up and one round; 'messages' iterates",
        "DKLA (its limit) is the limit of its ADMM, ridge regression of all samples on one map, "
        "with the paper's width and ridge and no intercept",
        "one exchange is the same with the width, ridge and intercept of our defaults, from sums "
        "that travel once",
        "tuned: width and ridge from the same candidates by cross-validation with five folds; "
        "DeKRR also chooses the selection and the consensus weight, local fits the selection",
        "kB are bytes at the transport, over all edges; DKLA's messages stop within 1 % of its "
        "limit's training error",
        "epsilon is that of one node's release, with delta 1e-5, 41 features and a width chosen "
        "without the samples; 'alone' is the same with noise that makes the others useless",
        "pooled methods have all samples in one place and show what can be reached",
    ),
)
