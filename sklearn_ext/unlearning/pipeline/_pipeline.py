"""A pipeline from which samples can be deleted as from a database."""

import base64
import copy
import hashlib
import json
import os
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Self

import joblib
import numpy as np
import safetensors.numpy
from numpy.typing import ArrayLike
from sklearn.base import _fit_context, clone, is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import _name_estimators
from sklearn.utils import Bunch, _safe_indexing, get_tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import _BaseComposition, available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    _num_samples,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from ...utils._atomic import atomic_fit
from ...utils._random import draw_seed, held_out_mask, local_random_state
from ...utils._typing import Array, BoolArray, FloatArray, IntArray, RandomState
from ..exact import RandomFeatureClassifier, RandomFeatureRegressor
from ._certificate import DeletionCertificate, not_claimed
from ._files import RequestFolder
from ._intervals import jackknife_plus, leave_one_out
from ._preprocessing import ForgettingScaler
from ._samples import StoredSamples
from ._serialization import NotStorableError, Tensors, decode, encode
from ._steps import can_update, change_step, fitted_step, kind_of, transformed, why_it_cannot_forget

_AUDIT_OUTPUTS = 1000
_HEADS = (RandomFeatureRegressor, RandomFeatureClassifier)


def _head_has(method: str) -> Any:
    def check(self: "ForgettingPipeline") -> bool:
        return hasattr(self._given_steps()[-1][1], method)

    return check


def _is_regression(self: "ForgettingPipeline") -> bool:
    return is_regressor(self._given_steps()[-1][1])


class ForgettingPipeline(_BaseComposition):
    r"""A pipeline from which samples can be deleted as from a database.

    After :meth:`forget`, preprocessing, features and model equal those of a pipeline that was never
    given the samples, to 1e-9 of the size of its predictions. A saved pipeline is durable: a
    request is on disk when it returns.

    A step before the last one is one of three kinds:

    - *forgetting*: :class:`ForgettingScaler`, :class:`ForgettingImputer`,
      :class:`ForgettingOneHotEncoder`, or a ColumnTransformer of these;
    - *fixed*: independent of the samples, like a step without a fit (hashing, normalization), or a
      ``FrozenEstimator`` such as a pretrained network;
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
        What is fitted to the pinned samples and then frozen. "features": the learned steps and
        those before them. "preprocessing": all steps but the last one. A request is then cheap,
        because forgetting steps do not change.
    pinned_fraction : float in (0, 1) or None, default=None
        Fraction of the samples to pin if none are declared in `fit`. They are drawn at random, in
        proportion from each class, and reported in ``pinned_``.
    on_pinned : {"raise", "relearn"}, default="raise"
        What to do with a request that names a pinned sample: refuse it, or fit everything again
        without it, which costs as much as a fit.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing pinned samples, and for the last step if it has none.

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
        One record per request: ids, time, hashes of the model, and the work that was done.
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
    _samples: StoredSamples
    _n_stored: int  # samples are stored as they are after this number of steps
    _seed: int  # of the last step, if it has none
    _prefix_hash: str | None  # of the pinned steps

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
        return Bunch(**dict(getattr(self, "steps_", None) or self._given_steps()))

    @property
    def classes_(self) -> Array:
        """Classes of the samples in the model; only for a classifier."""
        return self.steps_[-1][1].classes_

    # ---------------------------------------------------------------- fit and change

    @atomic_fit
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
        self._check_steps()
        store = getattr(self, "_folder", None)
        if store is not None:
            raise ValueError(
                "The pipeline is connected to a folder. Call close() before fitting it again."
            )
        X, targets, weights = self._validated(X, y, sample_weight, reset=True)
        ids = _checked_ids(sample_id, len(targets), int)
        kept = np.flatnonzero(weights > 0)
        samples = StoredSamples(
            _safe_indexing(X, kept),
            targets[kept],
            weights[kept],
            ids[kept],
            np.zeros(len(kept), bool),
        )
        samples.pinned = self._pinned_mask(samples, pinned, ids, weights)
        self._seed = draw_seed(self.random_state)
        self._fit_samples(samples)
        self.requests_: list[dict[str, Any]] = []
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
        OSError
            If the request cannot be written. It is then made in memory only, and the pipeline is no
            longer connected to its folder.
        """
        check_is_fitted(self)
        positions = self._samples.positions(ids_or_mask)
        if len(positions) == 0:
            return self
        ids = self._samples.ids[positions].tolist()
        relearns = self._check_deletable(positions)
        before = self._model_hash()
        work = self._relearn(positions) if relearns else self._forget_positions(positions)
        self._record("forget", ids, work, before, None)
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
        OSError
            As in `forget`.
        """
        check_is_fitted(self)
        X, targets, weights = self._validated(X, y, sample_weight, reset=False)
        ids = _checked_ids(sample_id, len(targets), self._next_id)
        known = [key for key in ids.tolist() if key in self._samples]
        if known:
            raise ValueError(f"sample_id contains {known[0]!r}, which is already in the model.")
        if targets.shape[1:] != self._samples.y.shape[1:]:
            raise ValueError(
                f"y must have shape (n_new, *{self._samples.y.shape[1:]}), got {targets.shape}."
            )
        kept = np.flatnonzero(weights > 0)
        if len(kept) == 0:
            return self
        given = (_safe_indexing(X, kept), targets[kept], weights[kept], ids[kept])
        before = self._model_hash()
        work = self._learn_samples(*given)
        self._record("learn", ids[kept].tolist(), work, before, given)
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
        fresh.__dict__.update(
            {k: v for k, v in vars(self).items() if k in ("n_features_in_", "feature_names_in_")}
        )
        fresh._seed = self._seed
        fresh._fit_samples(self._samples.compressed(), self.steps_[: self._n_pinned_steps()])
        fresh.requests_ = []
        return fresh

    # ---------------------------------------------------------------- predict

    @property
    def sample_id_(self) -> Array:
        """Ids of the samples in the model."""
        return self._samples.ids[self._samples.rows()]

    @property
    def pinned_(self) -> Array:
        """Ids of the pinned samples."""
        rows = self._samples.rows()
        return self._samples.ids[rows[self._samples.pinned[rows]]]

    @property
    def n_retained_(self) -> int:
        """Number of samples in the model."""
        return len(self._samples)

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
        head = self._head()
        Z, values = self._head_matrix(self._features(X)), head.predict(self._features(X))
        rows = self._samples.rows()
        y = self._samples.y[rows].astype(np.float64)
        residuals, directions = leave_one_out(
            head._solution,
            self._head_matrix(self._stored_features(rows)),
            y.reshape(len(y), -1),
            self._samples.weights[rows],
        )
        free = ~self._samples.pinned[rows]
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
            If there was no such request to forget.
        """
        check_is_fitted(self)
        deletions = [record for record in self.requests_ if record["verb"] == "forget"]
        try:
            record = self.requests_[request]
        except IndexError as error:
            raise ValueError(
                f"request must be an index of one of the {len(self.requests_)} requests, got "
                f"{request}."
            ) from error
        if record not in deletions:
            raise ValueError(f"Request {request} did not delete samples.")
        learned = [self.steps_[i][0] for i in range(self._n_pinned_steps())]
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
        folder = getattr(self, "_folder", None)
        if folder is not None and folder.path.resolve() == Path(path).resolve():
            folder.write_snapshot(*self._snapshot())
        else:
            opened = RequestFolder(path)
            try:
                opened.write_snapshot(*self._snapshot())
            except BaseException:
                opened.close()
                raise
            self.close()
            self._folder = opened
        self._set_durable()

    def compact(self) -> None:
        """Rewrite the folder without deleted samples, and with an empty log.

        Before, the files still contain the values of samples that were deleted since the last
        :meth:`save`.

        Raises
        ------
        ValueError
            If the pipeline is not connected to a folder.
        """
        folder = getattr(self, "_folder", None)
        if folder is None:
            raise ValueError("The pipeline is not connected to a folder; call save first.")
        folder.write_snapshot(*self._snapshot())
        self._set_durable()

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
            If there is no stored pipeline.
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
        return hasattr(self, "_samples")

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

    def _check_steps(self) -> None:
        steps = self._given_steps()
        if not steps:
            raise ValueError("steps must contain at least the last step, got an empty list.")
        self._validate_names([name for name, _ in steps])
        if not isinstance(steps[-1][1], _HEADS):
            raise TypeError(
                "The last step must be a RandomFeatureRegressor or a RandomFeatureClassifier, got "
                f"{steps[-1][1]!r}."
            )
        for name, step in steps[:-1]:
            if not (hasattr(step, "transform") or step in (None, "passthrough")):
                raise TypeError(f"The step {name!r} must have a transform method, got {step!r}.")

    def _validated(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None, *, reset: bool
    ) -> tuple[Any, Array, FloatArray]:
        """Check shapes and targets; the steps check the values of X."""
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        X = self._table(X, reset=reset)
        head = self._given_steps()[-1][1]
        if is_classifier(head):
            check_classification_targets(y)
            targets = column_or_1d(y, warn=True)
        else:
            targets = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
            if targets.ndim == 2 and targets.shape[1] == 1:
                targets = column_or_1d(targets, warn=True)
        check_consistent_length(X, targets)
        weights = _check_sample_weight(
            sample_weight, np.empty((len(targets), 1)), dtype=np.float64, ensure_non_negative=True
        )
        return X, np.array(targets), weights

    def _table(self, X: Any, *, reset: bool) -> Any:
        """Return X as an array or a pandas frame; numbers become float64."""
        _check_feature_names(self, X, reset=reset)
        if hasattr(X, "to_pandas") and not hasattr(X, "iloc"):
            import pandas as pd

            X = pd.DataFrame({name: X[name].to_numpy() for name in X.columns})
        if not hasattr(X, "iloc"):
            X = check_array(X, dtype=None, ensure_all_finite="allow-nan")
            X = X.astype(np.float64) if X.dtype.kind in "biuf" else X
        elif all(np.dtype(t).kind in "biuf" for t in X.dtypes if isinstance(t, np.dtype)) and all(
            isinstance(t, np.dtype) for t in X.dtypes
        ):
            X = X.astype(np.float64).reset_index(drop=True)
        else:
            X = X.reset_index(drop=True)
        if _num_samples(X) == 0:
            raise ValueError("X has 0 samples, but at least one is required.")
        _check_n_features(self, X, reset=reset)
        return X

    def _pinned_mask(
        self, samples: StoredSamples, pinned: ArrayLike | None, ids: Array, weights: FloatArray
    ) -> BoolArray:
        mask = np.zeros(len(samples), dtype=bool)
        steps = self._given_steps()[:-1]
        kinds = [kind_of(step) for _, step in steps]
        if pinned is not None:
            chosen = np.asarray(pinned)
            if chosen.dtype == bool:
                if chosen.shape != ids.shape:
                    raise ValueError(
                        f"pinned must have one entry for each of the {len(ids)} samples if it is a "
                        f"mask, got shape {chosen.shape}."
                    )
                chosen = ids[chosen & (weights > 0)]
            mask[samples.positions(chosen, name="pinned")] = True
        elif self.pinned_fraction is not None and len(samples) > 1:
            rng = local_random_state(self.random_state)
            codes = np.zeros(len(samples), dtype=np.int64)
            if is_classifier(self._given_steps()[-1][1]):
                codes = np.unique(samples.y, return_inverse=True)[1]
                codes[np.bincount(codes)[codes] == 1] = -1
            mask = held_out_mask(codes, float(self.pinned_fraction), rng)
        if not mask.any():
            for (name, step), kind in zip(steps, kinds, strict=True):
                if kind == "learned":
                    raise ValueError(why_it_cannot_forget(name, step))
            if self.pin == "preprocessing" and "forgetting" in kinds:
                raise ValueError(
                    "pin='preprocessing' needs pinned samples: pass pinned=mask to fit, or set "
                    "pinned_fraction."
                )
        return mask

    def _n_pinned_steps(self) -> int:
        """Return how many steps are fitted to pinned samples, or precede one that is."""
        kinds = [kind_of(step) for _, step in self._given_steps()[:-1]]
        frozen = ("learned", "forgetting") if self.pin == "preprocessing" else ("learned",)
        return max((i + 1 for i, kind in enumerate(kinds) if kind in frozen), default=0)

    def _fit_samples(
        self, samples: StoredSamples, pinned_steps: Sequence[tuple[str, Any]] = ()
    ) -> None:
        """Fit the steps that follow `pinned_steps` to samples as they are stored."""
        steps, n_pinned, fitted = self._given_steps(), self._n_pinned_steps(), [*pinned_steps]
        rows = np.flatnonzero(samples.pinned)
        X, y, weights = samples.take(rows), samples.y[rows], samples.weights[rows]
        for name, step in steps[len(fitted) : n_pinned]:
            fitted.append((name, fitted_step(step, X, y, weights)))
            X = transformed(fitted[-1][1], X)
        self._n_stored = n_pinned if self.on_pinned == "raise" else 0
        for _, step in fitted[len(pinned_steps) : self._n_stored]:
            samples.X = transformed(step, samples.X)
        X = samples.X
        for _, step in fitted[self._n_stored :]:
            X = transformed(step, X)
        for name, step in steps[n_pinned:-1]:
            fitted.append((name, fitted_step(step, X, samples.y, samples.weights)))
            X = transformed(fitted[-1][1], X)
        fitted.append((steps[-1][0], self._new_head().fit(X, samples.y, samples.weights)))
        samples.head_index = np.arange(len(samples.alive))
        self.steps_, self._samples, self._prefix_hash = fitted, samples, None

    def _new_head(self) -> Any:
        """Return an unfitted last step that draws the same random features in every fit."""
        head = clone(self._given_steps()[-1][1])
        return head.set_params(random_state=self._seed) if head.random_state is None else head

    def _head(self) -> Any:
        check_is_fitted(self)
        return self.steps_[-1][1]

    def _features(self, X: Any) -> Any:
        """Compute the input of the last step for samples of the user."""
        check_is_fitted(self)
        X = self._table(X, reset=False)
        for _, step in self.steps_[:-1]:
            X = transformed(step, X)
        return X

    def _stored_features(self, rows: IntArray) -> Any:
        X = self._samples.take(rows)
        for _, step in self.steps_[self._n_stored : -1]:
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
        if len(positions) >= len(self._samples):
            raise ValueError(
                f"The request is for {len(positions)} of {len(self._samples)} samples; at least "
                "one must be retained."
            )
        pinned = positions[self._samples.pinned[positions]]
        if len(pinned) == 0:
            return False
        if self.on_pinned == "raise":
            raise ValueError(
                f"The sample {self._samples.ids[pinned].tolist()[0]!r} is pinned: learned steps "
                "were fitted to it. Use on_pinned='relearn' to delete pinned samples, too."
            )
        if self._n_pinned_steps() and len(pinned) == self._samples.pinned.sum():
            raise ValueError("The request is for all pinned samples; at least one must be left.")
        return True

    def _forget_positions(self, positions: IntArray) -> list[str]:
        samples = self._samples
        y, weights = samples.y[positions], samples.weights[positions]
        X, steps, work, first = self._changed_steps(samples.take(positions), weights, "forget")
        if first is not None:
            self._refit_from(first, steps, samples.without(positions), work)
            samples.delete(positions)  # overwrites the memory
            return work
        head = self._head()
        if head.retained_ is None:
            head.forget(X=X, y=y, sample_weight=weights)
        else:
            head.forget(samples.head_index[positions])
        self.steps_ = steps
        samples.delete(positions)
        return [*work, self._head_work()]

    def _changed_steps(
        self, X: Any, weights: FloatArray, verb: Literal["forget", "learn"]
    ) -> tuple[Any, list[tuple[str, Any]], list[str], int | None]:
        """Let copies of the forgetting steps forget or learn samples, given as they are stored.

        Returns the input of the last step, the steps, the work that was done, and the first step
        that must be fitted to all samples again, or None.
        """
        work: list[str] = []
        steps = list(self.steps_)
        for i, (name, step) in enumerate(self.steps_[self._n_stored : -1], self._n_stored):
            if i >= self._n_pinned_steps() and kind_of(step) == "forgetting":
                if not can_update(step):
                    return X, steps, work, i
                step = copy.deepcopy(step)
                steps[i] = (name, step)
                work.append(f"{name}: updated")
                if change_step(step, X, weights, verb):
                    return X, steps, work, i + 1
            X = transformed(step, X)
        return X, steps, work, None

    def _head_work(self) -> str:
        name, head = self.steps_[-1]
        return f"{name}: {'fitted again' if head.refitted_ else 'updated'}"

    def _refit_from(
        self, first: int, steps: list[tuple[str, Any]], samples: StoredSamples, work: list[str]
    ) -> None:
        """Fit steps again, because the output of the step before has changed for all samples."""
        X = samples.X
        for _, step in steps[self._n_stored : first]:
            X = transformed(step, X)
        given = self._given_steps()
        for k in range(first, len(steps) - 1):
            name, step = given[k]
            steps[k] = (name, fitted_step(step, X, samples.y, samples.weights))
            X = transformed(steps[k][1], X)
            if kind_of(step) != "fixed":
                work.append(f"{name}: fitted again")
        name = given[-1][0]
        steps[-1] = (name, self._new_head().fit(X, samples.y, samples.weights))
        work.append(f"{name}: fitted again")
        samples.head_index = np.arange(len(samples))
        self.steps_, self._samples = steps, samples

    def _relearn(self, positions: IntArray) -> list[str]:
        """Fit everything again without samples, some of which are pinned."""
        samples = self._samples.without(positions)
        fresh = clone(self)
        fresh._seed = self._seed
        fresh._fit_samples(samples)
        self.steps_, self._samples, self._prefix_hash = fresh.steps_, fresh._samples, None
        return [f"{name}: learned again" for name, _ in self.steps_]

    def _learn_samples(self, X: Any, y: Array, weights: FloatArray, ids: Array) -> list[str]:
        for _, step in self.steps_[: self._n_stored]:
            X = transformed(step, X)
        added = StoredSamples(X, y, weights, ids, np.zeros(len(ids), dtype=bool))
        Z, steps, work, first = self._changed_steps(X, weights, "learn")
        if first is not None:
            self._refit_from(first, steps, self._samples.extended(added), work)
            return work
        head = self._head()
        n_seen = 0 if head.retained_ is None else len(head.retained_)
        added.head_index = n_seen + np.arange(len(ids))
        extended = self._samples.extended(added)
        head.learn(Z, y, weights)
        self.steps_, self._samples = steps, extended
        return [*work, self._head_work()]

    def _next_id(self) -> int:
        ids = self._samples.ids
        if ids.dtype.kind not in "iu":
            raise ValueError("sample_id must be given, because the ids of the model are strings.")
        forgotten = [r["ids"] for r in self.requests_]
        known = [int(ids.max()), *(max(each) for each in forgotten if each)]
        return max(known) + 1

    def _model_hash(self) -> str:
        """Hash what the model predicts with."""
        if self._prefix_hash is None:
            digest = hashlib.blake2b(digest_size=16)
            for name, step in self.steps_[: self._n_pinned_steps()]:
                _update(digest, *_content(name, step))
            self._prefix_hash = digest.hexdigest()
        digest = hashlib.blake2b(self._prefix_hash.encode(), digest_size=16)
        for name, step in self.steps_[self._n_pinned_steps() : -1]:
            _update(digest, *_content(name, step))
        head = self._head()
        _update(digest, "", {"coef": head.coef_, "intercept": np.asarray(head.intercept_)})
        if is_classifier(head):
            digest.update(repr(head.classes_.tolist()).encode())
        return digest.hexdigest()

    def _record(self, verb: str, ids: list[Any], work: list[str], before: str, given: Any) -> None:
        """Write a request to the log, and append it to the records."""
        folder = getattr(self, "_folder", None)
        record = {
            "verb": verb,
            "request": len(self.requests_) + 1,
            "ids": ids,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "n_retained": self.n_retained_,
            "model_before": before,
            "model_after": self._model_hash(),
            "work": work,
            "durable": folder is not None,
        }
        self.requests_.append(record)
        if folder is None:
            return
        entry = dict(record)
        if given is not None:
            tensors: Tensors = {}
            entry["json"] = encode(list(given), tensors, "learn")
            entry["data"] = base64.b64encode(safetensors.numpy.save(tensors)).decode()
        try:
            folder.append(entry)
        except BaseException:
            record["durable"] = False
            self.close()
            raise

    def _replay(self, request: dict[str, Any]) -> None:
        """Make a request from the log."""
        record = {k: v for k, v in request.items() if k not in ("json", "data")}
        if request["verb"] == "learn":
            tensors = safetensors.numpy.load(base64.b64decode(request["data"]))
            self._learn_samples(*decode(request["json"], tensors))
        else:
            positions = self._samples.positions(_as_ids(request["ids"]))
            if self._check_deletable(positions):
                self._relearn(positions)
            else:
                self._forget_positions(positions)
        self.requests_.append(record)

    def _set_durable(self) -> None:
        for record in self.requests_:
            record["durable"] = True

    def _audit(self) -> dict[str, float]:
        fresh, rows = self.refitted(), self._samples.rows()[:_AUDIT_OUTPUTS]
        X = self._samples.take(rows)
        ours, theirs = (pipeline._outputs(X) for pipeline in (self, fresh))
        largest = abs(theirs).max()
        return {
            "n_outputs": float(ours.size),
            "difference": float(abs(ours - theirs).max() / largest) if largest else 0.0,
        }

    def _outputs(self, X: Any) -> FloatArray:
        """Return predictions or scores for stored samples."""
        for _, step in self.steps_[self._n_stored : -1]:
            X = transformed(step, X)
        head = self._head()
        return head.decision_function(X) if is_classifier(head) else head.predict(X)

    def _snapshot(self) -> tuple[Tensors, Any]:
        tensors: Tensors = {}
        samples = self._samples.compressed()
        parameters = {k: v for k, v in self.get_params(deep=False).items() if k != "steps"}
        content = {
            "parameters": parameters,
            "samples": [
                samples.X,
                samples.y,
                samples.weights,
                samples.ids,
                samples.pinned,
                samples.head_index,
            ],
            "n_stored": self._n_stored,
            "seed": self._seed,
            "requests": self.requests_,
            "fitted": {
                name: getattr(self, name)
                for name in ("n_features_in_", "feature_names_in_")
                if hasattr(self, name)
            },
        }
        header = {name: encode(value, tensors, name) for name, value in content.items()}
        lists: Any = {"given": self.steps, "steps": self.steps_}
        for kind, steps in lists.items():
            header[kind] = steps and [
                [name, _encoded_step(f"{kind}.{name}", step, tensors)] for name, step in steps
            ]
        return tensors, header

    @classmethod
    def _from_snapshot(
        cls, tensors: Tensors, header: Any, frozen: dict[str, Any]
    ) -> "ForgettingPipeline":
        try:
            content = {
                name: decode(header[name], tensors)
                for name in ("parameters", "samples", "n_stored", "seed", "requests", "fitted")
            }
            given: Any
            steps: Any
            given, steps = (
                header[kind]
                and [
                    (name, _decoded_step(name, data, tensors, frozen))
                    for name, data in header[kind]
                ]
                for kind in ("given", "steps")
            )
            pipeline = cls(given, **content["parameters"])
            *parts, head_index = content["samples"]
            pipeline._samples = StoredSamples(*parts)
            pipeline._samples.head_index = head_index
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(
                f"The file does not contain a ForgettingPipeline: {error!r}"
            ) from error
        for name, value in content["fitted"].items():
            if name in ("n_features_in_", "feature_names_in_"):
                setattr(pipeline, name, value)
        pipeline.steps_, pipeline._n_stored = steps, content["n_stored"]
        pipeline.requests_, pipeline._prefix_hash = content["requests"], None
        pipeline._seed = content["seed"]
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
        What is fitted to the pinned samples and then frozen.
    pinned_fraction : float in (0, 1) or None, default=None
        Fraction of the samples to pin if none are declared in `fit`.
    on_pinned : {"raise", "relearn"}, default="raise"
        What to do with a request that names a pinned sample.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing pinned samples, and for the last step if it has none.

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


def _as_ids(values: ArrayLike) -> Array:
    ids = np.asarray(values)
    if ids.dtype.kind in "iu":
        return ids.astype(np.int64)
    if ids.dtype.kind == "U" or all(isinstance(key, str) for key in ids.ravel()):
        return ids.astype(object)
    raise ValueError(f"sample_id must contain integers or strings, got the type {ids.dtype}.")


def _checked_ids(sample_id: ArrayLike | None, n: int, first: Callable[[], int]) -> Array:
    if sample_id is None:
        return first() + np.arange(n)
    ids = _as_ids(column_or_1d(sample_id))
    if len(ids) != n:
        raise ValueError(f"sample_id must have one entry for each of {n} samples, got {len(ids)}.")
    if len(set(ids.tolist())) < n:
        twice = Counter(ids.tolist()).most_common(1)[0][0]
        raise ValueError(f"sample_id contains {twice!r} more than once.")
    return ids


def _encoded_step(name: str, step: Any, tensors: Tensors) -> Any:
    """Encode a step; a frozen one that cannot be stored is only named."""
    own: Tensors = {}
    try:
        encoded = encode(step, own, name)
    except NotStorableError:
        if not isinstance(step, FrozenEstimator):
            raise
        return {"frozen": type(step.estimator).__name__}
    tensors.update(own)
    return encoded


def _content(name: str, step: Any) -> tuple[Any, Tensors]:
    """Return what determines a step; only the type, if it can be neither stored nor pickled."""
    tensors: Tensors = {}
    try:
        return encode(step, tensors, name), tensors
    except NotStorableError:
        pass
    try:
        return joblib.hash(step), {}
    except (pickle.PicklingError, AttributeError, TypeError):
        return type(step).__name__, {}


def _decoded_step(name: str, data: Any, tensors: Tensors, frozen: dict[str, Any]) -> Any:
    if isinstance(data, dict) and set(data) == {"frozen"}:
        if name not in frozen:
            raise ValueError(
                f"The step {name!r}, a frozen {data['frozen']}, was not stored. Pass "
                f"frozen={{{name!r}: transformer}}."
            )
        step = frozen[name]
        return step if isinstance(step, FrozenEstimator) else FrozenEstimator(step)
    return decode(data, tensors)


def _update(digest: Any, data: Any, tensors: Tensors) -> None:
    digest.update(json.dumps(data, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
