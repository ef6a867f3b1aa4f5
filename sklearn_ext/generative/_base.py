"""Base of all diffusion models: drawing, reconstructing and scoring samples."""

import copy
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..neural import draw_seed, encode_labels, targets_in, torch_generator, validate_input
from ..utils._random import local_random_state
from ..utils._typing import Array, FloatArray, IntArray, RandomState
from ._diffusion import Diffusion
from ._inference import Sampler, draw_samples, mean_denoising_losses, reconstruct_samples

_POSITIVE = Interval(Integral, 1, None, closed="left")
_SAMPLER = {
    "n_steps": [_POSITIVE],
    "guidance": [Interval(Real, -1, None, closed="left"), None],
    "eta": [Interval(Real, 0, 1, closed="both")],
    "random_state": ["random_state"],
}


class BaseDiffusionModel(DensityMixin, BaseEstimator):
    """Base of the diffusion models: estimators that draw, reconstruct and score samples.

    The ``fit`` of a subclass sets the attributes below and those of the shape of X.
    """

    diffusion_: Diffusion
    classes_: Array
    class_prior_: FloatArray
    forgotten_classes_: Array
    score_seed_: int
    input_shape_: tuple[int, ...]

    @validate_params(
        {
            "n_samples": [_POSITIVE],
            "y": "no_validation",
            **_SAMPLER,
            "allow_forgotten": ["boolean"],
        },
        prefer_skip_nested_validation=True,
    )
    def sample(
        self,
        n_samples: int = 1,
        y: Any = None,
        *,
        n_steps: int = 50,
        guidance: float | None = None,
        eta: float = 0.0,
        allow_forgotten: bool = False,
        random_state: RandomState = None,
    ) -> tuple[FloatArray, Array | None]:
        r"""Draw samples.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        y : label or array-like of shape (n_samples,), default=None
            The class of all samples, or one class per sample. None draws classes with their
            frequencies in training.
        n_steps : int, default=50
            Number of steps from noise to samples. More steps are slower and follow the model
            more closely.
        guidance : float or None, default=None
            The weight w. 0 draws samples of the class as they are; larger values draw samples
            that are more typical of it. It has no effect on a model without classes. None means 1,
            or 0 for a network without a code for "any class", which guidance needs.
        eta : float in [0, 1], default=0.0
            Amount of fresh noise in each step: 0 is DDIM, 1 is the ancestral sampling of DDPM.
        allow_forgotten : bool, default=False
            Whether to sample forgotten classes. Such samples are noise or resemble another class.
        random_state : int, RandomState instance or None, default=None
            Seed of the noise. None draws different samples each time.

        Returns
        -------
        X : ndarray of float32, shape (n_samples, n_features) or the shape of images in `fit`
            The samples, in the units of the training data.
        y : ndarray of shape (n_samples,) or None
            Class label of each sample; None if the model has no classes.

        Raises
        ------
        ValueError
            If a parameter is out of range, or a class is unknown or forgotten.
        """
        check_is_fitted(self)
        rng = local_random_state(random_state)
        codes = self._codes_to_sample(n_samples, y, allow_forgotten, rng)
        diffusion = self.diffusion_
        x = draw_samples(
            diffusion,
            diffusion.code_tensor(codes),
            Sampler(n_steps, self._checked_guidance(guidance), eta),
            torch_generator(draw_seed(rng), diffusion.device),
        )
        labels = self.classes_[codes] if diffusion.n_classes > 0 else None
        return diffusion.decode(x, self.input_shape_), labels

    def _checked_guidance(self, guidance: float | None) -> float:
        knows_any_class = self.diffusion_.knows_any_class
        if guidance is None:
            return float(knows_any_class)
        if guidance != 0 and not knows_any_class:
            raise ValueError(
                "guidance must be 0 or None for a network that was trained without a code for "
                f'"any class", got {guidance!r}.'
            )
        return guidance

    def _codes_to_sample(
        self, n_samples: int, y: Any, allow_forgotten: bool, rng: np.random.RandomState
    ) -> IntArray:
        allowed = ~np.isin(self.classes_, [] if allow_forgotten else self.forgotten_classes_)
        if y is None:
            if self.diffusion_.n_classes == 0:
                return self._codes(None, n_samples)
            weights = self.class_prior_ * allowed
            if weights.sum() == 0:
                raise ValueError(
                    "All classes are forgotten; pass allow_forgotten=True to sample them."
                )
            return rng.choice(len(weights), size=n_samples, p=weights / weights.sum())
        labels = np.full(n_samples, y) if np.ndim(y) == 0 else column_or_1d(y)
        if len(labels) != n_samples:
            raise ValueError(
                f"y must be one label or n_samples={n_samples} labels, got {len(labels)}."
            )
        codes = self._codes(labels, n_samples)
        if not allowed[codes].all():
            raise ValueError(
                f"y contains classes that are forgotten: {self.forgotten_classes_}; "
                "pass allow_forgotten=True to sample them anyway."
            )
        return codes

    @validate_params(
        {
            "X": "no_validation",
            "y": "no_validation",
            "start": [Interval(Real, 0, 1, closed="both")],
            **_SAMPLER,
        },
        prefer_skip_nested_validation=True,
    )
    def reconstruct(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        start: float = 0.5,
        n_steps: int = 50,
        guidance: float | None = 0.0,
        eta: float = 0.0,
        random_state: RandomState = None,
    ) -> FloatArray:
        """Add noise to samples and let the model remove it.

        Samples that resemble the training data change little.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Class label of each sample. None allows any class for each sample.
        start : float in [0, 1], default=0.5
            Fraction of the schedule up to which noise is added; 1 leaves almost only noise.
        n_steps : int, default=50
            Number of steps back to clean samples.
        guidance : float or None, default=0.0
            The weight w; see :meth:`sample`.
        eta : float in [0, 1], default=0.0
            Amount of fresh noise in each step; see :meth:`sample`.
        random_state : int, RandomState instance or None, default=None
            Seed of the noise.

        Returns
        -------
        ndarray of float32, of the shape of X
            The reconstructions, in the units of X.

        Raises
        ------
        ValueError
            If a parameter is out of range, or X or y do not match the data of `fit`.
        """
        check_is_fitted(self)
        diffusion = self.diffusion_
        x, codes = self._tensors(*self._validated(X, y))
        x = reconstruct_samples(
            diffusion,
            x,
            codes,
            round(start * (len(diffusion.levels) - 1)),
            Sampler(n_steps, self._checked_guidance(guidance), eta),
            torch_generator(draw_seed(random_state), diffusion.device),
        )
        return diffusion.decode(x, self.input_shape_)

    @validate_params(
        {"X": "no_validation", "y": "no_validation", "n_draws": [_POSITIVE]},
        prefer_skip_nested_validation=True,
    )
    def score_samples(
        self, X: ArrayLike, y: ArrayLike | None = None, *, n_draws: int = 32
    ) -> FloatArray:
        """Score samples by how well the model denoises them.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Class label of each sample. None allows any class for each sample.
        n_draws : int, default=32
            Number of evenly spread times at which a sample is scored. The noise is the same
            for all samples and calls.

        Returns
        -------
        ndarray of shape (n_samples,)
            The negative squared error of the estimated noise, summed over the entries of a sample
            and averaged over the draws. Samples with higher scores are more like the training data.
            The score is not a log-density, but a reweighted bound on one.

        Raises
        ------
        ValueError
            If a parameter is out of range, or X or y do not match the data of `fit`.
        """
        check_is_fitted(self)
        x, codes = self._tensors(*self._validated(X, y))
        generator = torch_generator(self.score_seed_, self.diffusion_.device)
        losses = mean_denoising_losses(self.diffusion_, x, codes, n_draws, generator)
        return -losses.cpu().numpy()

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Return the mean of :meth:`score_samples`.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Class label of each sample. None allows any class for each sample.

        Returns
        -------
        float
            Higher values are more like the training data.
        """
        return float(self.score_samples(X, y).mean())

    def with_forgotten_classes(self, classes: ArrayLike, module: nn.Module) -> Self:
        """Return a copy of the fitted model whose network has been made to forget classes.

        The copy refuses to sample these classes.

        Parameters
        ----------
        classes : array-like of labels
            The forgotten classes, in addition to those in `forgotten_classes_`.
        module : torch.nn.Module
            The network after forgetting, in evaluation mode. It is not copied.

        Returns
        -------
        object
            The copy. The model itself is not changed.

        Raises
        ------
        ValueError
            If a label is not among the classes of the model.
        """
        check_is_fitted(self)
        codes = encode_labels(np.atleast_1d(classes), self.classes_)
        is_forgotten = np.isin(self.classes_, self.forgotten_classes_)
        is_forgotten[codes] = True
        # The copy gets the given network, so that the old one is not copied.
        changed = copy.deepcopy(self, {id(self.diffusion_.module): module})
        changed.forgotten_classes_ = self.classes_[is_forgotten]
        return changed

    def _validated(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Return validated samples and labels; a dataset of a model with classes has labels."""
        is_dataset = isinstance(X, Dataset)
        samples = validate_input(self, X, reset=False, any_form=is_dataset)
        if is_dataset and y is None and len(self.classes_) > 0:
            y = targets_in(X)
        return samples, y

    def _tensors(self, X: Any, y: Any) -> tuple[Tensor, Tensor]:
        """Return samples and class codes as the denoiser takes them."""
        codes = self._codes(y, len(X))
        return self.diffusion_.encode(X), self.diffusion_.code_tensor(codes)

    def _codes(self, y: Any, n_samples: int) -> IntArray:
        """Return indices into `classes_`; without labels, the code of "any class"."""
        if y is None:
            if not self.diffusion_.knows_any_class:
                raise ValueError(
                    'y must not be None, because the network was trained without a code for "any '
                    'class".'
                )
            return np.full(n_samples, len(self.classes_))
        labels = column_or_1d(y)
        if len(labels) != n_samples:
            raise ValueError(
                f"y must have one label for each of the {n_samples} samples in X, "
                f"got {len(labels)}."
            )
        if len(self.classes_) == 0:
            raise ValueError("y must be None for a model that was fitted without labels.")
        return encode_labels(labels, self.classes_)
