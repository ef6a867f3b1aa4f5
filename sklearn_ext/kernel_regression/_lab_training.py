"""The algorithm of LAB: learning bandwidths, targets and, on request, the ridge with Adam.

Training has three phases: a warm-up on one row of bandwidths shared by all centers, stages that add
centers, and a long last stage in which the learning rate decays along a cosine to one percent.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError
from threadpoolctl import threadpool_limits

from ..utils._typing import FloatArray, IntArray
from ._lab_config import LABConfig, LABExpansion, Stage, plan_stages
from ._lab_data import TrainingSet
from ._lab_defaults import (
    alpha_subsample,
    auto_alpha,
    auto_batch_size,
    auto_locality,
    auto_support_dropout,
    median_theta,
    resolve_n_support,
)
from ._lab_steps import MANY, N_LEARNED, LABTrainer
from .engines import LABEngine, make_engine

_FIRST_LEARNED_ALPHA = 1e-3
_N_PAIRS = 500  # pairs of samples used for the median exponent


def train_lab(
    X: FloatArray,
    Y: FloatArray,
    config: LABConfig,
    rng: np.random.RandomState,
    *,
    samples: IntArray | None = None,
    weights: FloatArray | None = None,
    engine: LABEngine | None = None,
    start: LABExpansion | None = None,
    after_iteration: Callable[[LABTrainer, list[float]], bool] | None = None,
) -> LABExpansion:
    """Train a LAB kernel machine on arrays.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Samples. They are never copied as a whole.
    Y : ndarray of shape (n_samples, n_outputs)
        Targets.
    config : LABConfig
        Settings of the model and its training.
    rng : RandomState
        Random state for choosing support points and batches.
    samples : ndarray of int, shape (n_train,), default=None
        Indices of the samples to train on; None uses all.
    weights : ndarray of shape (n_train,), default=None
        Positive weights of these samples in the outer loss; None weights them equally.
    engine : LABEngine, default=None
        Engine that does the computations; None means numba.
    start : LABExpansion, default=None
        Model to continue from, with `config.max_iter` steps. Support points are added if
        `config.n_support` is larger than its number of support points.
    after_iteration : callable, default=None
        Called after each step with the trainer, whose ``expansion(losses)`` is the current model,
        and the losses so far. Training stops when it returns True.

    Returns
    -------
    LABExpansion
        The trained model.

    Raises
    ------
    ValueError
        If training diverges, if the linear system is singular, or if `start` has a different number
        of features or outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.kernel_regression import LABConfig, train_lab
    >>> X = np.linspace(0, 3, 200)[:, None]
    >>> config = LABConfig(n_support=20, n_warmup=20, growth_iter=5, max_iter=50)
    >>> model = train_lab(X, np.sin(X), config, np.random.RandomState(0))
    >>> model.bandwidths.shape, model.dual_coef.shape
    ((20, 1), (20, 1))
    """
    engine = make_engine() if engine is None else engine
    samples = np.arange(len(X)) if samples is None else samples
    weights = np.ones(len(samples)) if weights is None else weights
    data = TrainingSet(X, Y, samples, weights, config)
    losses: list[float] = []
    # Factorizing a few hundred rows thousands of times is fastest on one BLAS thread, and
    # reproducible; other threads are better used for parallel fits.
    with threadpool_limits(limits=1, user_api="blas"):
        trainer = prepare_trainer(engine, data, config, rng, start)
        n_support, n_learned = count_support(config, data), count_learned_support(config, data)
        stages = plan_stages(config, n_learned, warm_start=start is not None)
        try:
            for stage, rate in schedule(trainer, stages):
                losses.append(trainer.step(rate, shared=stage.shared))
                if after_iteration is not None and after_iteration(trainer, losses):
                    break
            if config.n_support == "all":
                trainer.add_all()
            elif n_learned < n_support:
                trainer.add_many(n_support)
            elif not trainer.add_many_if_they_pay():
                trainer.refit()
            return trainer.expansion(losses)
        except FloatingPointError as error:
            raise ValueError(
                f"Training diverged at iteration {len(losses)}: {error}. Lower learning_rate "
                f"(got {config.learning_rate!r}) or raise alpha (got {config.alpha!r})."
            ) from error
        except LinAlgError as error:
            raise ValueError(
                f"At iteration {len(losses)}, {error}. Raise alpha (got {config.alpha!r})."
            ) from error


def count_support(config: LABConfig, data: TrainingSet) -> int:
    """Return the number of support points for a training set, before "auto" may add many."""
    return min(resolve_n_support(config.n_support, data.n_samples), len(data))


def count_learned_support(config: LABConfig, data: TrainingSet) -> int:
    """Return the number of support points with bandwidths of their own."""
    if config.n_support == "all":
        return min(resolve_n_support("auto", data.n_samples), len(data))
    n_support = count_support(config, data)
    return N_LEARNED if config.learn_targets and n_support > MANY else n_support


def schedule(trainer: LABTrainer, stages: list[Stage]) -> Iterator[tuple[Stage, float]]:
    """Yield the stage and the rate of each step; add centers when a stage begins."""
    for stage in stages:
        trainer.grow(stage.n_support)
        for t in range(stage.n_iter):
            yield stage, stage.rate(t)


def prepare_trainer(
    engine: LABEngine,
    data: TrainingSet,
    config: LABConfig,
    rng: np.random.RandomState,
    start: LABExpansion | None,
) -> LABTrainer:
    """Return a trainer with numbers in place of "auto" parameters."""
    n_samples, n_features = data.n_samples, data.X.shape[1]
    if isinstance(config.gamma, str):
        pairs = data.features(rng.randint(len(data), size=2 * _N_PAIRS))
        theta = median_theta(pairs, config.kernel)
    else:
        theta = math.sqrt(config.gamma)
    if config.alpha == "auto":
        drawn = alpha_subsample(len(data), rng)
        points, Y, weights = data.features(drawn), data.Y[drawn], data.weights[drawn]
        alpha = auto_alpha(engine, config.kernel, points, Y, weights, theta, len(data))
    elif config.alpha == "learn":
        alpha = _FIRST_LEARNED_ALPHA if start is None else start.alpha
    else:
        alpha = float(config.alpha)
    changes: dict[str, Any] = {}
    if isinstance(config.locality, str):
        changes["locality"] = auto_locality(alpha)
    if isinstance(config.batch_size, str):
        changes["batch_size"] = auto_batch_size(n_samples)
    if isinstance(config.support_dropout, str):
        n_support = count_learned_support(config, data)
        changes["support_dropout"] = auto_support_dropout(n_support, n_features, n_samples)
    trainer = LABTrainer(
        engine,
        data,
        replace(config, **changes),
        theta=np.full((1, n_features), theta),
        alpha=alpha,
        rng=rng,
    )
    if start is not None:
        trainer.resume(start)
    return trainer
