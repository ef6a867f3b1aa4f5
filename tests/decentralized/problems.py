"""Small networks of nodes, and the objective written out as a sum over samples."""

from dataclasses import dataclass

import numpy as np

from sklearn_ext.decentralized import consensus_system, make_graph
from sklearn_ext.decentralized.math import FeatureMap, make_engine, node_statistics

ENGINE = make_engine()


def smooth_targets(X, n_outputs, rng):
    directions = rng.normal(size=(X.shape[1], n_outputs))
    return np.sin(2.0 * X @ directions) + 0.5 * X[:, :1] + 0.1 * rng.normal(size=(len(X), 1))


def random_map(n_features, n_components, rng, gamma=1.0):
    return FeatureMap(
        rng.normal(size=(n_features, n_components)) * np.sqrt(2.0 * gamma),
        rng.uniform(0.0, 2.0 * np.pi, n_components),
    )


@dataclass
class Problem:
    X: list
    Y: list
    weights: list
    maps: list
    adjacency: np.ndarray
    c: float = 0.7
    ridge: float = 1e-2

    def statistics(self, engine=ENGINE):
        return [
            node_statistics(
                self.X[j],
                self.Y[j],
                self.weights[j],
                self.maps[j],
                {int(i): self.maps[i] for i in np.flatnonzero(self.adjacency[j])},
                engine,
            )
            for j in range(len(self.X))
        ]

    def system(self, engine=ENGINE):
        return consensus_system(
            self.statistics(engine),
            self.adjacency,
            ridge=self.ridge,
            consensus_weight=self.c,
            engine=engine,
        )

    def features(self, j, X):
        return ENGINE.features(np.asarray(X), self.maps[j].frequencies, self.maps[j].phases)

    def predict(self, thetas, X):
        return np.stack([self.features(j, X) @ theta for j, theta in enumerate(thetas)])

    def objective(self, thetas):
        """Return the objective, computed from samples, features and residuals."""
        total = 0.0
        degree = self.adjacency.sum(axis=1)
        for j, (X, Y, w) in enumerate(zip(self.X, self.Y, self.weights, strict=True)):
            own = self.features(j, X) @ thetas[j]
            total += (w[:, None] * (own - Y) ** 2).sum() + self.ridge * (thetas[j] ** 2).sum()
            for i in np.flatnonzero(self.adjacency[j]):
                apart = own - self.features(i, X) @ thetas[i]
                pair = self.c * self.adjacency[j, i] / degree[j]
                total += pair * (w[:, None] * apart**2).sum()
        return total


def make_problem(
    graph="ring", n_nodes=5, *, n_features=2, n_outputs=1, seed=0, common_map=False, **parameters
):
    """Return a network whose nodes differ in their numbers of samples and features."""
    rng = np.random.default_rng(seed)
    adjacency = make_graph(graph, n_nodes, random_state=seed) if isinstance(graph, str) else graph
    sizes = rng.integers(15, 40, n_nodes)
    X = [rng.uniform(-1, 1, (n, n_features)) + 0.2 * rng.normal(size=n_features) for n in sizes]
    directions = np.random.default_rng(seed + 1)
    Y = smooth_targets(np.vstack(X), n_outputs, directions)
    Y = np.split(Y, np.cumsum(sizes)[:-1])
    weights = [np.ones(n) for n in sizes]
    maps = [random_map(n_features, int(D), rng) for D in rng.integers(8, 14, n_nodes)]
    if common_map:
        maps = [maps[0]] * n_nodes
    return Problem(X, Y, weights, maps, adjacency, **parameters)
