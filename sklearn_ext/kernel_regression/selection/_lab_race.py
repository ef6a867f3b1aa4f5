"""The choice of kernel, ridges and length of training on held-out samples.

Candidates, which are pairs of a kernel and a ridge, race. All train at a constant learning rate on
the same samples, support points and batches. They are compared on held-out samples by the average
of their latest iterates, which is as good as a model whose learning rate has decayed to zero. After
each leg of the race, the candidates that are behind drop out, and the others train on. From 2,000
samples on, what counts is where the loss would be after the next leg. The winner also determines
the length of training, and the ridge of the last least-squares fit, which takes one solve per
ridge. On small tables, it then meets kernel ridge regression on all samples, both with the
bandwidths that the race has learned and with equal ones.

The constants were chosen by the error on samples held out from the training samples of public
tables: eleven for regression, and thirteen for the margin of the classifier.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from ...utils._rows import count_samples
from ...utils._typing import Array, FloatArray, IntArray
from .._lab_config import LABConfig
from .._lab_kernel import KERNELS
from .._lab_refit import ALL_RIDGES
from ..engines import LABEngine
from ._lab_candidates import Candidate, HeldOut, HeldOutLoss, KernelRidgeCandidate, Split, hold_out

ALPHAS = (1e-3, 1e-2, 0.1, 1.0)
REFIT_ALPHAS = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
FULL_LENGTH = 2000  # steps of the last stage, unless a shorter one has a lower loss
FEWEST_SAMPLES = 40  # the held-out part of fewer could not tell candidates apart
_LEGS: tuple[int, ...] = (
    125,
    250,
    500,
    1000,
)  # lengths of the last stage at which candidates are compared
_N_FINALISTS = 2
_N_LEFT = (4, 3, _N_FINALISTS, _N_FINALISTS)  # candidates that are left after each leg
_TWO_SPLITS_BELOW = 2000  # samples
_LEGS_OF_TWO_SPLITS: tuple[int, ...] = (250, 500)
_N_SEMIFINALISTS = 4
_SHORT_WARMUP = 60
_SHORT_GROWTH = 20
_MAX_ALL = 2000  # distinct samples up to which all of them may become support points
_STILL_FALLS = 0.975  # ratio of two losses, below which longer training would lower the loss
_MIN_GAIN_OVER_LONG = 0.15  # relative fall below the loss that longer training would reach
_LENGTH_FOR_ALL = 500  # steps of the last stage that are enough for the mean bandwidths
_LENGTH_FOR_EQUAL = 100  # steps of the last stage if no learned bandwidth is used


@dataclass(frozen=True)
class LABSelection:
    """The winning settings, and the results of all candidates.

    Parameters
    ----------
    config : LABConfig
        The given settings with the winner's in place of "auto".
    table : dict of str to ndarray
        One entry per candidate: "rank" (from 1), "kernel", "alpha", "n_support", "bandwidths"
        ("own", "mean" or "equal"), "refit_alpha" (NaN for none), "max_iter" (steps of the last
        stage up to which it was trained), "n_splits", "loss" and "seconds".
    held_out : list of HeldOut
        The winner's predictions of the held-out samples, one per split.

    Examples
    --------
    >>> from sklearn_ext.kernel_regression import LABConfig, LABSelection
    >>> LABSelection(LABConfig(kernel="rbf"), {"kernel": ["rbf"]}, []).config.kernel
    'rbf'
    """

    config: LABConfig
    table: dict[str, Array]
    held_out: list[HeldOut]


def needs_selection(config: LABConfig) -> bool:
    """Return whether kernel, ridge or length of training are left to choose."""
    return "auto" in (config.kernel, config.alpha, config.max_iter)


def without_selection(config: LABConfig) -> LABConfig:
    """Return the settings for too few samples to hold some out."""
    return replace(
        config,
        kernel="laplacian" if config.kernel == "auto" else config.kernel,
        max_iter=FULL_LENGTH if config.max_iter == "auto" else config.max_iter,
        refit_alpha=None if config.refit_alpha == "auto" else config.refit_alpha,
    )


def select_lab(
    X: FloatArray,
    Y: FloatArray,
    config: LABConfig,
    rng: np.random.RandomState,
    *,
    samples: IntArray,
    weights: FloatArray,
    loss: HeldOutLoss,
    make_engine: Callable[[], LABEngine],
    strata: IntArray | None = None,
    refit_alphas: tuple[float, ...] = REFIT_ALPHAS,
    min_gain_of_all: float = 0.03,
    validation_fraction: float = 0.2,
    n_jobs: int | None = None,
) -> LABSelection:
    """Choose what `config` leaves to "auto": kernel, alpha, refit_alpha and max_iter.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Samples.
    Y : ndarray of shape (n_samples, n_outputs)
        Targets.
    config : LABConfig
        Settings; those that are not "auto" stay as they are.
    rng : RandomState
        Random state for held-out samples, support points and batches. It is not advanced, so that
        training with the chosen settings gives the same model with or without a selection.
    samples : ndarray of int, shape (n_train,)
        Indices of distinct rows of (X, Y).
    weights : ndarray of shape (n_train,)
        Their positive weights.
    loss : callable
        Loss of predictions of held-out samples.
    make_engine : callable
        Returns a new engine for each candidate.
    strata : ndarray of int, shape (n_train,), default=None
        Groups of samples of which the same fraction is held out.
    refit_alphas : tuple of floats
        Ridges of the last fit that are compared with omitting it, if both `alpha` and `refit_alpha`
        are "auto".
    min_gain_of_all : float, default=0.03
        Relative fall of the loss above which all samples become support points. A negative value
        makes them support points unless the loss rises by more than its absolute value. The mean
        of the learned bandwidths must lower the loss of equal ones by the absolute value, too.
    validation_fraction : float, default=0.2
        Fraction of the samples that is held out.
    n_jobs : int, default=None
        Number of candidates to train at once, on threads.

    Returns
    -------
    LABSelection
        The table and the list of held-out samples are empty if there are fewer than 40 samples, or
        if nothing can be held out.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.kernel_regression import LABConfig, make_engine, select_lab
    >>> X = np.linspace(0, 3, 200)[:, None]
    >>> Y = np.sin(3 * X)
    >>> def squared_error(values, rows, weights, n_samples):
    ...     return float(np.average((values - Y[rows])[:, 0] ** 2, weights=weights))
    >>> selection = select_lab(
    ...     X,
    ...     Y,
    ...     LABConfig(kernel="auto", n_support=20, max_iter=50),
    ...     np.random.RandomState(0),
    ...     samples=np.arange(200),
    ...     weights=np.ones(200),
    ...     loss=squared_error,
    ...     make_engine=make_engine,
    ... )
    >>> selection.config.kernel, len(selection.table["loss"])
    ('rbf', 12)
    """
    state = rng.get_state()
    rng = np.random.RandomState()
    rng.set_state(state)
    counts = count_samples(X, samples, weights)
    strata = np.zeros(len(samples), dtype=np.intp) if strata is None else strata
    if counts.sum() < FEWEST_SAMPLES:
        return LABSelection(without_selection(config), {}, [])
    splits = []
    for _ in range(2 if counts.sum() < _TWO_SPLITS_BELOW else 1):
        drawn = hold_out(strata, counts, validation_fraction, rng)
        split = Split(X, Y, config, samples, weights, counts, drawn, rng)
        splits.append(split)
    if not all(len(split.rows) for split in splits):
        return LABSelection(without_selection(config), {}, [])

    candidates = _candidates(config, refit_alphas, loss)
    legs = _LEGS if len(splits) == 1 else _LEGS_OF_TWO_SPLITS
    full = FULL_LENGTH if config.max_iter == "auto" else int(config.max_iter)
    legs = tuple(dict.fromkeys(min(leg, full) for leg in legs))
    parallel = Parallel(n_jobs=n_jobs, require="sharedmem")

    def run(racing: list[Candidate], splits: list[Split], length: int) -> list[Candidate]:
        """Train candidates and return them from the best to the worst."""
        parallel(delayed(Candidate.train)(c, splits, length, make_engine) for c in racing)
        return sorted(racing, key=lambda c: c.loss)

    with threadpool_limits(limits=1, user_api="blas"):
        finalists = _race(candidates, splits, legs, run)
        winner = finalists[0]
        ridge_models = []
        if len(samples) <= _MAX_ALL:
            ridge_models = _kernel_ridge_candidates(
                candidates, config, splits[: winner.n_splits], abs(min_gain_of_all)
            )
    ranked = sorted(candidates, key=lambda c: (c not in finalists, -max(c.curve), c.loss))
    if ridge_models and ridge_models[0].loss < _loss_to_beat(winner, full, min_gain_of_all):
        best = ridge_models[0]
        length = _LENGTH_FOR_EQUAL if best.has_equal_bandwidths else _LENGTH_FOR_ALL
        chosen = replace(
            config,
            kernel=best.kernel,
            n_support="all",
            equal_bandwidths=best.has_equal_bandwidths,
            refit_alpha=None,
            max_iter=length if config.max_iter == "auto" else full,
        )
        return LABSelection(chosen, _table([*ridge_models, *ranked]), best.held_out)
    is_short = config.max_iter == "auto" and winner.overfits()
    chosen = replace(
        config,
        kernel=winner.config.kernel,
        # The ridge that suits few support points does not suit all samples.
        alpha=config.alpha if config.n_support == "all" else winner.config.alpha,
        refit_alpha=winner.refit_alpha,
        max_iter=max(winner.curve) if is_short else full,
    )
    return LABSelection(chosen, _table([*ranked, *ridge_models]), winner.held_out())


def _candidates(
    config: LABConfig, refit_alphas: tuple[float, ...], loss: HeldOutLoss
) -> list[Candidate]:
    """Return one candidate per kernel and ridge, each with the ridges of its last fit."""
    ridges: tuple[float | None, ...] = (None,)
    if not isinstance(config.refit_alpha, str):
        ridges = (config.refit_alpha,)
    elif config.alpha == "auto" and config.learn_targets:
        ridges = (None, *refit_alphas)
    pilot = _pilot_config(config)
    return [
        Candidate(replace(pilot, kernel=kernel, alpha=alpha), ridges, loss)
        for alpha in (ALPHAS if config.alpha == "auto" else (config.alpha,))
        for kernel in (KERNELS if config.kernel == "auto" else (config.kernel,))
    ]


def _race(
    candidates: list[Candidate],
    splits: list[Split],
    legs: tuple[int, ...],
    run: Callable[[list[Candidate], list[Split], int], list[Candidate]],
) -> list[Candidate]:
    """Train candidates leg by leg, and return those that are left, the best first."""
    racing = run(candidates, splits[:1], 0)
    if len(splits) == 1:
        for length, n_left in zip(legs, _N_LEFT, strict=False):
            racing = run(racing, splits, length)
            if n_left == _N_FINALISTS and racing[0].overfits():
                break
            racing = sorted(racing, key=Candidate.outlook)[:n_left]
        return sorted(racing, key=lambda c: c.loss)
    racing = run(_semifinalists(racing), splits[:1], legs[0])[:2]
    finalists = run(racing, splits, legs[0])[:1]
    for length in legs[1:]:
        run(finalists, splits, length)
    return finalists


def _pilot_config(config: LABConfig) -> LABConfig:
    """Shorten the first stages, and give the last one its largest possible length."""
    return replace(
        config,
        n_warmup=min(config.n_warmup, _SHORT_WARMUP),
        growth_iter=min(config.growth_iter, _SHORT_GROWTH),
        max_iter=FULL_LENGTH if config.max_iter == "auto" else config.max_iter,
        refit_alpha=None,
    )


def _loss_to_beat(winner: Candidate, length: int, min_gain: float) -> float:
    """Return the loss to beat, which training up to `length` would reach if it kept falling.

    With a negative `min_gain`, which prefers all samples, the loss is not extrapolated.
    """
    lengths = sorted(winner.curve)[-2:]
    if min_gain < 0 or len(lengths) < 2 or lengths[0] == 0:
        return (1.0 - min_gain) * winner.loss
    before, after = (winner.curve[n] for n in lengths)
    if not after < _STILL_FALLS * before:
        return (1.0 - min_gain) * after
    doublings = math.log(length / lengths[1]) / math.log(lengths[1] / lengths[0])
    return (1.0 - _MIN_GAIN_OVER_LONG) * after * (after / before) ** doublings


def _kernel_ridge_candidates(
    candidates: list[Candidate], config: LABConfig, splits: list[Split], min_gain: float
) -> list[KernelRidgeCandidate]:
    """Return kernel ridge regressions, two per kernel and the best first, unless ruled out.

    Those with mean bandwidths come last unless they lower the loss of equal ones by `min_gain`.
    """
    may_choose = config.n_support == config.locality == "auto" and config.learn_targets
    is_free = may_choose and config.refit_alpha in ("auto", None) and config.alpha != "learn"
    if not is_free:
        return []
    alphas = ALL_RIDGES if config.alpha == "auto" else (float(config.alpha),)
    best: dict[str, Candidate] = {}
    for candidate in candidates:
        kernel = candidate.config.kernel
        if kernel not in best or _progress(candidate) < _progress(best[kernel]):
            best[kernel] = candidate
    finite = [c for c in best.values() if np.isfinite(c.loss)]
    ridge_models = [model for c in finite for model in c.kernel_ridge(alphas)]
    for model in ridge_models:
        model.evaluate(splits)
    # Only on the first split are the held-out samples new to the learned bandwidths.
    equal = min((r.first_loss for r in ridge_models if r.has_equal_bandwidths), default=np.inf)
    limit = (1.0 - min_gain) * equal

    def key(model: KernelRidgeCandidate) -> tuple[bool, float]:
        return not (model.has_equal_bandwidths or model.first_loss < limit), model.loss

    return sorted(ridge_models, key=key)


def _progress(candidate: Candidate) -> tuple[int, float]:
    return -max(candidate.curve), candidate.loss


def _semifinalists(ranked: list[Candidate]) -> list[Candidate]:
    """Return the best ridge of each kernel and the next smaller one, which may win later."""
    chosen = []
    for kernel in dict.fromkeys(c.config.kernel for c in ranked):
        ridges = [c for c in ranked if c.config.kernel == kernel]
        best = ridges[0]
        below = [c for c in ridges[1:] if _ridge_of(c) < _ridge_of(best)]
        chosen += [best, *sorted(below, key=_ridge_of)[-1:]]
    return sorted(chosen, key=lambda c: c.loss)[:_N_SEMIFINALISTS]


def _ridge_of(candidate: Candidate) -> float:
    """Return the ridge as a number; a learned one counts as zero."""
    alpha = candidate.config.alpha
    return 0.0 if isinstance(alpha, str) else alpha


def _table(order: list[Candidate | KernelRidgeCandidate]) -> dict[str, Array]:
    """Return the results of the race, by columns."""
    rows = [candidate.row() for candidate in order]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {"rank": np.arange(1, len(order) + 1), **columns}
