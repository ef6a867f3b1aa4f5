r"""Cross-validation of the consensus weight without fitting anything twice.

All that a fit needs are sums over rows, so a fold is held out by subtracting its sums. The error
on the held-out rows needs no features either: a node's squared error on them is
:math:`\theta^TG\theta - 2\theta^Tm + \lVert y \rVert^2`, in the fold's own sums.
"""

from numbers import Integral

import numpy as np

from ._solvers import solve_jointly


def fold_numbers(cv, rows, rng):
    """Return the number of the fold of every row of a node.

    Parameters
    ----------
    cv : int, cross-validation splitter or iterable of (training, test)
        A number of folds, which are drawn at random; or a splitter, which sees the node's rows in
        the order of the table; or splits of the table.
    rows : NodeRows
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int of shape (n,)

    Raises
    ------
    ValueError
        If the node has too few rows, or a row is not held out exactly once.
    """
    n_rows = len(rows.Y)
    if isinstance(cv, Integral):
        if n_rows < cv:
            raise ValueError(
                f"cv must be at most the number of distinct rows of each node, got cv={cv} with a "
                f"node of {n_rows}."
            )
        folds = np.empty(n_rows, dtype=int)
        folds[rng.permutation(n_rows)] = np.arange(n_rows) % cv
        return folds
    if hasattr(cv, "split"):
        order = np.argsort(rows.index)
        held_out = [order[test] for _, test in cv.split(np.zeros((n_rows, 1)))]
    else:
        held_out = [np.flatnonzero(np.isin(rows.index, test)) for _, test in cv]
    folds = np.full(n_rows, -1)
    for number, members in enumerate(held_out):
        folds[members] = number
    if sum(map(len, held_out)) != n_rows or (folds < 0).any():
        raise ValueError("cv must hold out every row exactly once.")
    return folds


def cross_validate(fold_statistics, assemble, candidates, *, fit_intercept):
    """Relative squared error of every candidate, by fold.

    Parameters
    ----------
    fold_statistics : list, over folds, of lists, over nodes, of NodeStatistics
    assemble : callable
        From the statistics of all nodes and the offset of the targets to a ConsensusSystem.
    candidates : sequence of float
        Consensus weights.
    fit_intercept : bool
        Whether the offset is the mean of the rows that are not held out.

    Returns
    -------
    ndarray of shape (n_candidates, n_folds)
        Squared error on the fold's rows, each predicted by its own node, over their variance.
    """
    totals = [sum(parts[1:], start=parts[0]) for parts in zip(*fold_statistics, strict=True)]
    errors = np.empty((len(candidates), len(fold_statistics)))
    for fold, held_out in enumerate(fold_statistics):
        training = [total - part for total, part in zip(totals, held_out, strict=True)]
        mean = network_mean(training) if fit_intercept else 0.0 * training[0].y_sum
        system = assemble(training, mean)
        spread = sum(part.energy(network_mean(held_out)) for part in held_out)
        for row, c in zip(errors, candidates, strict=True):
            coefs = solve_jointly(system.with_consensus_weight(c)).coefs
            error = sum(map(_squared_error, held_out, coefs, [mean] * len(coefs)))
            row[fold] = error / spread if spread > 0 else error
    return errors


def network_mean(statistics):
    """Weighted mean of the targets over all nodes."""
    total = sum(part.weight for part in statistics)
    return sum(part.y_sum for part in statistics) / total


def _squared_error(rows, theta, mean):
    fit = float((theta * (rows.gram @ theta - 2.0 * rows.target(mean))).sum())
    return max(fit + rows.energy(mean), 0.0)
