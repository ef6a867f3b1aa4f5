"""Classification of samples with missing values."""

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import Tags, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_y,
    check_is_fitted,
    validate_data,
)
from threadpoolctl import threadpool_limits

from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._typing import Array, FloatArray, RandomState
from ..utils._validation import check_class_labels
from ..utils._warnings import warn_caller
from ..utils.compat import CallbackSupportMixin, FitTasks, with_callbacks
from ._label_columns import LabelColumns, encode_labels
from ._model_columns import learn_columns
from ._supervised_kernel import (
    KernelMachine,
    SupervisedKernelConfig,
    fit_kernel_machine,
    machine_scores,
    resolve_gamma,
)
from ._tables import InputTable
from ._validation import feature_mask
from .gaussian import GaussianImputerConfig, fit_gaussian_imputer, make_engine

if TYPE_CHECKING:
    import torch


class SupervisedKernelClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    r"""Support vector machine on the expected kernel of samples with missing values.

    A joint Gaussian model of features and labels gives each missing value a mean and a variance,
    from the observed entries of its sample. The machine uses the expectation of the Gaussian kernel
    under this model, so a sample with few observed entries is similar to no other. Labels then
    correct the kernel, entry by entry, to make the classes easier to separate. With more than ten
    classes, the machines minimize the squared loss, for which they share one factorization.

    Samples may have missing values in `fit` and in `predict`.

    Parameters
    ----------
    C : float, default=1.0
        Penalty of the support vector machine.

    gamma : float or "scale", default="scale"
        Coefficient of squared distances in the kernel, in units of the features' ranges. "scale" is
        the reciprocal of the product of the number of columns and their mean variance.

    class_weight : dict, "balanced" or None, default=None
        Factor of `C` for the samples of each class; the factor is 1 for a class that the dict
        lacks. "balanced" weights classes by the reciprocal of their frequency in `fit`.

    kappa : float in [0, 1], default=0.1
        Largest relative change that the labels make to an entry of the kernel. 0 leaves the
        expected kernel unchanged. The kernel is corrected only if all training samples are
        landmarks.

    perturbation : float, default=0.0
        Radius of the worst-case perturbation of the kernel that the machine is trained against, per
        sample and fraction of missing entries. The paper uses 0.2.

    shrinkage : float in [0, 1) or "auto", default="auto"
        Fraction by which covariances of the Gaussian model are shrunk. 0 is maximum likelihood;
        values near 1 impute column means. "auto" chooses by predicting observed entries that are
        hidden from the fit.

    max_iter : int, default=30
        Maximum number of iterations of the Gaussian model.

    tol : float, default=1e-3
        Iterations stop when the covariance changes by less than this fraction of the largest
        variance.

    max_landmarks : int, default=1000
        Maximum number of training samples that the kernel is computed on. With more training
        samples, the machine is linear on Nyström features from this many of them and uses the
        squared hinge loss; its training time is linear in the number of samples.

    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Features whose values are categories. "from_dtype" selects columns of strings, categories
        and booleans. A mask, indices or feature names select other features, too, whose values are
        codes. None accepts only numbers.

    engine : {"auto", "numba", "torch"}, default="auto"
        Library that computes the Gaussian model and its kernels. "auto" means numba on the CPU and
        torch on other devices.

    device : str, torch.device or None, default=None
        Device of the torch engine: "cpu", "cuda", or "auto" for the best one available. None means
        the CPU. All computations use float64, which "mps" does not support.

    n_jobs : int or None, default=None
        Number of threads of the numba engine. Results do not depend on it.

    random_state : int, RandomState instance or None, default=None
        Seed for the hidden entries and for random subsets of samples.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    dual_coef_ : ndarray of shape (n_landmarks, n_machines)
        Signed dual coefficients of one machine for two classes, or of one for each class if there
        are more.

    intercept_ : ndarray of shape (n_machines,)
        Intercepts of the machines.

    landmark_indices_ : ndarray of shape (n_landmarks,)
        Indices of the landmarks among the training samples.

    landmarks_ : ndarray of shape (n_landmarks, n_columns)
        Conditional means of the landmarks, in units of the columns' ranges.

    landmark_variances_ : ndarray of shape (n_landmarks, n_columns)
        Conditional variances of the landmarks, in squared units; 0 at observed entries.

    gamma_ : float
        Coefficient of squared distances in the kernel.

    shrinkage_ : float
        Fraction by which covariances are shrunk.

    n_iter_ : int
        Number of iterations of the Gaussian model.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    SupervisedKernelImputer : Imputes missing values for any other estimator.
    sklearn.svm.SVC : The same machine for complete samples.

    Notes
    -----
    Wrap the classifier in :class:`~sklearn.calibration.CalibratedClassifierCV` if you need
    probabilities.

    The correction is not defined for new samples. It affects them only through the dual
    coefficients.

    References
    ----------
    .. [1] R. Yang, F. He, M. He, K. Wang, X. Huang, "Data Imputation by Pursuing Better
       Classification: A Supervised Kernel-Based Method", arXiv:2405.07800, 2024.

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
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "kappa": [Interval(Real, 0, 1, closed="both")],
        "perturbation": [Interval(Real, 0, None, closed="left")],
        "shrinkage": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_landmarks": [Interval(Integral, 1, None, closed="left")],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
        "engine": [StrOptions({"auto", "numba", "torch"})],
        "device": "no_validation",  # make_engine validates it
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
        gamma: float | str = "scale",
        class_weight: dict[Any, float] | str | None = None,
        kappa: float = 0.1,
        perturbation: float = 0.0,
        shrinkage: float | str = "auto",
        max_iter: int = 30,
        tol: float = 1e-3,
        max_landmarks: int = 1000,
        categorical_features: ArrayLike | None = "from_dtype",
        engine: str = "auto",
        device: "str | torch.device | None" = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight
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
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit the Gaussian model, then the machine on its expected kernel.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples. NaN marks missing values.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        self : SupervisedKernelClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If X contains infinite values, if y has only one class, if a parameter is out of range,
            or if `class_weight` names an unknown class.
        TypeError
            If X contains anything but numbers, strings, categories and booleans.
        """
        validate_data(self, X, y, skip_check_array=True)  # refuses y=None
        table = InputTable.learn(self, X, np.nan)
        raw = table.encode(self, X)
        y = _check_y(y, estimator=self)
        check_consistent_length(raw, y)
        check_class_labels(np.asarray(y))
        labels = encode_labels(y, len(raw), "multiclass")
        if labels.classes is None or len(labels.classes) < 2:
            raise ValueError(
                f"{type(self).__name__} requires samples of at least 2 classes, got one class: "
                f"{np.unique(y).tolist()[0]!r}."
            )
        mask = feature_mask(
            "categorical_features",
            self.categorical_features,
            table.is_category,
            getattr(self, "feature_names_in_", None),
        )
        columns = learn_columns(raw, mask)
        is_empty = np.isnan(raw).all(axis=0)
        if is_empty.any():
            names = _check_feature_names_in(self, None)[is_empty]
            warn_caller(f"Ignoring features without any observed values: {names}.")
        samples = columns.encode(raw)
        engine = make_engine(self.engine, self.device, self.n_jobs)
        config = SupervisedKernelConfig(
            gamma=resolve_gamma(self.gamma, columns.units),
            C=self.C,
            kappa=self.kappa,
            perturbation=self.perturbation,
            class_weight=self._check_class_weight(labels),
        )
        tasks = FitTasks(self, None, X, y)
        with threadpool_limits(limits=1, user_api="blas"):
            model = fit_gaussian_imputer(
                samples,
                labels.values,
                GaussianImputerConfig(
                    shrinkage=self.shrinkage,
                    residual_smoothing=False,
                    max_landmarks=self.max_landmarks,
                    max_iter=self.max_iter,
                    tol=self.tol,
                ),
                local_random_state(self.random_state),
                strata=labels.codes,
                units=columns.units,
                reliability=columns.reliability,
                engine=engine,
                after_task=tasks,
            )
            machine = fit_kernel_machine(model, samples, labels, config, engine)
        self._table, self._columns, self._model = table, columns, model
        self.gamma_ = config.gamma
        self.landmarks_, self.landmark_variances_ = machine.landmarks, machine.variances
        self.dual_coef_, self.intercept_ = machine.dual_coef, machine.intercept
        self.classes_: Array = labels.classes
        self.landmark_indices_ = model.landmark_indices
        self.shrinkage_ = model.shrinkage
        self.n_iter_ = len(model.changes)
        tasks.end()
        return self

    def decision_function(self, X: ArrayLike) -> FloatArray:
        """Compute signed distances to the decision boundaries.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, possibly with missing values.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            One value per sample for two classes, positive for ``classes_[1]``; one value per class
            otherwise.
        """
        check_is_fitted(self)
        raw = self._table.encode(self, X)
        machine = KernelMachine(
            self.landmarks_, self.landmark_variances_, self.dual_coef_, self.intercept_
        )
        engine = make_engine(self.engine, self.device, self.n_jobs)
        with threadpool_limits(limits=1, user_api="blas"):
            samples = self._columns.encode(raw)
            scores = machine_scores(self._model, machine, samples, self.gamma_, engine)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> Array:
        """Predict classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, possibly with missing values.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        scores = self.decision_function(X)
        indices = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        predicted: Array = self.classes_[indices]
        return predicted

    def _check_class_weight(self, labels: LabelColumns) -> tuple[float, ...] | None:
        """Return the weight of every class, or None if all are 1."""
        if self.class_weight is None:
            return None
        classes, counts = np.unique(labels.codes, return_counts=True)
        if isinstance(self.class_weight, str):
            return tuple((len(labels.codes) / (len(classes) * counts)).tolist())
        known = np.asarray(labels.classes).tolist()
        for name, weight in self.class_weight.items():
            if name not in known:
                raise ValueError(
                    f"class_weight must name classes of y, which are {known}, got {name!r}."
                )
            if not 0.0 < weight < np.inf:
                raise ValueError(
                    "class_weight must have positive and finite weights, got "
                    f"{weight!r} for class {name!r}."
                )
        return tuple(float(self.class_weight.get(name, 1.0)) for name in known)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_iter_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        return tags
