"""Imputation guided by labels."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.impute._base import _BaseImputer
from sklearn.utils import metadata_routing
from sklearn.utils._mask import _get_mask
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    FLOAT_DTYPES,
    _check_feature_names_in,
    check_is_fitted,
    validate_data,
)
from threadpoolctl import threadpool_limits

from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ._docs import with_common_docs
from ._engine import make_engine
from ._fitted_solvers import SOLVERS
from ._kernel_views import KernelViews
from ._label_columns import encode_labels
from ._model_columns import ModelColumns
from ._validation import allows_nan, categorical_mask, clip_limits


@with_common_docs
class SupervisedKernelImputer(KernelViews, _BaseImputer):
    r"""Fill holes from a joint Gaussian model of features and labels.

    The default solver fits mean and covariance of features and labels together, by expectation
    maximisation with covariances shrunk as far as hidden entries ask for, and fills a hole with
    its conditional mean given what is observed in its row. Where hidden entries tell that it
    helps, residuals of similar rows are added. Labels are used while fitting; `transform` neither
    takes nor needs them, so that nothing leaks from test labels.

    ``solver="published"`` is the two-stage method of the paper: learn a kernel that separates the
    classes, then find values whose Gaussian kernel it is. It is kept as published, for
    comparison; its imputations have larger errors than the column mean on most data.

    Parameters
    ----------
    missing_values : int, float, np.nan or pandas.NA, default=np.nan
        What marks a hole.

    solver : {"regression", "published"}, default="regression"
        The Gaussian model, or the two-stage method.

    center : {"observed", "base"}, default="observed"
        For ``solver="published"``: what the kernel is pulled to. "observed" is the kernel on
        common features, as published (two classes only); "base" is the kernel of an imputation by
        the Gaussian model, which repairs the method.

    bounds : {"code", "exact"}, default="code"
        For ``solver="published"``: lower bounds of the kernel's correction, as the authors'
        program has them, or what values in the features' ranges allow.

    {gamma}

    C : float, default=1.0
        Penalty of the machine that corrects the kernel.

    eta : float or "auto", default="auto"
        For ``solver="published"``: weight that keeps the correction near one. "auto" is the norm
        of the dual coefficients on mean-imputed rows.

    kappa : float in [0, 1], default=0.1
        Largest relative change of an entry of the kernel by the labels (not used by
        ``center="observed"``).

    {perturbation}

    {shrinkage}

    residual_smoothing : bool, default=True
        Whether residuals of similar rows may be added to the conditional means. They are where
        this lowers the error on hidden entries by two per cent.

    condition_on_y : bool, default=True
        Whether `fit_transform` fills training rows knowing their labels. False treats them as
        `transform` treats new rows.

    target_type : {"auto", "multiclass", "continuous"}, default="auto"
        Kind of labels. "auto" takes numbers with decimals for targets, and whole numbers of more
        than 20 values with fewer than ten rows a value; everything else for classes.

    sample_posterior : bool, default=False
        Whether to draw imputed values from the Gaussian posterior instead of taking its mean. The
        draw depends on `random_state` only: ``set_params(random_state=k)`` gives the k-th of
        several imputations by one fitted model.

    max_iter : int or None, default=None
        Largest number of iterations. None is 30 for "regression", 10000 for "published".

    tol : float or None, default=None
        Iterations stop when the covariance changes by less than this share of the largest variance
        ("regression"; None is 1e-3), or the dual coefficients by less ("published"; 1e-4).

    clip : bool or (low, high), default=True
        Whether imputed values stay in the range of the feature's observed training values. A pair
        of numbers, or of arrays of shape (n_features,), gives other limits.

    max_landmarks : int, default=1000
        Number of training rows that kernels and residual smoothing use.

    {categorical}
        A hole gets the category of largest posterior mean. All others may come out fractional.

    keep_empty_features : bool, default=False
        Whether features without any observed value in fit are kept, and filled with 0.

    add_indicator : bool, default=False
        Whether to append a :class:`~sklearn.impute.MissingIndicator`.

    {computing}

    random_state : int, RandomState instance or None, default=None
        Seed of the hidden entries, of landmarks and other samples of rows, and of posterior draws.

    verbose : int, default=0
        Prints a line after fit when positive.

    Attributes
    ----------
    location_ : ndarray of shape (n_columns,)
        Mean of the Gaussian model, features first, label columns last, in the user's units. A
        categorical feature of k values is k - 1 columns. With ``solver="regression"`` only.

    covariance_ : ndarray of shape (n_columns, n_columns)
        Covariance of the Gaussian model. With ``solver="regression"`` only.

    {chosen_shrinkage} With ``solver="regression"`` only.

    smoothing_ : Smoothing or None
        Bandwidth and prior mass of the residual smoothing; None where it is off. With
        ``solver="regression"`` only.

    {chosen_gamma}

    kernel_ : ndarray of shape (n_landmarks, n_landmarks)
        Kernel between landmarks, corrected by labels. This and the next four attributes are
        computed when asked for; fitting does not need them.

    kernel_initial_ : ndarray of shape (n_landmarks, n_landmarks)
        The kernel before: expected under the posterior of the holes, or as `center` says.

    kernel_factor_ : ndarray of shape (n_landmarks, n_landmarks)
        The correction, ``kernel_ / kernel_initial_``.

    dual_coef_ : ndarray of shape (n_landmarks, n_machines)
        Signed dual coefficients of the machines on the corrected kernel: one for two classes, one
        a class for more, ridge regression for targets, none without labels.

    intercept_ : ndarray of shape (n_machines,)
        Their intercepts.

    landmark_indices_ : ndarray of shape (n_landmarks,)
        Training rows that the kernel is between.

    feature_range_ : ndarray of shape (2, n_features_in_)
        Smallest and largest observed value of each feature.

    classes_ : ndarray or None
        Class labels; None without classes.

    loss_curve_ : ndarray of shape (n_iter_,)
        By iteration, the relative change of the covariance, or the objective of stage I.

    n_iter_ : int
        Number of iterations.

    indicator_ : MissingIndicator or None
        The indicator, if `add_indicator`.

    {facts}

    See Also
    --------
    SupervisedKernelClassifier : A classifier for rows with holes.
    sklearn.impute.IterativeImputer : One regression a feature, in turn.

    Notes
    -----
    A hole's conditional law is Gaussian: ``transform(X, return_std=True)`` returns its standard
    deviation, and ``sample_posterior=True`` draws from it, with mean and covariance held fixed.

    A fit costs :math:`O(\sum_i \min(m_i^3, o_i^3 + d^2 o_i))` an iteration for rows with m holes
    and o observed entries; rows with the same holes share it. Covariances are fitted on at most
    20,000 random rows, so fitting time and memory stay linear in the number of rows.

    References
    ----------
    {paper}
    .. [2] A. P. Dempster, N. M. Laird, D. B. Rubin, "Maximum Likelihood from Incomplete Data via
       the EM Algorithm", Journal of the Royal Statistical Society B 39, 1977.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import SupervisedKernelImputer
    >>> X, y = load_iris(return_X_y=True)
    >>> holes = np.random.RandomState(0).rand(*X.shape) < 0.5
    >>> imputer = SupervisedKernelImputer(random_state=0)
    >>> filled = imputer.fit_transform(np.where(holes, np.nan, X), y)
    >>> bool(np.array_equal(filled[~holes], X[~holes]))
    True
    >>> def error(imputed):
    ...     return float(np.sqrt(np.mean((imputed - X)[holes] ** 2)))
    >>> error(filled) < 0.6 * error(np.broadcast_to(X.mean(axis=0), X.shape))
    True
    >>> _, std = imputer.transform([[5.1, np.nan, np.nan, 0.2]], return_std=True)
    >>> std.round(1)
    array([[0. , 0.4, 0.7, 0. ]])
    """

    _parameter_constraints = {
        **_BaseImputer._parameter_constraints,
        "solver": [StrOptions({"regression", "published"})],
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
        "categorical_features": ["array-like", None],
        "engine": [StrOptions({"auto", "numba", "torch"})],
        "device": "no_validation",  # checked where it is resolved
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    __metadata_request__transform = {"return_std": metadata_routing.UNUSED}

    def __init__(
        self,
        *,
        missing_values=np.nan,
        solver="regression",
        center="observed",
        bounds="code",
        gamma="scale",
        C=1.0,
        eta="auto",
        kappa=0.1,
        perturbation=0.0,
        shrinkage="auto",
        residual_smoothing=True,
        condition_on_y=True,
        target_type="auto",
        sample_posterior=False,
        max_iter=None,
        tol=None,
        clip=True,
        max_landmarks=1000,
        categorical_features=None,
        keep_empty_features=False,
        add_indicator=False,
        engine="auto",
        device=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
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
        self.engine = engine
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the model of features and labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with holes.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Class labels or targets; NaN or None where a label is missing.

        Returns
        -------
        self : SupervisedKernelImputer
            The fitted imputer.

        Raises
        ------
        ValueError
            If X is not numeric or holds infinity, if y has another length, if a parameter is out
            of range, or if the solver cannot use these labels or this many rows.
        """
        with threadpool_limits(limits=1, user_api="blas"):
            self._fit(X, y)
        return self

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None):
        """Learn the model, and fill the holes of the training rows knowing their labels.

        This differs from ``fit(X, y).transform(X)``, which never sees labels, unless
        ``condition_on_y=False`` (or y is None), much as with
        :class:`~sklearn.preprocessing.TargetEncoder`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with holes.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Class labels or targets; NaN or None where a label is missing.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            The rows without holes.

        Raises
        ------
        ValueError
            As in `fit`.
        """
        with threadpool_limits(limits=1, user_api="blas"):
            X, raw, rows, labels = self._fit(X, y)
            engine, noise = self._engine(), self._noise(rows)
            if self.condition_on_y:
                Z, _ = self._solver.complete_training(engine, rows, labels, noise)
            else:
                Z, _ = self._solver.complete(engine, rows, noise)
        return self._output(raw, Z, X.dtype)

    def transform(self, X, return_std=False):
        """Fill the holes of rows from what is observed in them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with holes.
        return_std : bool, default=False
            Whether to return standard deviations too; with ``solver="regression"`` only.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features_out)
            The rows without holes; what was observed is returned bit by bit.
        std : ndarray of shape (n_samples, n_features_out)
            Only if `return_std`: standard deviation of each imputed value given the observed
            entries of its row, in the feature's unit; 0 where nothing was imputed. For a
            categorical feature, that of the indicator of the returned category.

        Raises
        ------
        ValueError
            If X has other features than those of fit, or the solver has no standard deviations.
        """
        check_is_fitted(self)
        if return_std:
            self._require_posterior("return_std=True")
        X, raw = self._validate(X, reset=False)
        with threadpool_limits(limits=1, user_api="blas"):
            rows = self._columns.encode(raw)
            Z, V = self._solver.complete(self._engine(), rows, self._noise(rows))
        filled = self._output(raw, Z, X.dtype)
        if not return_std:
            return filled
        std = self._columns.deviations(raw, Z, V)[:, self._kept]
        n_indicators = filled.shape[1] - std.shape[1]
        return filled, np.pad(std, ((0, 0), (0, n_indicators)))

    def score(self, X, y=None):
        """Predict every observed entry from the others of its row, and compare.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, complete or with holes.
        y : None
            Ignored: labels do not take part.

        Returns
        -------
        float
            One minus the mean squared error in units of the training variances, over all observed
            entries of features that vary: 1 is perfect, and column means have about 0.

        Raises
        ------
        ValueError
            If the solver has no conditional law.
        """
        check_is_fitted(self)
        self._require_posterior("score")
        _, raw = self._validate(X, reset=False)
        with threadpool_limits(limits=1, user_api="blas"):
            return self._solver.score(self._engine(), self._columns.encode(raw))

    def get_feature_names_out(self, input_features=None):
        """Names of the output features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the input features, by default those seen in fit, else x0, x1, ...

        Returns
        -------
        ndarray of str
            Names of the features that are kept, then those of the indicators.
        """
        check_is_fitted(self)
        input_features = _check_feature_names_in(self, input_features)
        return self._concatenate_indicator_feature_names_out(
            input_features[self._kept], input_features
        )

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_solver")

    def _require_posterior(self, what):
        if not self._solver.has_posterior:
            raise ValueError(f"{what} needs solver='regression', got 'published'.")

    def _validate(self, X, *, reset):
        """Return the rows, and the same in float64 with NaN for holes."""
        X = validate_data(
            self,
            X,
            dtype=FLOAT_DTYPES,
            ensure_all_finite="allow-nan" if allows_nan(self.missing_values) else True,
            reset=reset,
        )
        marker = np.nan if allows_nan(self.missing_values) else self.missing_values
        return X, np.where(_get_mask(X, marker), np.nan, X).astype(np.float64, copy=False)

    def _fit(self, X, y):
        X, raw = self._validate(X, reset=True)
        mask = np.isnan(raw)
        labels = encode_labels(y, len(X), self.target_type)
        names = getattr(self, "feature_names_in_", None)
        columns = ModelColumns(raw, categorical_mask(self.categorical_features, X.shape[1], names))
        limits = clip_limits(self.clip, columns.feature_range)
        rows = columns.encode(raw)
        solver = SOLVERS[self.solver](
            self._engine(),
            self.get_params(deep=False),
            columns,
            rows,
            labels,
            local_random_state(self.random_state),
        )

        self._fit_indicator(mask)
        self._kept = ~mask.all(axis=0) | self.keep_empty_features
        self._columns, self._limits, self._solver = columns, limits, solver
        self.feature_range_ = columns.feature_range
        self.classes_ = labels.classes
        vars(self).update(solver.attributes(columns))
        if self.verbose:
            print(
                f"[SupervisedKernelImputer] {self.n_iter_} iterations, "
                f"{mask.mean():.1%} of {mask.size} entries missing"
            )
        return X, raw, rows, labels

    def _engine(self):
        return make_engine(self.engine, self.device, self.n_jobs)

    def _noise(self, rows):
        """Draw standard normal numbers; None if the mean is asked for."""
        if not self.sample_posterior:
            return None
        rng = local_random_state(self.random_state)
        return rng.standard_normal((len(rows), len(self._columns) + self._solver.n_labels))

    def _output(self, raw, Z, dtype):
        """Fill holes from model columns and append indicators."""
        filled = self._columns.fill(raw, Z, *self._limits).astype(dtype, copy=False)
        indicators = self._transform_indicator(np.isnan(raw))
        return self._concatenate_indicator(filled[:, self._kept], indicators)
