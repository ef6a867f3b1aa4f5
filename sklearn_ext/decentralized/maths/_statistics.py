r"""What a node's rows contribute to the network's problem: sums over its rows.

With :math:`Z_i = Z_i(X_j)` the features of node i's map at the rows of node j, weighted by
:math:`W`, node j holds

.. math::
    G_{jj} = Z_j^TWZ_j, \quad C_{ji} = Z_j^TWZ_i, \quad G_{ij} = Z_i^TWZ_i, \quad
    m_j = Z_j^TWY_j, \quad s_j = Z_j^TW1

for its neighbours i. All are additive: rows that arrive later are added, the rows of a
cross-validation fold are subtracted.
"""

from dataclasses import dataclass, fields

from ._feature_maps import row_chunks


@dataclass(frozen=True)
class NodeStatistics:
    """Sums over the rows of one node j.

    Attributes
    ----------
    weight : float
        Sum of the weights of the rows.
    y_sum : array of shape (k,)
    y_square : float
        Weighted sum of squares of all targets.
    feature_sum : array of shape (D_j,)
        :math:`s_j`.
    moment : array of shape (D_j, k)
        :math:`m_j`.
    gram : array of shape (D_j, D_j)
        :math:`G_{jj}`.
    cross : dict of arrays of shape (D_j, D_i), by neighbour i
        :math:`C_{ji}`.
    foreign : dict of arrays of shape (D_i, D_i), by neighbour i
        :math:`G_{ij}`.
    """

    weight: float
    y_sum: object
    y_square: float
    feature_sum: object
    moment: object
    gram: object
    cross: dict
    foreign: dict

    def _combine(self, other, operation):
        def combined(a, b):
            return {i: operation(a[i], b[i]) for i in a} if isinstance(a, dict) else operation(a, b)

        return NodeStatistics(
            *(combined(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        )

    def __add__(self, other):
        return self._combine(other, lambda a, b: a + b)

    def __sub__(self, other):
        return self._combine(other, lambda a, b: a - b)

    def convert(self, function):
        """Apply a function, such as ``engine.to_numpy``, to every array."""

        def converted(value):
            if isinstance(value, dict):
                return {i: function(block) for i, block in value.items()}
            return value if isinstance(value, float) else function(value)

        return NodeStatistics(*(converted(getattr(self, f.name)) for f in fields(self)))

    def target(self, mean):
        r"""Moment of the targets less a constant, :math:`m_j - s_j \bar y^T`."""
        return self.moment - self.feature_sum[:, None] * mean

    def energy(self, mean):
        """Sum of squares of the targets less a constant."""
        shift = float((mean * (2.0 * self.y_sum - self.weight * mean)).sum())
        return max(self.y_square - shift, 0.0)


def node_statistics(engine, X, Y, weights, own, neighbours):
    """Sum over the rows of one node, in chunks.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    X : ndarray or CSR matrix of shape (n, d)
    Y : ndarray of shape (n, k)
    weights : ndarray of shape (n,)
    own : FeatureMap
        The node's map.
    neighbours : dict of FeatureMap, by neighbour

    Returns
    -------
    NodeStatistics
    """
    maps = {None: own, **neighbours}
    native = {i: (engine.asarray(z.frequencies), engine.asarray(z.phases)) for i, z in maps.items()}
    size, n_outputs = own.n_components, Y.shape[1]
    moment, feature_sum = engine.zeros(size, n_outputs), engine.zeros(size)
    gram = engine.zeros(size, size)
    foreign = {i: engine.zeros(z.n_components, z.n_components) for i, z in neighbours.items()}
    cross = {i: engine.zeros(size, z.n_components) for i, z in neighbours.items()}
    unweighted = bool((weights == 1.0).all())
    for chunk in row_chunks(engine, X.shape[0], size):
        rows, targets = engine.rows(X[chunk]), engine.asarray(Y[chunk])
        root = None if unweighted else engine.asarray(weights[chunk, None] ** 0.5)
        Z = engine.features(rows, *native[None])
        if root is None:
            feature_sum += Z.sum(0)
        else:
            Z *= root
            targets = targets * root
            feature_sum += (Z * root).sum(0)
        moment += engine.asarray(Z.T) @ targets
        gram += Z.T @ Z
        for i in neighbours:
            Z_i = engine.features(rows, *native[i])
            if root is not None:
                Z_i *= root
            cross[i] += Z.T @ Z_i
            foreign[i] += Z_i.T @ Z_i
    weighted = Y * weights[:, None]
    return NodeStatistics(
        weight=float(weights.sum()),
        y_sum=engine.asarray(weighted.sum(axis=0)),
        y_square=float((weighted * Y).sum()),
        feature_sum=feature_sum,
        moment=moment,
        gram=gram,
        cross=cross,
        foreign=foreign,
    )
