"""Imputation guided by labels."""

from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.impute._base import _BaseImputer
from sklearn.utils import Tags, metadata_routing
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted
from threadpoolctl import threadpool_limits

from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._typing import Array, BoolArray, FloatArray, IntArray, RandomState
from ..utils._warnings import warn_caller
from ..utils.compat import CallbackSupportMixin, FitTasks, with_callbacks
from ._category_models import fit_category_models
from ._completion import (
    CompletedTable,
    TableModel,
    complete_by_draws,
    complete_by_indicators,
    complete_by_means,
)
from ._label_columns import LabelColumns, encode_labels
from ._model_columns import ModelColumns, learn_columns
from ._supervised_kernel import (
    SupervisedKernelConfig,
    dual_solver,
    fit_landmark_kernel,
    resolve_gamma,
)
from ._tables import InputTable, allows_nan
from ._validation import (
    check_two_stage_data,
    clip_limits,
    feature_index,
    feature_mask,
)
from .gaussian import (
    GaussianEngine,
    GaussianImputation,
    GaussianImputerConfig,
    fit_gaussian_imputer,
    make_engine,
)
from .published import (
    CorrectedKernel,
    TwoStageConfig,
    TwoStageImputation,
    fit_centered_two_stage_imputer,
    fit_two_stage_imputer,
)

if TYPE_CHECKING:
    import torch


class SupervisedKernelImputer(CallbackSupportMixin, _BaseImputer):
    r"""Impute missing values with a joint Gaussian model of features and labels.

    The default solver fits the mean and covariance of features and labels together by expectation
    maximization. Covariances are shrunk by a fraction that is chosen by hiding observed entries.
    Each missing value is replaced by its conditional mean given the observed entries of its sample.
    Smoothed residuals of similar samples are added if this predicts hidden entries better. Labels
    are used in `fit` and `fit_transform`. `transform` neither takes nor needs them, so test labels
    cannot leak.

    ``solver="two_stage"`` is the method of the paper [1]_: it learns a kernel that separates the
    classes, and then finds values whose Gaussian kernel is the learned one. :meth:`from_paper` sets
    it up as published. This solver is kept for comparison; its errors exceed those of column means
    on most data.

    Parameters
    ----------
    missing_values : int, float, np.nan or pandas.NA, default=np.nan
        Placeholder for missing values.

    solver : {"regression", "two_stage"}, default="regression"
        The joint Gaussian model, or the two-stage method.

    center : {"observed", "base"}, default="observed"
        Kernel toward which ``solver="two_stage"`` pulls the corrected kernel. "observed" is the
        kernel on common features, as in the paper; it requires labels of two classes. "base" is the
        kernel of an imputation by the Gaussian model, which repairs the method.

    bounds : {"code", "exact"}, default="code"
        Lower bounds of the correction for ``solver="two_stage"``: those of the authors' program, or
        those that values in the features' ranges allow.

    gamma : float or "scale", default="scale"
        Coefficient of squared distances in the kernel, in units of the features' ranges. "scale" is
        the reciprocal of the product of the number of columns and their mean variance.

    C : float, default=1.0
        Penalty of the support vector machine that corrects the kernel.

    eta : float or "auto", default="auto"
        Weight that keeps the correction near one, for ``solver="two_stage"``. "auto" means the norm
        of the dual coefficients on mean-imputed samples.

    kappa : float in [0, 1], default=0.1
        Largest relative change that the labels make to an entry of the kernel.
        ``solver="two_stage"`` with ``center="observed"`` does not use it.

    perturbation : float, default=0.0
        Radius of the worst-case perturbation of the kernel that the machine is trained against, per
        sample and fraction of missing entries. The paper uses 0.2.

    shrinkage : float in [0, 1) or "auto", default="auto"
        Fraction by which covariances of the Gaussian model are shrunk. 0 is maximum likelihood;
        values near 1 impute column means. "auto" chooses by predicting observed entries that are
        hidden from the fit.

    residual_smoothing : bool, default=True
        Whether smoothed residuals of similar samples may be added to the conditional means. They
        are added if this lowers the error on hidden entries by two percent.

    condition_on_y : bool, default=True
        Whether `fit_transform` uses the labels of the training samples to impute them. False treats
        training samples as `transform` treats new samples.

    target_type : {"auto", "multiclass", "continuous"}, default="auto"
        Type of the labels. "auto" treats strings, booleans, and whole numbers with at most 20
        distinct values as classes, and all other numbers as targets. Pass "multiclass" if more
        than 20 whole numbers are codes of classes. Each class has an indicator column in the model;
        with more than 101 classes, only the 100 most frequent ones do.

    sample_posterior : bool, default=False
        Whether to draw imputed values from their posterior instead of taking its mean or its most
        probable category. Categories are drawn one feature after the other, each given those drawn
        before; numbers are drawn given all categories. The draw depends on `random_state` only, so
        ``set_params(random_state=k)`` selects the k-th of several imputations from one fitted
        model. :func:`~sklearn_ext.impute.pool_estimates` pools models of many draws.

    max_iter : int or None, default=None
        Maximum number of iterations. None means 30 for ``solver="regression"`` and 10,000 for
        ``solver="two_stage"``.

    tol : float or None, default=None
        Tolerance for stopping the iterations. ``solver="regression"`` compares it to the change of
        the covariance as a fraction of the largest variance, and None means 1e-3.
        ``solver="two_stage"`` compares it to the change of the dual coefficients, and None means
        1e-4.

    clip : bool or (low, high), default=True
        Whether imputed values are clipped to the observed range of the feature in the training
        samples. A pair of numbers, or of arrays of shape (n_features,), sets other limits. Neither
        True nor False clips the draws of ``sample_posterior=True``, because clipping would bias
        their mean and spread; with a pair, they come from the truncated Gaussian.

    max_landmarks : int, default=1000
        Number of training samples that kernels and residual smoothing use.

    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Features whose values are categories. "from_dtype" selects columns of strings, categories
        and booleans. A mask, indices or feature names select other features, too, whose values are
        codes. None accepts only numbers.

    integer_features : "from_dtype", array-like or None, default="from_dtype"
        Features whose imputed values are rounded to whole numbers. "from_dtype" selects columns of
        an integer type. A mask, indices or feature names select other features, too.

    keep_empty_features : bool, default=False
        Whether to keep features without any observed value in `fit`, and fill them with 0.

    add_indicator : bool, default=False
        Whether to append a :class:`~sklearn.impute.MissingIndicator`.

    engine : {"auto", "numba", "torch"}, default="auto"
        Library that computes the Gaussian model and its kernels. "auto" means numba on the CPU and
        torch on other devices.

    device : str, torch.device or None, default=None
        Device of the torch engine: "cpu", "cuda", or "auto" for the best one available. None means
        the CPU. All computations use float64, which "mps" does not support.

    n_jobs : int or None, default=None
        Number of threads of the numba engine. Results do not depend on it.

    random_state : int, RandomState instance or None, default=None
        Seed for the hidden entries, random subsets of samples, and posterior draws.

    verbose : int, default=0
        If positive, a summary line is printed after `fit`.

    Attributes
    ----------
    location_ : ndarray of shape (n_columns,)
        Mean of the Gaussian model in the units of the data, features first and label columns last.
        A categorical feature with k values has k - 1 columns, but at most 29. Only with
        ``solver="regression"``.

    covariance_ : ndarray of shape (n_columns, n_columns)
        Covariance of the Gaussian model, computed at each access. Only with
        ``solver="regression"``.

    shrinkage_ : float
        Fraction by which covariances are shrunk. Only with ``solver="regression"``.

    smoothing_ : Smoothing or None
        Kernel coefficient, prior mass and error ratio of the residual smoothing; None if smoothing
        does not help. Only with ``solver="regression"``.

    gamma_ : float
        Coefficient of squared distances in the kernel.

    kernel_ : ndarray of shape (n_landmarks, n_landmarks)
        Kernel between landmarks, corrected by labels. This attribute and the next four are computed
        at each access, because `fit` does not need them.

    kernel_initial_ : ndarray of shape (n_landmarks, n_landmarks)
        The kernel without correction: the expected kernel under the posterior of the missing
        values, or the kernel that `center` selects.

    kernel_factor_ : ndarray of shape (n_landmarks, n_landmarks)
        The correction, ``kernel_ / kernel_initial_``.

    dual_coef_ : ndarray of shape (n_landmarks, n_machines)
        Signed dual coefficients of the machines on the corrected kernel. There is one machine for
        two classes, one per class for more classes, one ridge regression per target, and none
        without labels.

    intercept_ : ndarray of shape (n_machines,)
        Intercepts of the machines.

    landmark_indices_ : ndarray of shape (n_landmarks,)
        Indices of the landmarks among the training samples.

    feature_range_ : ndarray of shape (2, n_features_in_)
        Smallest and largest observed value of each feature, or code of a category.

    categories_ : list of ndarray or None
        Categories of each categorical feature in the order of their codes; None for other features.

    classes_ : ndarray or None
        Class labels; None if the labels are not classes.

    loss_curve_ : ndarray of shape (n_iter_,)
        Relative change of the covariance by iteration, or objective of stage I.

    n_iter_ : int
        Number of iterations.

    indicator_ : MissingIndicator or None
        The indicator if `add_indicator` is True.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    SupervisedKernelClassifier : Classifier of samples with missing values.
    sklearn.impute.IterativeImputer : Imputation by one regression per feature in turn.

    Notes
    -----
    The conditional distribution of a missing value is Gaussian. ``transform(X, return_std=True)``
    returns its standard deviation, and ``sample_posterior=True`` draws from it. Both treat the
    fitted mean and covariance as exact. The standard deviation of each feature is multiplied by the
    ratio of actual to expected errors of its observed entries, each predicted from the rest of its
    sample.

    Data frames of pandas and polars are returned as data frames with the types that their columns
    had in `fit`. If all columns are floats of one type, the result is an array, as from
    scikit-learn's imputers, unless `set_output` asks for a frame. Columns may be numbers,
    strings, categories or booleans, nullable or not.

    The probabilities of a missing category come from a multinomial logistic regression on the
    conditional means of the other columns, and its most probable value is imputed;
    :meth:`category_probabilities` returns them. In a feature with more than 30 categories, the rare
    ones share an indicator column, and its probability is divided by their frequencies. A category
    that was not seen in `fit` is kept, and the other features of the sample are imputed as if it
    were missing.

    Few samples say little about the effect of a category on other features. In addition to the
    common shrinkage, the covariances of the indicator of k samples are therefore multiplied by
    k / (k + 10), as if ten more samples of the category were average.

    An iteration costs :math:`O(\sum_i \min(m_i^3, o_i^3 + d^2 o_i))` for samples with m missing and
    o observed entries; samples with the same pattern of missing values share it. Covariances are
    fitted to at most 20,000 random samples, so time and memory of `fit` are linear in the number of
    samples.

    With more than 100 columns, and fewer samples than columns or much work for a full covariance,
    the covariance is that of at most 32 common factors and independent noise. The cost is then
    linear in the number of columns. NumPy computes it, regardless of `engine`.

    References
    ----------
    .. [1] R. Yang, F. He, M. He, K. Wang, X. Huang, "Data Imputation by Pursuing Better
       Classification: A Supervised Kernel-Based Method", arXiv:2405.07800, 2024.
    .. [2] A. P. Dempster, N. M. Laird, D. B. Rubin, "Maximum Likelihood from Incomplete Data via
       the EM Algorithm", Journal of the Royal Statistical Society B 39, 1977.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import SupervisedKernelImputer
    >>> X, y = load_iris(return_X_y=True)
    >>> missing = np.random.RandomState(0).rand(*X.shape) < 0.5
    >>> imputer = SupervisedKernelImputer(random_state=0)
    >>> imputed = imputer.fit_transform(np.where(missing, np.nan, X), y)
    >>> bool(np.array_equal(imputed[~missing], X[~missing]))
    True
    >>> def error(imputed):
    ...     return float(np.sqrt(np.mean((imputed - X)[missing] ** 2)))
    >>> error(imputed) < 0.6 * error(np.broadcast_to(X.mean(axis=0), X.shape))
    True
    >>> _, std = imputer.transform([[5.1, np.nan, np.nan, 0.2]], return_std=True)
    >>> std.round(1)
    array([[0. , 0.3, 0.5, 0. ]])
    """

    _parameter_constraints = {
        **_BaseImputer._parameter_constraints,
        "solver": [StrOptions({"regression", "two_stage"})],
        "center": [StrOptions({"observed", "base"})],
        "bounds": [StrOptions({"code", "exact"})],
        "gamma": [StrOptions({"scale"}), Interval(Real, 0, None, closed="neither")],
        "C": [Interval(Real, 0, None, closed="neither")],
        "eta": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "kappa": [Interval(Real, 0, 1, closed="both")],
        "perturbation": [Interval(Real, 0, None, closed="left")],
        "shrinkage": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "residual_smoothing": ["boolean"],
        "condition_on_y": ["boolean"],
        "target_type": [StrOptions({"auto", "multiclass", "continuous"})],
        "sample_posterior": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "clip": ["boolean", tuple, list],
        "max_landmarks": [Interval(Integral, 1, None, closed="left")],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
        "integer_features": [StrOptions({"from_dtype"}), "array-like", None],
        "engine": [StrOptions({"auto", "numba", "torch"})],
        "device": "no_validation",  # make_engine validates it
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    __metadata_request__transform = {"return_std": metadata_routing.UNUSED}

    def __init__(
        self,
        *,
        missing_values: Any = np.nan,
        solver: str = "regression",
        center: str = "observed",
        bounds: str = "code",
        gamma: float | str = "scale",
        C: float = 1.0,
        eta: float | str = "auto",
        kappa: float = 0.1,
        perturbation: float = 0.0,
        shrinkage: float | str = "auto",
        residual_smoothing: bool = True,
        condition_on_y: bool = True,
        target_type: str = "auto",
        sample_posterior: bool = False,
        max_iter: int | None = None,
        tol: float | None = None,
        clip: bool | tuple[ArrayLike, ArrayLike] = True,
        max_landmarks: int = 1000,
        categorical_features: ArrayLike | None = "from_dtype",
        integer_features: ArrayLike | None = "from_dtype",
        keep_empty_features: bool = False,
        add_indicator: bool = False,
        engine: str = "auto",
        device: "str | torch.device | None" = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            missing_values=missing_values,
            add_indicator=add_indicator,
            keep_empty_features=keep_empty_features,
        )
        self.solver = solver
        self.center = center
        self.bounds = bounds
        self.gamma = gamma
        self.C = C
        self.eta = eta
        self.kappa = kappa
        self.perturbation = perturbation
        self.shrinkage = shrinkage
        self.residual_smoothing = residual_smoothing
        self.condition_on_y = condition_on_y
        self.target_type = target_type
        self.sample_posterior = sample_posterior
        self.max_iter = max_iter
        self.tol = tol
        self.clip = clip
        self.max_landmarks = max_landmarks
        self.categorical_features = categorical_features
        self.integer_features = integer_features
        self.engine = engine
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def from_paper(cls, **params: Any) -> Self:
        """Return an imputer that uses the two-stage method as published.

        It sets ``solver="two_stage"``, ``center="observed"``, ``bounds="code"``, ``eta="auto"`` and
        ``perturbation=0.2``. Stage I then solves the min-max problem of the paper, whose worst-case
        perturbation has a radius of 0.2 times the number of samples times the fraction of missing
        entries. Stage II minimizes the differences between squared distances and those of the
        learned kernel. The formulas are in :func:`~sklearn_ext.impute.fit_two_stage_imputer`. The
        paper tunes `C` and `gamma` on complete validation samples.

        Parameters
        ----------
        **params : dict
            Other constructor parameters, or values that replace those above.

        Returns
        -------
        SupervisedKernelImputer
            The unfitted imputer.

        Examples
        --------
        >>> from sklearn_ext import SupervisedKernelImputer
        >>> SupervisedKernelImputer.from_paper(C=2.0)
        SupervisedKernelImputer(C=2.0, perturbation=0.2, solver='two_stage')
        """
        paper: dict[str, Any] = {
            "solver": "two_stage",
            "center": "observed",
            "bounds": "code",
            "eta": "auto",
            "perturbation": 0.2,
        }
        return cls(**(paper | params))

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the model of features and labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples with missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Class labels or targets. NaN and None mark missing labels.

        Returns
        -------
        self : SupervisedKernelImputer
            The fitted imputer.

        Raises
        ------
        ValueError
            If X contains infinite values, if X and y differ in length, if a parameter is out of
            range, or if the solver cannot use these labels or this many samples.
        TypeError
            If X contains anything but numbers, strings, categories and booleans.
        """
        self._delete_fitted_attributes()
        self._table = InputTable.learn(self, X, self.missing_values)
        raw = self._table.encode(self, X)
        labels = encode_labels(y, len(raw), self.target_type)
        is_category = self._feature_mask("categorical_features", self._table.is_category)
        columns = learn_columns(raw, is_category)
        limits = clip_limits(self.clip, columns.feature_range)
        samples = columns.encode(raw)
        if self.solver == "two_stage":
            check_two_stage_data(
                labels,
                len(raw),
                center=self.center,
                sample_posterior=self.sample_posterior,
                max_iter=TwoStageConfig.max_iter if self.max_iter is None else self.max_iter,
            )
        engine = self._engine()  # also validates the parameters engine and device
        tasks = FitTasks(self, None, X, y)
        gaussian, two_stage, categories = None, None, []
        rng = local_random_state(self.random_state)
        with threadpool_limits(limits=1, user_api="blas"):
            if self.solver == "regression" or self.center == "base":
                gaussian = fit_gaussian_imputer(
                    samples,
                    labels.values,
                    self._gaussian_config(),
                    rng,
                    strata=labels.codes,
                    units=columns.units,
                    reliability=columns.reliability,
                    engine=engine,
                    after_task=tasks,
                )
            if self.solver == "two_stage":
                two_stage = self._fit_two_stage(samples, labels, columns, gaussian, tasks)
            elif gaussian is not None:
                after = partial(tasks, "category")
                categories = fit_category_models(
                    gaussian, samples, labels.values, columns, raw, rng, engine, after
                )

        self._columns, self._limits = columns, limits
        self._labels = labels.take(np.empty(0, dtype=int))  # encodes other labels in the same way
        self._is_integer = self._feature_mask("integer_features", self._table.is_integer)
        missing = np.isnan(raw)
        self._fit_indicator(missing)
        self._empty = missing.all(axis=0)
        self._kept = ~self._empty | self.keep_empty_features
        self._set_solver_attributes(gaussian, two_stage, labels)
        self._model = TableModel(columns, self._imputation, categories, two_stage is not None)
        self.feature_range_ = columns.feature_range
        self.categories_: list[Array | None] = [None] * raw.shape[1]
        for p in np.flatnonzero(is_category):
            values = np.unique(raw[~missing[:, p], p])
            self.categories_[p] = self._table.decode(int(p), values)
        self.classes_ = labels.classes
        self.n_iter_ = len(self.loss_curve_)
        if self.verbose > 0:
            print(
                f"[SupervisedKernelImputer] {self.n_iter_} iterations, "
                f"{missing.mean():.1%} of {missing.size} entries missing"
            )
        tasks.end()
        return self

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: ArrayLike, y: ArrayLike | None = None) -> Array:
        """Learn the model and impute the training samples, using their labels.

        The result differs from ``fit(X, y).transform(X)``, which does not use labels to impute,
        unless ``condition_on_y=False`` or y is None.
        :class:`~sklearn.preprocessing.TargetEncoder` also treats training samples differently.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples with missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Class labels or targets. NaN and None mark missing labels.

        Returns
        -------
        ndarray or data frame of shape (n_samples, n_features_out)
            The samples without missing values.

        Raises
        ------
        ValueError, TypeError
            As in `fit`.
        """
        self.fit(X, y)
        if self._two_stage is None:
            return self.impute_labeled(X, y if self.condition_on_y else None)
        raw = self._table.encode(self, X)
        completed = self._complete(raw)
        if self.condition_on_y:
            Z = self._columns.from_unit_interval(self._two_stage.completed)
            completed = complete_by_indicators(self._columns, raw, Z)
        return self._output(X, raw, completed)

    def impute_labeled(self, X: ArrayLike, y: ArrayLike | None) -> Any:
        """Impute missing values from the observed entries and the labels of their samples.

        `fit_transform` imputes training samples in this way. For samples to predict, use
        `transform`, which needs no labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples with missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), or None
            Labels as in `fit`. NaN, None and unknown classes are missing labels.

        Returns
        -------
        ndarray or data frame of shape (n_samples, n_features_out)
            The samples without missing values, as from `transform` but without the output that
            `set_output` asks for.

        Raises
        ------
        ValueError
            If X does not have the features seen during fit, if X and y differ in length, or if the
            solver does not provide a conditional distribution.
        """
        check_is_fitted(self)
        self._gaussian_model("impute_labeled")
        raw = self._table.encode(self, X)
        labels = None if y is None else self._labels.encode(y, len(raw))
        return self._output(X, raw, self._complete(raw, labels))

    def transform(self, X: ArrayLike, return_std: bool = False) -> Any:
        """Impute missing values from the observed entries of their samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples with missing values.
        return_std : bool, default=False
            Whether to also return standard deviations. Requires ``solver="regression"``.

        Returns
        -------
        X : ndarray or data frame of shape (n_samples, n_features_out)
            The samples without missing values. Observed entries are bit-identical.
        std : ndarray of shape (n_samples, n_features_out)
            Standard deviation of each imputed value given the observed entries of its sample, in
            the unit of the feature; 0 at observed entries. A categorical feature has the standard
            deviation of the indicator of the imputed category. Only if `return_std` is True.

        Raises
        ------
        ValueError
            If X does not have the features seen during fit, or if the solver does not provide
            standard deviations.
        """
        check_is_fitted(self)
        if return_std:
            self._gaussian_model("return_std=True")
        raw = self._table.encode(self, X)
        completed = self._complete(raw)
        imputed = self._output(X, raw, completed)
        if not return_std:
            return imputed
        std = self._columns.deviations(raw, completed.V, completed.probabilities)[:, self._kept]
        n_indicators = imputed.shape[1] - std.shape[1]
        return imputed, np.pad(std, ((0, 0), (0, n_indicators)))

    def category_probabilities(self, X: ArrayLike, feature: int | str) -> FloatArray:
        """Return the distribution of a categorical feature, given the rest of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples with missing values.
        feature : int or str
            Index or name of a categorical feature.

        Returns
        -------
        ndarray of shape (n_samples, n_categories)
            Probabilities of ``categories_[feature]`` where the feature is missing. Where it is
            observed, the observed category has probability one; all are zero for a category that
            was not seen in `fit`.

        Raises
        ------
        ValueError
            If the feature is unknown or not categorical.

        Examples
        --------
        >>> import pandas as pd
        >>> from sklearn_ext import SupervisedKernelImputer
        >>> sizes = pd.DataFrame({"size": ["S", "M", "L"] * 30, "cm": [160.0, 172.0, 185.0] * 30})
        >>> imputer = SupervisedKernelImputer(random_state=0).fit(sizes)
        >>> new = pd.DataFrame({"size": [None, "S"], "cm": [184.0, 172.0]})
        >>> imputer.transform(new)["size"].tolist()
        ['L', 'S']
        >>> imputer.categories_[0]
        array(['L', 'M', 'S'], dtype=object)
        >>> imputer.category_probabilities(new, "size").round(2)
        array([[0.96, 0.03, 0.  ],
               [0.  , 0.  , 1.  ]])
        """
        check_is_fitted(self)
        p = feature_index(feature, self.n_features_in_, getattr(self, "feature_names_in_", None))
        raw = self._table.encode(self, X)
        known = self.categories_[p]
        if known is None:
            raise ValueError(f"feature must be a categorical feature, got {feature!r}.")
        values: FloatArray = np.arange(len(known), dtype=float)
        for category in self._columns.categories:
            if category.feature == p:
                values = category.values
        P = np.equal(raw[:, [p]], values).astype(float)
        P[np.isnan(raw[:, p])] = 1.0 / max(len(values), 1)
        with threadpool_limits(limits=1, user_api="blas"):
            found = complete_by_means(self._model, raw, None, self._engine()).probabilities
        if p in found:
            P[np.isnan(raw[:, p])] = found[p]
        return P

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Score how well each observed entry is predicted from the others of its sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, complete or with missing values.
        y : None
            Ignored. Labels do not enter the predictions.

        Returns
        -------
        float
            One minus the mean squared error in units of the training variances, over all observed
            entries of features that vary. 1 is perfect, and column means score about 0.

        Raises
        ------
        ValueError
            If the solver does not provide a conditional distribution.
        """
        check_is_fitted(self)
        model = self._gaussian_model("score")
        samples = self._columns.encode(self._table.encode(self, X))
        with threadpool_limits(limits=1, user_api="blas"):
            left_out, _ = model.leave_one_out(samples, engine=self._engine())
        return 1.0 - float(np.nanmean((samples - left_out) ** 2))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> Array:
        """Return the names of the output features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the input features. None means those seen during fit, or else x0, x1, ...

        Returns
        -------
        ndarray of str
            Names of the kept features, then those of the indicators.
        """
        check_is_fitted(self)
        names_in: Array = _check_feature_names_in(self, input_features)
        names_out: Array = self._concatenate_indicator_feature_names_out(
            names_in[self._kept], names_in
        )
        return names_out

    @property
    def covariance_(self) -> FloatArray:
        """Covariance of the Gaussian model in the units of the data."""
        if getattr(self, "_two_stage", None) is not None or not hasattr(self, "_imputation"):
            raise AttributeError("covariance_ is available after a fit with solver='regression'.")
        return self._moments(self._gaussian_model("covariance_"))[1]

    @property
    def kernel_initial_(self) -> FloatArray:
        """Kernel between landmarks without correction."""
        return self._kernel().initial

    @property
    def kernel_factor_(self) -> FloatArray:
        """Factor by which the labels change each entry of the kernel."""
        return self._kernel().factor

    @property
    def kernel_(self) -> FloatArray:
        """Corrected kernel between landmarks."""
        kernel = self._kernel()
        return kernel.initial * kernel.factor

    @property
    def dual_coef_(self) -> FloatArray:
        """Signed dual coefficients of the machines on the corrected kernel."""
        return self._kernel().dual_coef

    @property
    def intercept_(self) -> FloatArray:
        """Intercepts of the machines on the corrected kernel."""
        return self._kernel().intercept

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_iter_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = allows_nan(self.missing_values)
        tags.input_tags.string = True
        return tags

    def _gaussian_config(self) -> GaussianImputerConfig:
        # max_iter and tol are for stage I, so a base imputation keeps its default stopping rule.
        stopping = self._stopping() if self.solver == "regression" else {}
        return GaussianImputerConfig(
            shrinkage=self.shrinkage,
            residual_smoothing=self.residual_smoothing,
            max_landmarks=self.max_landmarks,
            **stopping,
        )

    def _fit_two_stage(
        self,
        samples: FloatArray,
        labels: LabelColumns,
        columns: ModelColumns,
        gaussian: GaussianImputation | None,
        tasks: FitTasks,
    ) -> TwoStageImputation:
        config = TwoStageConfig(
            gamma=resolve_gamma(self.gamma, columns.units),
            C=self.C,
            eta=None if isinstance(self.eta, str) else self.eta,
            perturbation=self.perturbation,
            bounds=self.bounds,
            kappa=self.kappa,
            **self._stopping(),
        )
        unit_samples = np.clip(columns.to_unit_interval(samples), 0.0, 1.0)
        if gaussian is None:
            after = partial(tasks, "iteration")
            signs = labels.signs()[:, 0]
            return fit_two_stage_imputer(unit_samples, signs, config, after_iteration=after)
        base, _ = gaussian.transform(samples, labels.values, engine=self._engine())
        return fit_centered_two_stage_imputer(
            unit_samples, columns.to_unit_interval(base), dual_solver(labels, self.C), config
        )

    def _stopping(self) -> dict[str, Any]:
        given = {"max_iter": self.max_iter, "tol": self.tol}
        return {name: value for name, value in given.items() if value is not None}

    def _engine(self) -> GaussianEngine:
        return make_engine(self.engine, self.device, self.n_jobs)

    def _delete_fitted_attributes(self) -> None:
        """Delete fitted attributes, some of which only another solver would set again."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _feature_mask(self, parameter: str, from_dtype: BoolArray) -> BoolArray:
        names = getattr(self, "feature_names_in_", None)
        return feature_mask(parameter, getattr(self, parameter), from_dtype, names)

    def _set_solver_attributes(
        self,
        gaussian: GaussianImputation | None,
        two_stage: TwoStageImputation | None,
        labels: LabelColumns,
    ) -> None:
        self._two_stage = two_stage
        self._kernel_config = SupervisedKernelConfig(
            gamma=resolve_gamma(self.gamma, self._columns.units),
            C=self.C,
            kappa=self.kappa,
            perturbation=self.perturbation,
        )
        self.gamma_ = self._kernel_config.gamma
        if two_stage is not None:
            self._landmark_labels = labels
            self.landmark_indices_: IntArray = np.arange(len(two_stage.completed))
            self.loss_curve_ = np.array(two_stage.objective)
            # Labels do not correct the kernel of a new sample. With a base imputation, its
            # distances are already those of the base, so stage II would not change anything.
            self._imputation = two_stage if gaussian is None else gaussian
        elif gaussian is not None:
            self._landmark_labels = labels.take(gaussian.landmark_indices)
            self.landmark_indices_ = gaussian.landmark_indices
            self.loss_curve_ = np.array(gaussian.changes)
            self._imputation = gaussian
            self.shrinkage_ = gaussian.shrinkage
            self.smoothing_ = gaussian.smoothing
            self.location_ = self._moments(gaussian)[0]

    def _moments(self, model: GaussianImputation) -> tuple[FloatArray, FloatArray]:
        return self._columns.moments(
            model.mean, model.dense_covariance(), model.label_mean, model.label_scale
        )

    def _complete(self, raw: FloatArray, labels: FloatArray | None = None) -> CompletedTable:
        """Complete samples by conditional means and most probable categories, or by draws."""
        engine = self._engine()
        with threadpool_limits(limits=1, user_api="blas"):
            if not self.sample_posterior:
                return complete_by_means(self._model, raw, labels, engine)
            self._gaussian_model("sample_posterior=True")
            limits = None if isinstance(self.clip, (bool, np.bool_)) else self._limits
            rng = local_random_state(self.random_state)
            return complete_by_draws(self._model, raw, labels, engine, rng, limits)

    def _kernel(self) -> CorrectedKernel:
        check_is_fitted(self)
        if self._two_stage is not None:
            return self._two_stage.kernel
        with threadpool_limits(limits=1, user_api="blas"):
            return fit_landmark_kernel(
                self._gaussian_model("kernel_"),
                self._landmark_labels,
                self._kernel_config,
                self._engine(),
            )

    def _gaussian_model(self, feature: str) -> GaussianImputation:
        """Return the model whose posterior a feature requires."""
        if self._two_stage is not None or not isinstance(self._imputation, GaussianImputation):
            raise ValueError(f"{feature} requires solver='regression', got 'two_stage'.")
        return self._imputation

    def _output(self, X: Any, raw: FloatArray, completed: CompletedTable) -> Any:
        """Fill the missing values of a table, drop empty features and append indicators."""
        if self._empty.any() and not self.keep_empty_features:
            names = _check_feature_names_in(self, None)[self._empty]
            warn_caller(
                f"Skipping features without any observed values: {names}. At least one non-missing "
                "value is needed for imputation; pass keep_empty_features=True to fill them with 0."
            )
        low, high = self._limits
        if self.sample_posterior and isinstance(self.clip, (bool, np.bool_)):
            low, high = np.full_like(low, -np.inf), np.full_like(high, np.inf)
        filled = self._columns.fill(raw, completed.Z, completed.codes, low, high, self._is_integer)
        indicators = self._transform_indicator(np.isnan(raw))
        return self._table.output(self, X, raw, filled, self._kept, indicators)
