"""The choice of kernel, ridges and length of training on held-out samples.

Candidates, which are pairs of a kernel and a ridge, race. All train at a constant learning rate on
the same samples, support points and batches. They are compared on held-out samples by the average
of their latest iterates, which is as good as a model whose learning rate has decayed to zero. After
each leg of the race, the candidates that are behind drop out, and the others train on. The winner
also determines the length of training, and the ridge of the last least-squares fit, which takes
one solve per ridge. On small tables, it then meets kernel ridge regression on all samples, both
with the bandwidths that the race has learned and with equal ones.

The constants were chosen by the error on samples held out from the training samples of eleven
public tables.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from joblib import Parallel, delayed
from scipy.linalg import LinAlgError
from threadpoolctl import threadpool_limits

from ..utils._rows import count_samples, draw_samples
from ..utils._typing import Array, FloatArray, IntArray
from ._lab_config import LABConfig, plan_stages
from ._lab_kernel import KERNELS, dual_coefficients
from ._lab_refit import (
    ALL_RIDGES,
    SharedKernel,
    normal_equations,
    ridge_coefficients,
    shared_kernel_coefficients,
)
from ._lab_steps import TrainingSet
from ._lab_training import count_learned_support, prepare_trainer, schedule
from .engines import EngineArray, LABEngine

ALPHAS = (1e-3, 1e-2, 0.1, 1.0)
REFIT_ALPHAS = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
FULL_LENGTH = 2000  # of the last stage, unless longer training raises the loss
FEWEST_SAMPLES = 40  # a part of fewer would decide nothing
_LEGS = (250, 500, 1000)  # lengths of the last stage at which candidates are compared
_N_SEMIFINALISTS = 4
_TWO_SPLITS_BELOW = 2000  # samples
_MAX_HELD_OUT = 3000
_MAX_REFIT = 3000
_SHORT_WARMUP = 60
_SHORT_GROWTH = 20
_MEMORY = 8  # iterates are averaged with weights that grow with this power of the step
_MIN_REFIT_GAIN = 0.01  # relative fall of the loss for which a last fit is worth it
_MAX_ALL = 2000  # distinct samples up to which all of them may become support points
_MIN_GAIN_OF_ALL = 0.03  # relative fall of the loss for which they do
_STILL_FALLS = 0.975  # ratio of two losses, below which longer training would lower the loss
_MIN_GAIN_OVER_LONG = 0.15  # relative fall below the loss that longer training would reach
_LENGTH_FOR_ALL = 500  # steps of the last stage, which are enough for the mean bandwidths,
_LENGTH_FOR_EQUAL = 100  # and steps if nothing depends on them


class HeldOutLoss(Protocol):
    """The loss of predictions of held-out samples.

    Examples
    --------
    >>> import numpy as np
    >>> Y = np.array([[0.0], [1.0], [2.0]])
    >>> def squared_error(values, rows, weights, n_samples):
    ...     return float(np.average((values - Y[rows])[:, 0] ** 2, weights=weights))
    >>> squared_error(np.array([[1.0], [2.0]]), np.array([1, 2]), np.ones(2), 2.0)
    0.0
    """

    def __call__(
        self, values: FloatArray, rows: IntArray, weights: FloatArray, n_samples: float
    ) -> float:
        """Return the loss of predictions.

        Parameters
        ----------
        values : ndarray of shape (n_rows, n_outputs)
            Predictions in the units of Y.
        rows : ndarray of int, shape (n_rows,)
            Positions of the held-out samples in `samples`.
        weights : ndarray of shape (n_rows,)
            Their weights.
        n_samples : float
            Number of samples that the rows stand for.

        Returns
        -------
        float
            A smaller loss is better.
        """
        ...


@dataclass(frozen=True)
class HeldOut:
    """Samples that were held out from training, and the winner's predictions of them.

    Parameters
    ----------
    rows : ndarray of int, shape (n_rows,)
        Positions in `samples`.
    weights : ndarray of shape (n_rows,)
        Their weights.
    n_samples : float
        Number of samples that the rows stand for.
    values : ndarray of shape (n_rows, n_outputs)
        Predictions in the units of Y.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.kernel_regression import HeldOut
    >>> HeldOut(np.array([3]), np.ones(1), 1.0, np.array([[0.5]])).values.shape
    (1, 1)
    """

    rows: IntArray
    weights: FloatArray
    n_samples: float
    values: FloatArray


@dataclass(frozen=True)
class LABSelection:
    """The settings that won, and how all candidates did.

    Parameters
    ----------
    config : LABConfig
        The given settings with the winner's in place of "auto".
    table : dict of str to ndarray
        One entry per candidate: "kernel", "alpha", "refit_alpha" (NaN for none), "max_iter" (steps
        of the last stage up to which it was trained), "n_splits", "loss", "rank" (from 1) and
        "seconds".
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
        Ridges of the last fit to compare with none, if both `alpha` and `refit_alpha` are "auto".
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
        split = _Split(X, Y, config, samples, weights, counts, drawn, rng)
        splits.append(split)
    if not all(len(split.rows) for split in splits):
        return LABSelection(without_selection(config), {}, [])

    ridges: tuple[float | None, ...] = (None,)
    if not isinstance(config.refit_alpha, str):
        ridges = (config.refit_alpha,)
    elif config.alpha == "auto" and config.learn_targets:
        ridges = (None, *refit_alphas)
    pilot = _pilot_config(config)
    candidates = [
        _Candidate(replace(pilot, kernel=kernel, alpha=alpha), ridges, loss)
        for alpha in (ALPHAS if config.alpha == "auto" else (config.alpha,))
        for kernel in (KERNELS if config.kernel == "auto" else (config.kernel,))
    ]
    legs = _LEGS[: 4 - len(splits)]
    full = FULL_LENGTH if config.max_iter == "auto" else int(config.max_iter)
    legs = tuple(dict.fromkeys(min(leg, full) for leg in legs))
    parallel = Parallel(n_jobs=n_jobs, prefer="threads")

    def run(racing: list[_Candidate], splits: list[_Split], length: int) -> list[_Candidate]:
        """Train candidates and return them from the best to the worst."""
        parallel(delayed(_Candidate.train)(c, splits, length, make_engine) for c in racing)
        return sorted(racing, key=lambda c: c.loss)

    with threadpool_limits(limits=1, user_api="blas"):
        ranked = run(candidates, splits[:1], 0)
        finalists = run(_semifinalists(ranked), splits[:1], legs[0])[:2]
        if len(splits) > 1:
            finalists = run(finalists, splits, legs[0])[:1]
        for length in legs[1:]:
            finalists = run(finalists, splits, length)
            if finalists[0].overfits():
                break
        winner = finalists[0]
        rivals = []
        if len(samples) <= _MAX_ALL:
            rivals = _rivals_on_all_samples(candidates, config, splits[: winner.n_splits])
    ranked = sorted(candidates, key=lambda c: (c not in finalists, -max(c.curve), c.loss))
    if rivals and rivals[0].loss < winner.loss_to_beat(full):
        best = rivals[0]
        length = _LENGTH_FOR_EQUAL if best.has_equal_bandwidths else _LENGTH_FOR_ALL
        chosen = replace(
            config,
            kernel=best.kernel,
            n_support="all",
            equal_bandwidths=best.has_equal_bandwidths,
            refit_alpha=None,
            max_iter=length if config.max_iter == "auto" else full,
        )
        return LABSelection(chosen, _table([*rivals, *ranked]), best.held_out)
    is_short = config.max_iter == "auto" and winner.overfits()
    chosen = replace(
        config,
        kernel=winner.config.kernel,
        alpha=winner.config.alpha,
        refit_alpha=winner.refit_alpha,
        max_iter=max(winner.curve) if is_short else full,
    )
    return LABSelection(chosen, _table([*ranked, *rivals]), winner.held_out())


def hold_out(
    strata: IntArray, counts: FloatArray, fraction: float, rng: np.random.RandomState
) -> FloatArray:
    """Return how many samples of each distinct row are held out, from strata of three or more."""
    held_out = np.zeros(len(strata))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        n_samples = int(counts[members].sum())
        if fraction > 0.0 and n_samples >= 3:
            n_drawn = min(max(1, round(fraction * n_samples)), n_samples - 1)
            held_out[members] = draw_samples(counts[members], n_drawn, rng)
    return held_out


def _pilot_config(config: LABConfig) -> LABConfig:
    """Shorten the first stages; the last one is as long as it may become."""
    return replace(
        config,
        n_warmup=min(config.n_warmup, _SHORT_WARMUP),
        growth_iter=min(config.growth_iter, _SHORT_GROWTH),
        max_iter=FULL_LENGTH if config.max_iter == "auto" else config.max_iter,
        refit_alpha=None,
    )


class _Split:
    """Training samples and held-out samples."""

    def __init__(
        self,
        X: FloatArray,
        Y: FloatArray,
        config: LABConfig,
        samples: IntArray,
        weights: FloatArray,
        counts: FloatArray,
        drawn: FloatArray,
        rng: np.random.RandomState,
    ) -> None:
        trained = drawn < counts
        rest = (weights * (counts - drawn) / counts)[trained]
        self.data = TrainingSet(X, Y, samples[trained], rest, config)
        rows = rng.permutation(np.flatnonzero(drawn))[:_MAX_HELD_OUT]
        self.rows = rows
        self.weights = weights[rows] * drawn[rows] / counts[rows]
        self.n_samples = float(drawn[rows].sum())
        self.points = self.data.standardize(X[samples[rows]])
        self.refit_rows = rng.permutation(len(self.data))[:_MAX_REFIT]
        self.seed = rng.randint(2**31 - 1)


class _Candidate:
    """A kernel and a ridge in the race."""

    def __init__(
        self, config: LABConfig, refit_alphas: tuple[float | None, ...], loss: HeldOutLoss
    ) -> None:
        self.config = config
        self.seconds = 0.0
        self.loss = np.inf
        self.refit_alpha = refit_alphas[0]
        self.curve: dict[int, float] = {}  # loss by length of the last stage
        self._refit_alphas = refit_alphas
        self._loss = loss
        self._pilots: list[_Pilot] = []

    @property
    def n_splits(self) -> int:
        """Number of splits of the samples."""
        return len(self._pilots)

    def train(
        self, splits: list[_Split], length: int, make_engine: Callable[[], LABEngine]
    ) -> None:
        """Train up to some length of the last stage, and update the loss."""
        start = perf_counter()
        losses = np.full(len(self._refit_alphas), np.inf)
        try:
            for split in splits[len(self._pilots) :]:
                self._pilots.append(_Pilot(split, self.config, make_engine()))
            for pilot in self._pilots:
                pilot.advance(length)
            losses = np.mean([self._losses(pilot) for pilot in self._pilots], axis=0)
        except (FloatingPointError, LinAlgError):
            pass  # a candidate that diverges loses
        best = int(np.argmin(losses))
        if losses[0] * (1.0 - _MIN_REFIT_GAIN) <= losses[best]:
            best = 0
        self.loss = self.curve[length] = float(losses[best])
        self.refit_alpha = self._refit_alphas[best]
        self.seconds += perf_counter() - start

    def _losses(self, pilot: "_Pilot") -> list[float]:
        split = pilot.split
        return [
            self._loss(values, split.rows, split.weights, split.n_samples)
            for values in pilot.predictions(self._refit_alphas)
        ]

    def overfits(self) -> bool:
        """Return whether the last extension of training raised the loss."""
        before, after = ([np.inf] * 2 + list(self.curve.values()))[-2:]
        return after > before

    def loss_to_beat(self, length: int) -> float:
        """Return the loss to beat: what a longer training reaches if it falls as it did."""
        lengths = sorted(self.curve)[-2:]
        if len(lengths) < 2 or lengths[0] == 0:
            return (1.0 - _MIN_GAIN_OF_ALL) * self.loss
        before, after = (self.curve[n] for n in lengths)
        if not after < _STILL_FALLS * before:
            return (1.0 - _MIN_GAIN_OF_ALL) * after
        doublings = math.log(length / lengths[1]) / math.log(lengths[1] / lengths[0])
        return (1.0 - _MIN_GAIN_OVER_LONG) * after * (after / before) ** doublings

    def rivals(self, alphas: tuple[float, ...]) -> "list[_AllSamples]":
        """Return the models on all samples: with bandwidths of the first split, and equal ones."""
        pilot, kernel = self._pilots[0], self.config.kernel
        return [
            _AllSamples(pilot, kernel, alphas, self._loss, has_equal_bandwidths=equal)
            for equal in (False, True)
        ]

    def row(self) -> dict[str, Any]:
        """Return the entries of the table."""
        return {
            "kernel": self.config.kernel,
            "alpha": self.config.alpha,
            "n_support": self._pilots[0].n_support,
            "bandwidths": "own",
            "refit_alpha": np.nan if self.refit_alpha is None else self.refit_alpha,
            "max_iter": max(self.curve),
            "n_splits": self.n_splits,
            "loss": self.loss,
            "seconds": self.seconds,
        }

    def held_out(self) -> list[HeldOut]:
        """Return the predictions of held-out samples."""
        return [
            HeldOut(
                pilot.split.rows,
                pilot.split.weights,
                pilot.split.n_samples,
                pilot.predictions((self.refit_alpha,))[0],
            )
            for pilot in self._pilots
        ]


class _Pilot:
    """A candidate in training on one split, and the average of its latest iterates."""

    def __init__(self, split: _Split, config: LABConfig, engine: LABEngine) -> None:
        self.split = split
        self._trainer = prepare_trainer(
            engine, split.data, config, np.random.RandomState(split.seed), None
        )
        self._steps = schedule(
            self._trainer, plan_stages(config, count_learned_support(config, split.data))
        )
        self._next = next(self._steps, None)
        self._n_averaged = 0
        self._theta: EngineArray = None
        self._targets: EngineArray = None

    def advance(self, length: int) -> None:
        """Train until the last stage has some length, and average its iterates."""
        trainer = self._trainer
        while self._next is not None:
            stage, _ = self._next
            if stage.decay and self._n_averaged >= length:
                break
            trainer.step(1.0, shared=stage.shared)
            if stage.decay:
                self._average()
            self._next = next(self._steps, None)

    def _average(self) -> None:
        trainer = self._trainer
        self._n_averaged += 1
        weight = (_MEMORY + 1.0) / (self._n_averaged + _MEMORY)
        if self._n_averaged == 1:
            self._theta, self._targets = trainer.theta + 0.0, trainer.targets + 0.0
        self._theta += weight * (trainer.theta - self._theta)
        self._targets += weight * (trainer.targets - self._targets)

    @property
    def engine(self) -> LABEngine:
        """Engine of the trainer."""
        return self._trainer.engine

    def _averages(self) -> tuple[EngineArray, EngineArray]:
        """Return theta and targets."""
        if self._n_averaged:
            return self._theta, self._targets
        return self._trainer.theta, self._trainer.targets

    @property
    def n_support(self) -> int:
        """Number of support points."""
        return len(self._trainer.support)

    def shared_kernel(self, alphas: tuple[float, ...], *, equal_bandwidths: bool) -> SharedKernel:
        """Return a kernel for all samples, with the mean or the initial bandwidths."""
        theta = self._averages()[0].mean(0)[None, :]
        if equal_bandwidths:
            theta = self._trainer.first_theta
        return self._trainer.shared_kernel(theta, alphas)

    def predictions(self, refit_alphas: tuple[float | None, ...]) -> list[FloatArray]:
        """Return predictions of the held-out samples, for each ridge of the last fit."""
        trainer, data, engine = self._trainer, self.split.data, self.engine
        kernel, centers = trainer.config.kernel, trainer.centers
        theta, targets = self._averages()
        coefs = []
        if None in refit_alphas:
            coef = dual_coefficients(engine, kernel, centers, theta, targets, trainer.alpha)
            coefs.append(engine.to_numpy(coef))
        ridges = [ridge for ridge in refit_alphas if ridge is not None]
        if ridges:
            chunks = data.chunks(self.split.refit_rows)
            equations = normal_equations(engine, kernel, chunks, centers, theta, data.Y.shape[1])
            coefs += [ridge_coefficients(*equations, ridge) for ridge in ridges]
        K, _ = engine.kernel(kernel, engine.asarray(self.split.points), centers, theta)
        values = engine.to_numpy(K @ engine.asarray(np.hstack(coefs)))
        blocks = np.split(values, len(coefs), axis=1)
        return [block * data.y_scale + data.y_mean for block in blocks]


class _AllSamples:
    """Kernel ridge regression on all samples, with equal bandwidths or those of a pilot."""

    def __init__(
        self,
        pilot: _Pilot,
        kernel: str,
        alphas: tuple[float, ...],
        loss: HeldOutLoss,
        *,
        has_equal_bandwidths: bool,
    ) -> None:
        start = perf_counter()
        self.kernel = kernel
        self.has_equal_bandwidths = has_equal_bandwidths
        self.loss = self.first_loss = np.inf
        self.held_out: list[HeldOut] = []
        self._loss = loss
        self._engine = pilot.engine
        self.split = pilot.split
        self.shared: SharedKernel = pilot.shared_kernel(
            alphas, equal_bandwidths=has_equal_bandwidths
        )
        self.seconds = perf_counter() - start

    def evaluate(self, splits: list[_Split]) -> None:
        """Predict the held-out samples of each split, and average the losses."""
        start = perf_counter()
        losses = []
        for split in splits:
            values = self._predictions(split)
            losses.append(self._loss(values, split.rows, split.weights, split.n_samples))
            self.held_out.append(HeldOut(split.rows, split.weights, split.n_samples, values))
        self.first_loss, self.loss = losses[0], float(np.mean(losses))
        self.seconds += perf_counter() - start

    def row(self) -> dict[str, Any]:
        """Return the entries of the table."""
        return {
            "kernel": self.kernel,
            "alpha": self.shared.alpha,
            "n_support": len(self.split.data),
            "bandwidths": "equal" if self.has_equal_bandwidths else "mean",
            "refit_alpha": np.nan,
            "max_iter": 0,
            "n_splits": len(self.held_out),
            "loss": self.loss,
            "seconds": self.seconds,
        }

    def _predictions(self, split: _Split) -> FloatArray:
        data, engine, kernel = split.data, self._engine, self.kernel
        points = data.features(slice(None))
        coef = shared_kernel_coefficients(engine, kernel, points, data.Y, data.weights, self.shared)
        theta = engine.repeat_row(self.shared.theta, len(data))
        K, _ = engine.kernel(kernel, engine.asarray(split.points), engine.asarray(points), theta)
        return engine.to_numpy(K @ engine.asarray(coef)) * data.y_scale + data.y_mean


def _rivals_on_all_samples(
    candidates: list[_Candidate], config: LABConfig, splits: list[_Split]
) -> list[_AllSamples]:
    """Return the models on all samples, two per kernel and the best first, unless ruled out."""
    may_choose = config.n_support == config.locality == "auto" and config.learn_targets
    is_free = may_choose and config.refit_alpha in ("auto", None) and config.alpha != "learn"
    if not is_free:
        return []
    alphas = ALL_RIDGES if config.alpha == "auto" else (float(config.alpha),)
    best: dict[str, _Candidate] = {}
    for candidate in candidates:
        kernel = candidate.config.kernel
        if kernel not in best or _progress(candidate) < _progress(best[kernel]):
            best[kernel] = candidate
    finite = [c for c in best.values() if np.isfinite(c.loss)]
    rivals = [rival for c in finite for rival in c.rivals(alphas)]
    for rival in rivals:
        rival.evaluate(splits)
    # Only on the first split are the held-out samples new to the learned bandwidths.
    equal = min((r.first_loss for r in rivals if r.has_equal_bandwidths), default=np.inf)
    limit = (1.0 - _MIN_GAIN_OF_ALL) * equal

    def key(rival: _AllSamples) -> tuple[bool, float]:
        return not (rival.has_equal_bandwidths or rival.first_loss < limit), rival.loss

    return sorted(rivals, key=key)


def _progress(candidate: _Candidate) -> tuple[int, float]:
    return -max(candidate.curve), candidate.loss


def _semifinalists(ranked: list[_Candidate]) -> list[_Candidate]:
    """Return the best ridge of each kernel, and the one below, which wins after longer training."""
    chosen = []
    for kernel in dict.fromkeys(c.config.kernel for c in ranked):
        ridges = [c for c in ranked if c.config.kernel == kernel]
        best = ridges[0]
        below = [c for c in ridges[1:] if _number(c) < _number(best)]
        chosen += [best, *sorted(below, key=_number)[-1:]]
    return sorted(chosen, key=lambda c: c.loss)[:_N_SEMIFINALISTS]


def _number(candidate: _Candidate) -> float:
    alpha = candidate.config.alpha
    return 0.0 if isinstance(alpha, str) else alpha


def _table(order: "list[_Candidate | _AllSamples]") -> dict[str, Array]:
    """Return the results of the race, by columns."""
    rows = [candidate.row() for candidate in order]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {"rank": np.arange(1, len(order) + 1), **columns}
