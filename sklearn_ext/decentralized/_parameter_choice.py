"""Choice of the width, the ridge and the consensus weight by cross-validation.

A fit needs only sums over samples, so one pass over the samples of a node gives the sums of every
fold for some features. All ridges and consensus weights are then compared without another pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from ..utils._typing import FloatArray
from ._config import DeKRRConfig

_COMPARED_SELECTIONS = ("energy_pairs", "plain")  # with "auto", if gamma is chosen
_FIRST_WEIGHT = 0.5  # until the consensus weight is chosen

State = TypeVar("State")


class Candidate(NamedTuple):
    """Parameters that cross-validation compares, and their error on every fold.

    Attributes
    ----------
    feature_selection : str
    gamma, alpha, consensus_weight : float
    errors : ndarray of shape (n_folds,)
        Squared errors on held-out samples, divided by their variance.
    """

    feature_selection: str
    gamma: float
    alpha: float
    consensus_weight: float
    errors: FloatArray


def choose_parameters(
    config: DeKRRConfig,
    median_gamma: float,
    prepare: Callable[[DeKRRConfig], State],
    score: Callable[[State, Sequence[tuple[float, float]]], FloatArray],
    *,
    after_trial: Callable[[], bool] = bool,
) -> tuple[DeKRRConfig, State, list[Candidate]]:
    """Choose by cross-validation the parameters that are set to "cv".

    The features, the width and the ridge are chosen together, with a consensus weight of 0.5 unless
    it is given. The consensus weight is chosen afterward.

    Parameters
    ----------
    config : DeKRRConfig
    median_gamma : float
        Coefficient that the rule gives.
    prepare : callable
        Selects the features of a configuration whose `gamma` is a number; returns the sums over
        every fold.
    score : callable
        Takes such sums and pairs of a ridge and a consensus weight; returns the error of every pair
        on every fold, of shape (n_pairs, n_folds).
    after_trial : callable, default=bool
        Called after each width and kind of features; returns whether to compare no others.

    Returns
    -------
    config : DeKRRConfig
        The configuration without "cv".
    state : object
        The result of `prepare` for this configuration.
    candidates : list of Candidate
        All parameters that were compared.
    """
    gammas = [median_gamma]
    selections: tuple[str, ...] = (config.feature_selection,)
    if config.gamma == "cv":
        gammas = [median_gamma * factor for factor in config.gamma_grid]
        if config.feature_selection == "auto":
            selections = _COMPARED_SELECTIONS
    alphas = config.alpha_grid if isinstance(config.alpha, str) else (config.alpha,)
    weight = config.consensus_weight
    first_weight = _FIRST_WEIGHT if isinstance(weight, str) else weight
    candidates: list[Candidate] = []

    def compare(
        trial: DeKRRConfig, state: State, pairs: Sequence[tuple[float, float]]
    ) -> tuple[float, DeKRRConfig, State]:
        """Return the lowest error, and the configuration and the sums that attain it."""
        errors = score(state, pairs)
        for (alpha, c), row in zip(pairs, errors, strict=True):
            candidates.append(Candidate(trial.feature_selection, float(trial.gamma), alpha, c, row))
        means = errors.mean(axis=1)
        best = int(np.argmin(means))
        alpha, c = pairs[best]
        return means[best], replace(trial, alpha=alpha, consensus_weight=c), state

    trials = [
        replace(config, feature_selection=selection, gamma=gamma)
        for selection in selections
        for gamma in gammas
    ]
    if len(trials) * len(alphas) == 1:
        chosen = replace(trials[0], alpha=alphas[0], consensus_weight=first_weight)
        state = prepare(trials[0])
    else:
        pairs = [(alpha, first_weight) for alpha in alphas]
        lowest: float | None = None
        for trial in trials:
            # Only the sums of the best trial so far stay in memory.
            found = compare(trial, prepare(trial), pairs)
            if lowest is None or found[0] < lowest:
                lowest, chosen, state = found
            if after_trial():
                break
    if isinstance(weight, str):
        pairs = [(float(chosen.alpha), c) for c in config.consensus_weight_grid]
        _, chosen, state = compare(chosen, state, pairs)
    return chosen, state, candidates
