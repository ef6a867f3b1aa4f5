"""What a changed generative model does for its user, and where the model comes from."""

import copy

from sklearn.base import BaseEstimator, DensityMixin, clone
from sklearn.utils.validation import check_is_fitted

from ..generative import ConditionalDDPM
from ..neural import draw_seed
from ..utils._validation import unfrozen


class BaseGeneratorForgetter(DensityMixin, BaseEstimator):
    """Sampling, reconstruction and scores by the changed model, `estimator_`."""

    def sample(self, n_samples=1, y=None, **options):
        """Draw rows from the changed model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        y : label or array-like of shape (n_samples,), default=None
            Their classes; None draws them from those that are not forgotten.
        **options
            All else that :meth:`ConditionalDDPM.sample` takes.

        Returns
        -------
        X : ndarray of float32
            The rows.
        y : ndarray of shape (n_samples,)
            Their classes.
        """
        check_is_fitted(self)
        return self.estimator_.sample(n_samples, y, **options)

    def reconstruct(self, X, y=None, **options):
        """Add noise to rows and let the changed model remove it.

        Parameters
        ----------
        X : array-like
            Rows or images as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Their classes.
        **options
            All else that :meth:`ConditionalDDPM.reconstruct` takes.

        Returns
        -------
        ndarray of float32, of the shape of X
        """
        check_is_fitted(self)
        return self.estimator_.reconstruct(X, y, **options)

    def score_samples(self, X, y=None, **options):
        """Judge rows by how well the changed model denoises them.

        Parameters
        ----------
        X : array-like
            Rows or images as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Their classes.
        **options
            All else that :meth:`ConditionalDDPM.score_samples` takes.

        Returns
        -------
        ndarray of shape (n_samples,)
            Higher is more like the data.
        """
        check_is_fitted(self)
        return self.estimator_.score_samples(X, y, **options)

    def score(self, X, y=None):
        """Return the mean of :meth:`score_samples`.

        Parameters
        ----------
        X : array-like
            Rows or images as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Their classes.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        return self.estimator_.score(X, y)


def fitted_model(estimator, X, y, rng):
    """Return the fitted model that a parameter means, as a copy.

    Parameters
    ----------
    estimator : ConditionalDDPM, FrozenEstimator or None
        One that is not fitted is cloned and fitted to X and y.
    X, y : array-likes
    rng : RandomState

    Returns
    -------
    ConditionalDDPM

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If a frozen model is not fitted, or the model knows no classes.
    """
    model = unfrozen(estimator)
    if model is None:
        model = ConditionalDDPM()
    if not isinstance(model, ConditionalDDPM):
        raise TypeError(
            "estimator must be None, a ConditionalDDPM or a FrozenEstimator around one, "
            f"got {estimator!r}."
        )
    if hasattr(model, "diffusion_"):
        if model.diffusion_.n_classes == 0:
            raise ValueError("estimator was fitted without labels: it knows no classes to forget.")
        return copy.deepcopy(model)
    if estimator is not None and model is not estimator:
        raise ValueError("estimator is a FrozenEstimator whose model is not fitted.")
    model = clone(model)
    if model.random_state is None:
        model.set_params(random_state=draw_seed(rng))
    return model.fit(X, y)
