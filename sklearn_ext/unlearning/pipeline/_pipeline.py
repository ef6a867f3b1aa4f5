"""A pipeline from which samples can be deleted as from a database."""

import copy
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import _fit_context, clone, is_classifier, is_regressor
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import _name_estimators
from sklearn.utils import Bunch, _safe_indexing, get_tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import _BaseComposition, available_if
from sklearn.utils.validation import check_is_fitted

from ...utils._atomic import atomic_fit, working_copy
from ...utils._random import draw_seed
from ...utils._typing import Array, BoolArray, FloatArray, IntArray, RandomState
from ...utils.compat import CallbackSupportMixin, FitTasks, with_callbacks
from ..exact import RandomFeatureRegressor
from ._certificate import DeletionCertificate, not_claimed
from ._input import (
    as_ids,
    check_pinned,
    check_steps,
    checked_ids,
    checked_table,
    checked_targets,
    declared_pinned,
    drawn_pinned,
)
from ._intervals import jackknife_plus, leave_one_out
from ._model import (
    PipelineConfig,
    PipelineModel,
    Steps,
    fit_pipeline,
    forget_positions,
    learn_samples,
    overwrite_replaced,
    relearn,
)
from ._samples import StoredSamples
from ._steps import transformed
from .preprocessing import ForgettingScaler
from .storage import (
    RequestFolder,
    Tensors,
    decoded_model,
    decoded_request,
    encoded_model,
    encoded_request,
    hash_of_head,
    hash_of_steps,
)

_AUDIT_OUTPUTS = 1000
_FROM_INPUT = ("n_features_in_", "feature_names_in_")


def _head_has(method: str) -> Any:
    def check(self: "ForgettingPipeline") -> bool:
        return hasattr(self._given_steps()[-1][1], method)

    return check


def _is_regression(self: "ForgettingPipeline") -> bool:
    return is_regressor(self._given_steps()[-1][1])


class ForgettingPipeline(CallbackSupportMixin, _BaseComposition):
    r"""A pipeline from which samples can be deleted as from a database.

    After :meth:`forget`, preprocessing, features and model equal those of a pipeline that was never
    given the samples, to 1e-9 of the size of its predictions. A saved pipeline is durable: a
    request is on disk when it returns.

    A step before the last one is one of three kinds:

    - *forgetting*: :class:`ForgettingScaler`, :class:`ForgettingImputer`,
      :class:`ForgettingOneHotEncoder`, or a ColumnTransformer of these;
    - *fixed*: independent of the samples, like a step without a fit (hashing, normalization),
      ``PolynomialFeatures``, or a ``FrozenEstimator`` such as a pretrained network;
    - *learned*: any other transformer, such as :class:`LABRidgelessRegressor` or
      :class:`LearnedKernelFeatures`. It is fitted to *pinned* samples only, which may not be
      deleted, and so are all steps before it.

    The last step is a :class:`RandomFeatureRegressor` or a :class:`RandomFeatureClassifier`.

    Parameters
    ----------
    steps : list of (str, estimator) or None, default=None
        Names and steps, as in :class:`~sklearn.pipeline.Pipeline`. None means a ForgettingScaler
        and a RandomFeatureRegressor.
    pin : {"features", "preprocessing"}, default="features"
        Steps that are fitted to the pinned samples and then frozen. "features" means the learned
        steps and those before them, "preprocessing" all steps but the last one. With
        "preprocessing", a request is cheap, because forgetting steps do not change.
    pinned_fraction : float in (0, 1) or None, default=None
        Fraction of the samples to pin if none are declared in `fit`. They are drawn at random, in
        proportion from each class, and reported in ``pinned_``.
    on_pinned : {"raise", "relearn"}, default="raise"
        Whether a request that names a pinned sample is refused, or fits everything again without
        the sample, which costs as much as a fit.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing pinned samples, and for the steps that have none.

    Attributes
    ----------
    steps_ : list of (str, estimator)
        The fitted steps.
    sample_id_ : ndarray of shape (n_retained_,)
        Ids of the samples in the model.
    pinned_ : ndarray
        Ids of the pinned samples.
    n_retained_ : int
        Number of samples in the model.
    requests_ : list of dict
        One record per request, with ids, time, hashes of the model, and the work that was done.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    make_forgetting_pipeline : Builds a pipeline without names of steps.
    RandomFeatureRegressor : The last step alone.

    Notes
    -----
    With pinned preprocessing, a request for m samples takes :math:`O(p^2 m)` operations for p
    features (see :class:`RandomFeatureRegressor`). Otherwise the mean of a scaler changes, which
    changes the features of all n samples, and the last step is fitted again.

    A sample of weight k counts like k copies in the last step, in a ForgettingScaler and in a
    ForgettingImputer. Samples of weight zero are not stored.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.
    .. [2] R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani, "Predictive inference with the
       jackknife+", Annals of Statistics 49(1), 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_ext import (
    ...     ForgettingScaler, RandomFeatureRegressor, make_forgetting_pipeline)
    >>> X, y = load_diabetes(return_X_y=True)
    >>> names = [f"patient {k}" for k in range(len(y))]
    >>> pipeline = make_forgetting_pipeline(
    ...     ForgettingScaler(), RandomFeatureRegressor(alpha=10.0, random_state=0))
    >>> pipeline.fit(X, y, sample_id=names).forget(["patient 3", "patient 8"]).n_retained_
    440
    >>> retrained = pipeline.refitted()
    >>> bool(abs(pipeline.predict(X) - retrained.predict(X)).max() < 1e-9 * y.max())
    True
    >>> lower, upper = pipeline.predict_interval(X, alpha=0.2)
    >>> bool(0.75 < np.mean((lower <= y) & (y <= upper)))
    True
    """

    _parameter_constraints: dict[str, Any] = {
        "steps": [list, tuple, None],
        "pin": [StrOptions({"features", "preprocessing"})],
        "pinned_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "on_pinned": [StrOptions({"raise", "relearn"})],
        "random_state": ["random_state"],
    }

    _folder: RequestFolder  # while the pipeline is connected
    _config: PipelineConfig
    _model: PipelineModel
    _constant_hash: str | None  # of the steps that requests do not change, once it is known

    def __init__(
        self,
        steps: Sequence[tuple[str, Any]] | None = None,
        *,
        pin: Literal["features", "preprocessing"] = "features",
        pinned_fraction: float | None = None,
        on_pinned: Literal["raise", "relearn"] = "raise",
        random_state: RandomState = None,
    ) -> None:
        self.steps = steps
        self.pin = pin
        self.pinned_fraction = pinned_fraction
        self.on_pinned = on_pinned
        self.random_state = random_state

    # ---------------------------------------------------------------- parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the pipeline and of its steps.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the parameters of the steps.

        Returns
        -------
        dict of str to object
        """
        return self._get_params("steps", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the pipeline or of its steps (``name__parameter``).

        Parameters
        ----------
        **params : dict
            Parameters.

        Returns
        -------
        self : ForgettingPipeline
            The pipeline.
        """
        self._set_params("steps", **params)
        return self

    @property
    def named_steps(self) -> Bunch:
        """The fitted steps by name, or the given ones before `fit`."""
        fitted = self.__sklearn_is_fitted__()
        return Bunch(**dict(self.steps_ if fitted else self._given_steps()))

    @property
    def steps_(self) -> Steps:
        """The fitted steps."""
        return self._model.steps

    @property
    def classes_(self) -> Array:
        """Classes of the samples in the model; only for a classifier."""
        return self.steps_[-1][1].classes_

    # ---------------------------------------------------------------- fit and change

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_id: ArrayLike | None = None,
        pinned: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit all steps.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets, or class labels for a classifier.
        sample_id : array-like of int or str of shape (n_samples,), default=None
            Unique ids by which samples are deleted. None numbers them from zero.
        pinned : array-like of shape (n_pinned,) or array-like of bool, default=None
            Ids of the samples that may not be deleted, or a mask over all samples. Needed by
            learned steps and by ``pin="preprocessing"``; see `pinned_fraction`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self : ForgettingPipeline
            The fitted pipeline.

        Raises
        ------
        ValueError
            If the input has the wrong shape or values, if ids are not unique, if a step cannot
            forget and no samples are pinned, or if the last step is not a random-feature model.
        """
        if hasattr(self, "_folder"):
            raise ValueError(
                "The pipeline is connected to a folder. Call close() before fitting it again."
            )
        steps = self._given_steps()
        check_steps(steps)
        self._validate_names([name for name, _ in steps])
        X, targets, weights = self._validated(X, y, sample_weight, reset=True)
        ids = checked_ids(sample_id, len(targets), int)
        kept = np.flatnonzero(weights > 0)
        samples = StoredSamples(
            _safe_indexing(X, kept),
            targets[kept],
            weights[kept],
            ids[kept],
            np.zeros(len(kept), bool),
        )
        samples.pinned = self._pinned_mask(samples, pinned, ids, weights)
        config = PipelineConfig(
            steps=[(name, step if _is_no_step(step) else clone(step)) for name, step in steps],
            pin=self.pin,
            on_pinned=self.on_pinned,
            seed=draw_seed(self.random_state),
        )
        tasks = FitTasks(self, len(steps), X, targets, sample_weight)
        self._model = fit_pipeline(samples, config, after_step=partial(tasks, "step"))
        self._config, self._constant_hash = config, None
        self.requests_: list[dict[str, Any]] = []
        tasks.end()
        return self

    def forget(self, ids_or_mask: ArrayLike) -> Self:
        """Delete samples: become the pipeline that was never given them.

        Parameters
        ----------
        ids_or_mask : array-like of int or str, or array-like of bool of shape (n_retained_,)
            Ids of the samples to delete, or a mask in the order of ``sample_id_``. One request for
            many samples is cheaper than many requests. An empty request changes nothing.

        Returns
        -------
        self : ForgettingPipeline
            The pipeline without the samples. If it was saved, the request is on disk.

        Raises
        ------
        NotFittedError
            If the pipeline is unfitted.
        ValueError
            If an id is unknown or given twice, if a sample is pinned and ``on_pinned="raise"``, or
            if no sample would be left. The pipeline then stays unchanged.
        TypeError
            If `ids_or_mask` is not an array-like, for example a set.
        OSError
            If the request cannot be written. It is then made in memory only, and the pipeline is no
            longer connected to its folder.

        Notes
        -----
        If an exception interrupts the request, it has happened completely or not at all.
        """
        check_is_fitted(self)
        positions = self._model.samples.positions(ids_or_mask)
        if len(positions):
            start = time.perf_counter()
            ids = self._model.samples.ids[positions].tolist()
            model, work = self._without(positions)
            self._commit("forget", ids, model, work, time.perf_counter() - start)
        return self

    def learn(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_id: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Add samples, as if they had been given to `fit`; they are not pinned.

        Parameters
        ----------
        X : array-like or data frame of shape (n_new, n_features)
            New samples.
        y : array-like of shape (n_new,) or (n_new, n_outputs)
            Targets of the new samples.
        sample_id : array-like of int or str of shape (n_new,), default=None
            Ids of the new samples. None continues numbering from the largest id.
        sample_weight : array-like of shape (n_new,), default=None
            Weights of the new samples.

        Returns
        -------
        self : ForgettingPipeline
            The pipeline with the new samples.

        Raises
        ------
        NotFittedError
            If the pipeline is unfitted.
        ValueError
            If the input has the wrong shape or values, or if an id is already in the model.
        TypeError
            If the pipeline was fitted to a data frame, and X is none.
        OSError
            As in `forget`.
        """
        check_is_fitted(self)
        X, targets, weights = self._validated(X, y, sample_weight, reset=False)
        samples = self._model.samples
        if self._config.n_stored == 0 and hasattr(samples.X, "iloc") and not hasattr(X, "iloc"):
            raise TypeError("X must be a data frame, as in fit, got an array.")
        ids = checked_ids(sample_id, len(targets), self._next_id)
        known = [key for key in ids.tolist() if key in samples]
        if known:
            raise ValueError(f"sample_id contains {known[0]!r}, which is already in the model.")
        if targets.shape[1:] != samples.y.shape[1:]:
            raise ValueError(
                f"y must have shape (n_new, *{samples.y.shape[1:]}), got {targets.shape}."
            )
        kept = np.flatnonzero(weights > 0)
        if len(kept) == 0:
            return self
        given = (_safe_indexing(X, kept), targets[kept], weights[kept], ids[kept])
        start = time.perf_counter()
        model, work = learn_samples(self._model, *given, self._config)
        seconds = time.perf_counter() - start
        self._commit("learn", ids[kept].tolist(), model, work, seconds, given=given)
        return self

    def refitted(self) -> "ForgettingPipeline":
        """Fit a new pipeline to the samples that are left, with the same pinned samples.

        Returns
        -------
        ForgettingPipeline
            A pipeline that was never given the deleted samples.
        """
        check_is_fitted(self)
        fresh = clone(self)
        fresh.__dict__.update({k: v for k, v in vars(self).items() if k in _FROM_INPUT})
        pinned_steps = self.steps_[: self._config.n_pinned]
        samples = self._model.samples.compressed()
        fresh._config, fresh._constant_hash = self._config, None
        fresh._model = fit_pipeline(samples, self._config, pinned_steps)
        fresh.requests_ = []
        return fresh

    # ---------------------------------------------------------------- predict

    @property
    def sample_id_(self) -> Array:
        """Ids of the samples in the model."""
        samples = self._model.samples
        return samples.ids[samples.rows()]

    @property
    def pinned_(self) -> Array:
        """Ids of the pinned samples."""
        samples = self._model.samples
        rows = samples.rows()
        return samples.ids[rows[samples.pinned[rows]]]

    @property
    def n_retained_(self) -> int:
        """Number of samples in the model."""
        return len(self._model.samples)

    def predict(self, X: Any) -> Array:
        """Predict targets or class labels.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._head().predict(self._features(X))

    @available_if(_head_has("predict_proba"))
    def predict_proba(self, X: Any) -> FloatArray:
        """Predict probabilities of the classes.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._head().predict_proba(self._features(X))

    @available_if(_head_has("decision_function"))
    def decision_function(self, X: Any) -> FloatArray:
        """Compute the scores of the classes.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        return self._head().decision_function(self._features(X))

    @available_if(_is_regression)
    def predict_interval(self, X: Any, alpha: float = 0.1) -> tuple[FloatArray, FloatArray]:
        r"""Predict intervals that contain new targets with a probability of about `1 - alpha`.

        The intervals are those of the jackknife+, in closed form. They are calibrated on the
        samples that are not pinned, because learned steps know the targets of the pinned ones. If
        these samples and the new one are exchangeable, the probability is at least
        :math:`1 - 2\alpha`, before and after requests.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Samples.
        alpha : float in (0, 1), default=0.1
            Fraction of the targets that may lie outside.

        Returns
        -------
        lower, upper : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Bounds, infinite if fewer than ``1 / alpha - 1`` samples are not pinned.

        Raises
        ------
        NotFittedError
            If the pipeline is unfitted.
        ValueError
            If `alpha` is not between 0 and 1.
        """
        check_is_fitted(self)
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must be between 0 and 1, got {alpha!r}.")
        head, samples, features = self._head(), self._model.samples, self._features(X)
        Z, values = self._head_matrix(features), head.predict(features)
        rows = samples.rows()
        y = samples.y[rows].astype(np.float64)
        residuals, directions = leave_one_out(
            head._chosen_solution(),
            self._head_matrix(self._stored_features(rows)),
            y.reshape(len(y), -1),
            samples.weights[rows],
        )
        free = ~samples.pinned[rows]
        bounds = jackknife_plus(
            values.reshape(len(values), -1), Z, residuals[free], directions[:, free], alpha
        )
        lower, upper = (bound.reshape(values.shape) for bound in bounds)
        return lower, upper

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R2 for a regressor, or the accuracy for a classifier.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        float
        """
        measure = accuracy_score if is_classifier(self._given_steps()[-1][1]) else r2_score
        return float(measure(y, self.predict(X), sample_weight=sample_weight))

    # ---------------------------------------------------------------- proof and files

    def certificate(self, request: int = -1, *, audit: bool = False) -> DeletionCertificate:
        """Certify a request.

        Parameters
        ----------
        request : int, default=-1
            Index of the request in ``requests_``; -1 is the last one.
        audit : bool, default=False
            Whether to fit a new pipeline to the samples that are left, and to report the largest
            difference of its outputs.

        Returns
        -------
        DeletionCertificate

        Raises
        ------
        NotFittedError
            If the pipeline is unfitted.
        ValueError
            If there was no request, or if `request` is not the index of a call to `forget`.
        """
        check_is_fitted(self)
        if not self.requests_:
            raise ValueError("There is nothing to certify before the first call to forget.")
        try:
            record = self.requests_[request]
        except IndexError as error:
            raise ValueError(
                f"request must be the index of one of {len(self.requests_)} requests, got "
                f"{request}."
            ) from error
        if record["verb"] != "forget":
            raise ValueError(
                f"request must be the index of a call to forget, got {request}, which is a call to "
                f"{record['verb']}."
            )
        learned = [name for name, _ in self.steps_[: self._config.n_pinned]]
        return DeletionCertificate(
            **{name: value for name, value in record.items() if name != "verb"},
            audit=self._audit() if audit else None,
            not_claimed=not_claimed(len(self.pinned_), learned),
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write the pipeline to a folder, to which later requests are written, too.

        The folder contains a safetensors file and a log. It is locked until :meth:`close` or the
        end of the process. Saving again, or :meth:`compact`, starts an empty log.

        Parameters
        ----------
        path : str or path-like
            The folder, which is created if it does not exist.

        Raises
        ------
        NotFittedError
            If the pipeline is unfitted.
        LockedError
            If another pipeline uses the folder.
        NotStorableError
            If a step is neither of scikit-learn nor of this package, and not frozen.
        """
        check_is_fitted(self)
        before: RequestFolder | None = getattr(self, "_folder", None)
        if before is not None and before.path.resolve() == Path(path).resolve():
            folder = before
        else:
            folder = RequestFolder(path)
        saved = working_copy(self)
        saved._folder = folder
        saved.requests_ = [record | {"durable": True} for record in self.requests_]
        try:
            folder.write_snapshot(*saved._snapshot())
            self.__dict__ = saved.__dict__
        finally:
            for each in (before, folder):
                if each is not None and each is not getattr(self, "_folder", None):
                    each.close()

    def compact(self) -> None:
        """Rewrite the folder without deleted samples, and with an empty log.

        Until then, the files still contain the values of samples that were deleted since the last
        :meth:`save`.

        Raises
        ------
        ValueError
            If the pipeline is not connected to a folder.
        """
        folder = getattr(self, "_folder", None)
        if folder is None:
            raise ValueError("The pipeline is not connected to a folder; call save first.")
        self.save(folder.path)

    def close(self) -> None:
        """Disconnect the pipeline from its folder, and unlock the folder."""
        if hasattr(self, "_folder"):
            self._folder.close()
            del self._folder

    @classmethod
    def load(
        cls, path: str | os.PathLike, *, frozen: dict[str, Any] | None = None
    ) -> "ForgettingPipeline":
        """Read a pipeline from a folder, and connect it.

        Nothing is unpickled. A request that had not returned when the process ended is either
        complete or absent.

        Parameters
        ----------
        path : str or path-like
            The folder.
        frozen : dict of str to transformer, default=None
            By name, the frozen steps that could not be stored, such as networks.

        Returns
        -------
        ForgettingPipeline

        Raises
        ------
        FileNotFoundError
            If the folder does not exist or does not contain a pipeline.
        LockedError
            If another pipeline uses the folder.
        ValueError
            If a file is damaged, or if a frozen step is missing.
        """
        if not os.path.isdir(path):
            raise FileNotFoundError(f"The folder {str(path)!r} does not exist.")
        folder = RequestFolder(path)
        try:
            tensors, header, requests = folder.read()
            pipeline = cls._from_snapshot(tensors, header, frozen or {})
            for request in requests:
                pipeline._replay(request)
        except BaseException:
            folder.close()
            raise
        pipeline._folder = folder
        return pipeline

    # ---------------------------------------------------------------- scikit-learn

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        try:
            steps = self._given_steps()
            head, first = get_tags(steps[-1][1]), steps[0][1]
        except (TypeError, ValueError, IndexError, AttributeError):
            return tags
        tags.estimator_type = head.estimator_type
        tags.classifier_tags, tags.regressor_tags = head.classifier_tags, head.regressor_tags
        tags.target_tags = head.target_tags
        if hasattr(first, "fit"):
            given = get_tags(first).input_tags
            tags.input_tags.string, tags.input_tags.categorical = given.string, given.categorical
        return tags

    def __copy__(self) -> Self:
        # A request overwrites the memory that it no longer needs, so pipelines must not share it.
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        # A copy is not connected to the folder.
        return {k: v for k, v in super().__getstate__().items() if k != "_folder"}

    # ---------------------------------------------------------------- inside

    def _given_steps(self) -> list[tuple[str, Any]]:
        if self.steps is None:
            return [
                ("scaler", ForgettingScaler()),
                ("head", RandomFeatureRegressor(random_state=0)),
            ]
        return list(self.steps)

    def _validated(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None, *, reset: bool
    ) -> tuple[Any, Array, FloatArray]:
        """Check shapes and targets; the steps check the values of X."""
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        X = checked_table(self, X, reset=reset)
        return X, *checked_targets(X, y, sample_weight, self._given_steps()[-1][1])

    def _pinned_mask(
        self, samples: StoredSamples, pinned: ArrayLike | None, ids: Array, weights: FloatArray
    ) -> BoolArray:
        steps, mask = self._given_steps(), np.zeros(len(samples), dtype=bool)
        if pinned is not None:
            mask = declared_pinned(pinned, samples, ids, weights)
        elif self.pinned_fraction is not None and len(samples) > 1:
            mask = drawn_pinned(
                samples.y,
                float(self.pinned_fraction),
                self.random_state,
                by_class=is_classifier(steps[-1][1]),
            )
        check_pinned(mask, steps, self.pin)
        return mask

    def _head(self) -> Any:
        check_is_fitted(self)
        return self._model.head

    def _features(self, X: Any) -> Any:
        """Compute the input of the last step for samples of the user."""
        check_is_fitted(self)
        X = checked_table(self, X, reset=False)
        for _, step in self.steps_[:-1]:
            X = transformed(step, X)
        return X

    def _stored_features(self, rows: IntArray) -> Any:
        X = self._model.samples.take(rows)
        for _, step in self.steps_[self._config.n_stored : -1]:
            X = transformed(step, X)
        return X

    def _head_matrix(self, X: Any) -> FloatArray:
        """Return the features inside the last step, with the constant one."""
        head = self._head()
        head._apply_pending()
        features = head._features()
        return features.engine.to_numpy(features.matrix(head._validated(X)))

    def _check_deletable(self, positions: IntArray) -> bool:
        """Return whether the request needs everything to be learned again."""
        samples = self._model.samples
        if len(positions) >= len(samples):
            raise ValueError(
                f"The request is for {len(positions)} of {len(samples)} samples; at least one must "
                "be retained."
            )
        pinned = positions[samples.pinned[positions]]
        if len(pinned) == 0:
            return False
        if self._config.on_pinned == "raise":
            raise ValueError(
                f"The sample {samples.ids[pinned].tolist()[0]!r} is pinned: learned steps were "
                "fitted to it. Fit with on_pinned='relearn' to delete pinned samples, too."
            )
        if self._config.n_pinned and len(pinned) == samples.pinned.sum():
            raise ValueError("The request is for all pinned samples; at least one must be left.")
        return True

    def _without(self, positions: IntArray) -> tuple[PipelineModel, list[str]]:
        change = relearn if self._check_deletable(positions) else forget_positions
        return change(self._model, positions, self._config)

    def _next_id(self) -> int:
        ids = self._model.samples.ids
        if ids.dtype.kind not in "iu":
            raise ValueError("sample_id must be given, because the ids of the model are strings.")
        forgotten = [r["ids"] for r in self.requests_]
        known = [int(ids.max()), *(max(each) for each in forgotten if each)]
        return max(known) + 1

    def _model_hash(self) -> str:
        """Hash everything on which predictions depend."""
        n, head = self._config.n_constant, self._head()
        if self._constant_hash is None:
            self._constant_hash = hash_of_steps(self.steps_[:n])
        start = hash_of_steps(self.steps_[n:-1], self._constant_hash)
        classes = getattr(head, "classes_", None)
        return hash_of_head(start, head.feature_coef_, head.intercept_, classes)

    def _commit(
        self,
        verb: str,
        ids: list[Any],
        model: PipelineModel,
        work: list[str],
        seconds: float,
        given: Any = None,
    ) -> None:
        """Take over the model after a request, and write the request to the log.

        The pipeline changes in two steps that no exception can interrupt. Between them, the request
        is complete, but the pipeline is disconnected from its folder.
        """
        before, hash_before = self._model, self._model_hash()
        changed = working_copy(self)
        changed._model = model
        n = self._config.n_constant
        if model.steps[:n] != before.steps[:n]:
            changed._constant_hash = None
        record = {
            "verb": verb,
            "request": len(self.requests_) + 1,
            "ids": ids,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "n_retained": changed.n_retained_,
            "model_before": hash_before,
            "model_after": changed._model_hash(),
            "work": work,
            "seconds": round(seconds, 6),
            "durable": False,
        }
        changed.requests_ = [*self.requests_, record]
        folder = changed.__dict__.pop("_folder", None)
        try:
            self.__dict__ = changed.__dict__
            overwrite_replaced(before, model)
            if folder is not None:
                durable = record | {"durable": True}
                folder.append(encoded_request(durable, given))
                changed = working_copy(self)
                changed._folder, changed.requests_ = folder, [*self.requests_[:-1], durable]
                self.__dict__ = changed.__dict__
        except BaseException:
            if folder is not None and not hasattr(self, "_folder"):
                folder.close()
            raise

    def _replay(self, entry: dict[str, Any]) -> None:
        """Make a request from the log."""
        record, given = decoded_request(entry)
        if given is not None:
            X, y, weights, ids = given
            model, _ = learn_samples(self._model, X, y, weights, ids, self._config)
        else:
            model, _ = self._without(self._model.samples.positions(as_ids(record["ids"])))
        overwrite_replaced(self._model, model)
        self._model, self._constant_hash = model, None
        self.requests_.append(record)

    def _audit(self) -> dict[str, float]:
        fresh, samples = self.refitted(), self._model.samples
        X = samples.take(samples.rows()[:_AUDIT_OUTPUTS])
        ours, theirs = (pipeline._outputs(X) for pipeline in (self, fresh))
        largest = abs(theirs).max()
        return {
            "n_outputs": ours.size,
            "difference": float(abs(ours - theirs).max() / largest) if largest else 0.0,
        }

    def _outputs(self, X: Any) -> FloatArray:
        """Return predictions or scores for stored samples."""
        for _, step in self.steps_[self._config.n_stored : -1]:
            X = transformed(step, X)
        head = self._head()
        return head.decision_function(X) if is_classifier(head) else head.predict(X)

    def _snapshot(self) -> tuple[Tensors, Any]:
        attributes = {
            "has_default_steps": self.steps is None,
            "pinned_fraction": self.pinned_fraction,
            "random_state": self.random_state,
            "requests": self.requests_,
            "from_input": {k: v for k, v in vars(self).items() if k in _FROM_INPUT},
        }
        return encoded_model(self._config, self._model, attributes)

    @classmethod
    def _from_snapshot(
        cls, tensors: Tensors, header: Any, frozen: dict[str, Any]
    ) -> "ForgettingPipeline":
        config, model, attributes = decoded_model(tensors, header, frozen)
        try:
            pipeline = cls(
                None if attributes["has_default_steps"] else config.steps,
                pin=config.pin,
                pinned_fraction=attributes["pinned_fraction"],
                on_pinned=config.on_pinned,
                random_state=attributes["random_state"],
            )
            for name in _FROM_INPUT:
                if name in attributes["from_input"]:
                    setattr(pipeline, name, attributes["from_input"][name])
            pipeline.requests_ = attributes["requests"]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"The file does not contain a ForgettingPipeline: {error!r}"
            ) from error
        pipeline._config, pipeline._model, pipeline._constant_hash = config, model, None
        return pipeline


def make_forgetting_pipeline(
    *steps: Any,
    pin: Literal["features", "preprocessing"] = "features",
    pinned_fraction: float | None = None,
    on_pinned: Literal["raise", "relearn"] = "raise",
    random_state: RandomState = None,
) -> ForgettingPipeline:
    """Build a :class:`ForgettingPipeline` whose steps are named after their classes.

    Parameters
    ----------
    *steps : estimators
        The steps.
    pin : {"features", "preprocessing"}, default="features"
        Steps that are fitted to the pinned samples and then frozen.
    pinned_fraction : float in (0, 1) or None, default=None
        Fraction of the samples to pin if none are declared in `fit`.
    on_pinned : {"raise", "relearn"}, default="raise"
        Whether a request that names a pinned sample is refused, or fits everything again.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing pinned samples, and for the steps that have none.

    Returns
    -------
    ForgettingPipeline

    Examples
    --------
    >>> from sklearn_ext import (
    ...     ForgettingScaler, RandomFeatureClassifier, make_forgetting_pipeline)
    >>> pipeline = make_forgetting_pipeline(ForgettingScaler(), RandomFeatureClassifier())
    >>> [name for name, _ in pipeline.steps]
    ['forgettingscaler', 'randomfeatureclassifier']
    """
    return ForgettingPipeline(
        _name_estimators(steps),
        pin=pin,
        pinned_fraction=pinned_fraction,
        on_pinned=on_pinned,
        random_state=random_state,
    )


def _is_no_step(step: Any) -> bool:
    return step is None or isinstance(step, str)
