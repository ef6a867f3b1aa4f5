"""The candidates of LAB's selection, and the held-out samples on which they are compared.

A :class:`Candidate` is a pair of a kernel and a ridge. For each split of the samples, it trains a
:class:`Pilot`, which predicts the held-out samples with the average of its latest iterates; this
average is as good as a model whose learning rate has decayed to zero. A
:class:`KernelRidgeCandidate` is kernel ridge regression on all samples with the bandwidths of a
pilot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from scipy.linalg import LinAlgError

from ...utils._rows import draw_samples
from ...utils._typing import FloatArray, IntArray
from .._lab_config import LABConfig, plan_stages
from .._lab_data import TrainingSet
from .._lab_kernel import dual_coefficients
from .._lab_refit import (
    SharedKernel,
    normal_equations,
    ridge_coefficients,
    shared_kernel_coefficients,
)
from .._lab_training import count_learned_support, prepare_trainer, schedule
from ..engines import EngineArray, LABEngine

_MAX_HELD_OUT = 3000
_MAX_REFIT = 3000
_MEMORY = 8  # iterates are averaged with weights that grow with this power of the step
_MIN_REFIT_GAIN = 0.01  # relative fall of the loss for which a last fit is worth it


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
            Number of samples that the rows represent.

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
        Number of samples that the rows represent.
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


class Split:
    """A division of the samples into training samples and held-out samples.

    Parameters
    ----------
    X, Y, config, samples, weights
        As in :func:`select_lab`.
    counts, drawn : ndarrays of shape (n_train,)
        Number of samples that each distinct row represents, and how many of them are held out.
    rng : RandomState

    Attributes
    ----------
    rows : ndarray of int, shape (n_rows,)
        Positions of the held-out samples in `samples`.
    weights : ndarray of shape (n_rows,)
        Their weights.
    n_samples : float
        Number of samples that the rows represent.
    points : ndarray of shape (n_rows, n_features)
        Their standardized features.
    refit_rows : ndarray of int
        Training samples for the least-squares fits.
    seed : int
        Seed of the pilots, so that all have the same batches and support points.
    """

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


class Candidate:
    """A kernel and a ridge, trained on one or more splits."""

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
        self._pilots: list[Pilot] = []

    @property
    def n_splits(self) -> int:
        """Number of splits of the samples."""
        return len(self._pilots)

    def train(self, splits: list[Split], length: int, make_engine: Callable[[], LABEngine]) -> None:
        """Train up to the given length of the last stage, and update the loss."""
        start = perf_counter()
        losses = np.full(len(self._refit_alphas), np.inf)
        try:
            for split in splits[len(self._pilots) :]:
                self._pilots.append(Pilot(split, self.config, make_engine()))
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

    def _losses(self, pilot: "Pilot") -> list[float]:
        split = pilot.split
        return [
            self._loss(values, split.rows, split.weights, split.n_samples)
            for values in pilot.predictions(self._refit_alphas)
        ]

    def overfits(self) -> bool:
        """Return whether the last extension of training raised the loss."""
        before, after = ([np.inf] * 2 + list(self.curve.values()))[-2:]
        return after > before

    def outlook(self) -> float:
        """Return the loss after another leg that lowers it by the same factor as the last one.

        Large ridges and smooth kernels learn fast at first and are overtaken later.
        """
        before, after = list(self.curve.values())[-2:]
        return after**2 / before if 0.0 < after < before < np.inf else after

    def kernel_ridge(self, alphas: tuple[float, ...]) -> "list[KernelRidgeCandidate]":
        """Return kernel ridge regressions with the bandwidths of the first pilot and equal ones."""
        pilot, kernel = self._pilots[0], self.config.kernel
        return [
            KernelRidgeCandidate(pilot, kernel, alphas, self._loss, has_equal_bandwidths=equal)
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


class Pilot:
    """A candidate in training on one split, and the average of its latest iterates."""

    def __init__(self, split: Split, config: LABConfig, engine: LABEngine) -> None:
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
        """Train until the last stage has the given length, and average its iterates."""
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


class KernelRidgeCandidate:
    """Kernel ridge regression on all samples, with equal bandwidths or those of a pilot."""

    def __init__(
        self,
        pilot: Pilot,
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

    def evaluate(self, splits: list[Split]) -> None:
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

    def _predictions(self, split: Split) -> FloatArray:
        data, engine, kernel = split.data, self._engine, self.kernel
        points = data.features(slice(None))
        coef = shared_kernel_coefficients(engine, kernel, points, data.Y, data.weights, self.shared)
        theta = engine.repeat_row(self.shared.theta, len(data))
        K, _ = engine.kernel(kernel, engine.asarray(split.points), engine.asarray(points), theta)
        return engine.to_numpy(K @ engine.asarray(coef)) * data.y_scale + data.y_mean
