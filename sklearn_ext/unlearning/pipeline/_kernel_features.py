"""Features of a kernel whose bandwidths a model has learned, at many more points than it has."""

from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.metrics.pairwise import euclidean_distances, laplacian_kernel, rbf_kernel
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from ...utils._atomic import atomic_fit
from ...utils._random import local_random_state
from ...utils._typing import FloatArray, RandomState
from ...utils.compat import CallbackSupportMixin, FitTasks, with_callbacks

_BLOCK_ELEMENTS = 2**22


class LearnedKernelFeatures(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, CallbackSupportMixin, BaseEstimator
):
    r"""Kernel features with bandwidths that a model has learned from few samples.

    A :class:`LABRidgelessRegressor` learns bandwidths :math:`b_{ik}` for a few hundred support
    points :math:`c_i`. A linear model on its kernel features has as many parameters; with many
    samples it can use more. This transformer adds kernel features at `n_centers` further training
    samples, all with the mean :math:`\bar b` of the learned bandwidths:

    .. math::
        z(x) = \bigl[k_{b_1}(x, c_1), \ldots, k_{b_m}(x, c_m),
        k_{\bar b}(x, x_1), \ldots, k_{\bar b}(x, x_q)\bigr] .

    Fit it to the pinned samples of a :class:`ForgettingPipeline`, and a ridge regression on these
    features can forget all others.

    Parameters
    ----------
    estimator : estimator
        A kernel model with the fitted attributes ``support_vectors_``, ``bandwidths_`` and
        ``kernel_``, such as :class:`LABRidgelessRegressor`.
    n_centers : int, default=1000
        Number of further centers, drawn from the training samples; all of them if there are fewer.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing the centers.

    Attributes
    ----------
    estimator_ : estimator
        The fitted kernel model.
    centers_ : ndarray of shape (n_centers, n_features)
        The further centers.
    bandwidth_ : ndarray of shape (n_features,)
        Mean of the learned bandwidths.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    ForgettingPipeline : Forgets samples in preprocessing, features and model together.

    References
    ----------
    .. [1] F. He, M. He, L. Shi, X. Huang, J. Suykens, "Enhancing Kernel Flexibility via Learning
       Asymmetric Locally-Adaptive Kernels", arXiv:2310.05236, 2023.
    .. [2] C. Williams, M. Seeger, "Using the Nyström Method to Speed Up Kernel Machines", NIPS
       2000.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext import LABRidgelessRegressor, LearnedKernelFeatures
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-3, 3, size=(300, 2))
    >>> lab = LABRidgelessRegressor(n_support=20, max_iter=50, random_state=0)
    >>> features = LearnedKernelFeatures(lab, n_centers=100, random_state=0)
    >>> features.fit(X, np.sin(3 * X[:, 0])).transform(X).shape
    (300, 120)
    """

    _parameter_constraints: dict[str, Any] = {
        "estimator": [HasMethods(["fit", "predict"])],
        "n_centers": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self, estimator: Any, *, n_centers: int = 1000, random_state: RandomState = None
    ) -> None:
        self.estimator = estimator
        self.n_centers = n_centers
        self.random_state = random_state

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit the kernel model, and draw the centers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets of the kernel model.

        Returns
        -------
        self : LearnedKernelFeatures
            The fitted transformer.

        Raises
        ------
        ValueError
            If the fitted model has no bandwidths, or raises this error itself.
        """
        samples, targets = validate_data(self, X, y, multi_output=True, dtype=np.float64, order="C")
        rng = local_random_state(self.random_state)
        model, tasks = clone(self.estimator), FitTasks(self, 1, samples, targets)
        with tasks.fit_of("kernel model", model):
            model.fit(samples, targets)
        missing = [n for n in ("support_vectors_", "bandwidths_") if not hasattr(model, n)]
        if missing or getattr(model, "kernel_", None) not in _KERNELS:
            raise ValueError(
                "estimator must have the fitted attributes support_vectors_, bandwidths_ and "
                f"kernel_, one of {sorted(_KERNELS)}, got {self.estimator!r}."
            )
        self.estimator_ = model
        self.bandwidth_ = np.asarray(model.bandwidths_, dtype=np.float64).mean(axis=0)
        self.centers_ = samples[rng.permutation(len(samples))[: self.n_centers]]
        tasks.end()
        return self

    def transform(self, X: ArrayLike) -> FloatArray:
        """Compute the kernel features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
        """
        check_is_fitted(self)
        samples = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        support = np.asarray(self.estimator_.support_vectors_, dtype=np.float64)
        m, kernel = len(support), self.estimator_.kernel_
        Z = np.empty((len(samples), m + len(self.centers_)))
        step = max(1, _BLOCK_ELEMENTS // max(1, Z.shape[1]))
        for start in range(0, len(Z), step):
            rows = slice(start, start + step)
            Z[rows, :m] = local_kernel(
                samples[rows], support, self.estimator_.bandwidths_, kernel=kernel
            )
            if len(self.centers_):
                Z[rows, m:] = _KERNELS[kernel](samples[rows], self.centers_, self.bandwidth_)
        return Z

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.estimator_.support_vectors_) + len(self.centers_)


def local_kernel(
    X: FloatArray, centers: FloatArray, bandwidths: FloatArray, *, kernel: str
) -> FloatArray:
    r"""Evaluate a kernel with one bandwidth per center and feature.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Samples.
    centers : ndarray of shape (m, d)
        Centers.
    bandwidths : ndarray of shape (m, d)
        Bandwidths :math:`b_{ik}`.
    kernel : {"exponential", "laplacian", "rbf"}
        :math:`\exp(-\sqrt{\sum_k b_{ik} (x_k - c_{ik})^2})`,
        :math:`\exp(-\sum_k b_{ik} |x_k - c_{ik}|)` or
        :math:`\exp(-\sum_k b_{ik} (x_k - c_{ik})^2)`.

    Returns
    -------
    ndarray of shape (n, m)
    """
    exponent = np.zeros((len(X), len(centers)))
    for k in range(X.shape[1]):
        difference = abs(X[:, k, None] - centers[:, k])
        if kernel != "laplacian":
            difference **= 2
        difference *= bandwidths[:, k]
        exponent += difference
    return np.exp(-np.sqrt(exponent) if kernel == "exponential" else -exponent)


def _laplacian(X: FloatArray, centers: FloatArray, b: FloatArray) -> FloatArray:
    return laplacian_kernel(X * b, centers * b, gamma=1.0)


def _rbf(X: FloatArray, centers: FloatArray, b: FloatArray) -> FloatArray:
    return rbf_kernel(X * np.sqrt(b), centers * np.sqrt(b), gamma=1.0)


def _exponential(X: FloatArray, centers: FloatArray, b: FloatArray) -> FloatArray:
    return np.exp(-euclidean_distances(X * np.sqrt(b), centers * np.sqrt(b)))


_KERNELS = {"exponential": _exponential, "laplacian": _laplacian, "rbf": _rbf}
