"""Classification of rows with holes."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ._docs import with_common_docs
from ._engine import make_engine
from ._gaussian_model import fit_model
from ._label_columns import encode_labels
from ._model_columns import ModelColumns
from ._primal_machine import squared_hinge_machines
from ._supervised_kernel import expected_rows, landmark_kernel, machine, scale_gamma
from ._validation import categorical_mask

_BATCH = 4096  # rows whose kernel is held at once


@with_common_docs
class SupervisedKernelClassifier(ClassifierMixin, BaseEstimator):
    r"""Support vector machine on the expected kernel of rows with holes.

    A joint Gaussian model of features and labels gives every hole a mean and a variance, from
    what is observed in its row. The machine works on the expectation of the Gaussian kernel under
    these: a row of which little is known is like no row in particular. Labels then correct the
    kernel, entry by entry, so that the classes are separated more easily.

    No row needs to be complete, neither in `fit` nor in `predict`.

    Parameters
    ----------
    C : float, default=1.0
        Penalty of the support vector machine.

    {gamma}

    kappa : float in [0, 1], default=0.1
        Largest relative change of an entry of the kernel by the labels; 0 leaves the expected
        kernel as it is. Only where all training rows are landmarks.

    {perturbation}

    {shrinkage}

    max_iter : int, default=30
        Largest number of iterations of the Gaussian model.

    tol : float, default=1e-3
        They stop when the covariance changes by less than this share of the largest variance.

    max_landmarks : int, default=1000
        With more training rows than that, the machine is linear on Nyström features of so many
        of them, with squared hinge loss, in time linear in the number of rows.

    {categorical}

    {computing}

    random_state : int, RandomState instance or None, default=None
        Seed of the hidden entries and of samples of rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    dual_coef_ : ndarray of shape (n_landmarks, n_machines)
        Signed dual coefficients: one machine for two classes, one a class for more.

    intercept_ : ndarray of shape (n_machines,)
        Intercepts of the machines.

    landmark_indices_ : ndarray of shape (n_landmarks,)
        Training rows that the kernel is to.

    landmarks_ : ndarray of shape (n_landmarks, n_columns)
        Their conditional means, in units of the columns' ranges.

    landmark_variances_ : ndarray of shape (n_landmarks, n_columns)
        Their conditional variances; 0 where observed.

    {chosen_gamma}

    {chosen_shrinkage}

    n_iter_ : int
        Number of iterations of the Gaussian model.

    {facts}

    See Also
    --------
    SupervisedKernelImputer : Fills the holes, for any other estimator.
    sklearn.svm.SVC : The same machine for complete rows.

    Notes
    -----
    Probabilities come from :class:`~sklearn.calibration.CalibratedClassifierCV`.

    The correction has no value for a new row: it acts through the dual coefficients.

    References
    ----------
    {paper}

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_ext import SupervisedKernelClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> X[np.random.RandomState(0).rand(*X.shape) < 0.3] = np.nan
    >>> classifier = SupervisedKernelClassifier(random_state=0).fit(X[::2], y[::2])
    >>> bool(classifier.score(X[1::2], y[1::2]) > 0.9)
    True
    """

    _parameter_constraints = {
        "C": [Interval(Real, 0, None, closed="neither")],
        "gamma": [StrOptions({"scale"}), Interval(Real, 0, None, closed="neither")],
        "kappa": [Interval(Real, 0, 1, closed="both")],
        "perturbation": [Interval(Real, 0, None, closed="left")],
        "shrinkage": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_landmarks": [Interval(Integral, 1, None, closed="left")],
        "categorical_features": ["array-like", None],
        "engine": [StrOptions({"auto", "numba", "torch"})],
        "device": "no_validation",  # checked where it is resolved
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        C=1.0,
        gamma="scale",
        kappa=0.1,
        perturbation=0.0,
        shrinkage="auto",
        max_iter=30,
        tol=1e-3,
        max_landmarks=1000,
        categorical_features=None,
        engine="auto",
        device=None,
        n_jobs=None,
        random_state=None,
    ):
        self.C = C
        self.gamma = gamma
        self.kappa = kappa
        self.perturbation = perturbation
        self.shrinkage = shrinkage
        self.max_iter = max_iter
        self.tol = tol
        self.max_landmarks = max_landmarks
        self.categorical_features = categorical_features
        self.engine = engine
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Fit the Gaussian model, then the machine on its expected kernel.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with holes, marked by NaN.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        self : SupervisedKernelClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If X is not numeric or holds infinity, if there is one class only, or if a parameter
            is out of range.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        check_classification_targets(y)
        labels = encode_labels(y, len(X), "multiclass")
        if len(labels.classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of at least 2 classes, got one class: "
                f"{labels.classes[0]!r}."
            )
        names = getattr(self, "feature_names_in_", None)
        columns = ModelColumns(X, categorical_mask(self.categorical_features, X.shape[1], names))
        gamma = scale_gamma(columns.unit) if self.gamma == "scale" else self.gamma
        rng = local_random_state(self.random_state)
        engine = make_engine(self.engine, self.device, self.n_jobs)
        rows = columns.encode(X)
        with threadpool_limits(limits=1, user_api="blas"):
            model = fit_model(
                engine,
                rows,
                (labels.values - labels.values.mean(axis=0)) / labels.values.std(axis=0),
                labels.codes,
                columns.unit,
                rng,
                shrinkage=self.shrinkage,
                smoothing=False,
                max_landmarks=self.max_landmarks,
                max_iter=self.max_iter,
                tol=self.tol,
            )
            Z, V = expected_rows(engine, model, model.landmarks[:, : len(columns)])
            self._columns, self._model, self.gamma_ = columns, model, gamma
            self.landmarks_, self.landmark_variances_ = Z, V
            if len(Z) == len(X):
                kernel = landmark_kernel(
                    engine,
                    model,
                    machine(labels, self.C),
                    gamma=gamma,
                    kappa=self.kappa,
                    perturbation=self.perturbation,
                )
                self.dual_coef_, self.intercept_ = kernel.dual_coef, kernel.intercept
            else:
                self.dual_coef_, self.intercept_ = self._fit_nystrom(engine, rows, labels.signs())
        self.classes_ = labels.classes
        self.landmark_indices_ = model.landmark_indices
        self.shrinkage_ = model.shrinkage
        self.n_iter_ = len(model.changes)
        return self

    def decision_function(self, X):
        """Signed distances to the machines' boundaries.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, possibly with holes.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            With two classes, positive for ``classes_[1]``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        engine = make_engine(self.engine, self.device, self.n_jobs)
        with threadpool_limits(limits=1, user_api="blas"):
            rows = self._columns.encode(X)
            scores = np.vstack(
                [K @ self.dual_coef_ + self.intercept_ for K in self._kernel_batches(engine, rows)]
            )
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """Predict classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, possibly with holes.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        scores = self.decision_function(X)
        indices = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[indices]

    def _kernel_batches(self, engine, rows):
        """Kernels of batches of rows to the landmarks."""
        for batch in gen_batches(len(rows), _BATCH):
            Z, V = expected_rows(engine, self._model, rows[batch])
            yield engine.expected_kernel(
                Z, V, self.landmarks_, self.landmark_variances_, self.gamma_
            )

    def _fit_nystrom(self, engine, rows, signs):
        r"""Linear machines on :math:`K_{nm} K_{mm}^{-1/2}`, written as dual coefficients."""
        K = engine.expected_kernel(
            self.landmarks_,
            self.landmark_variances_,
            self.landmarks_,
            self.landmark_variances_,
            self.gamma_,
        )
        values, vectors = np.linalg.eigh(K)
        kept = values > 1e-10 * values[-1]
        root = vectors[:, kept] / np.sqrt(values[kept])
        features = np.empty((len(rows), root.shape[1]))
        first = 0
        for batch in self._kernel_batches(engine, rows):
            features[first : first + len(batch)] = batch @ root
            first += len(batch)
        weights, intercept = squared_hinge_machines(features, signs, self.C)
        return root @ weights, intercept

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_iter_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
