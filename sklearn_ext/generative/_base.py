"""What a fitted diffusion model does for its user, whoever trained it."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ..neural import (
    draw_seed,
    encode_labels,
    resolve_device,
    seeded,
    torch_generator,
    validate_input,
)
from ..utils._random import local_random_state
from ._checkpoint import read_checkpoint, write_checkpoint
from ._diffusion import Sampler
from ._setup import build_denoiser

_POSITIVE = Interval(Integral, 1, None, closed="left")
_SAMPLER = {
    "n_steps": [_POSITIVE],
    "guidance": [Interval(Real, -1, None, closed="left")],
    "eta": [Interval(Real, 0, 1, closed="both")],
    "random_state": ["random_state"],
}


class BaseDDPM(DensityMixin, BaseEstimator):
    """Sampling, reconstruction, scores and files; `fit` comes with the class below."""

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
        n_samples=1,
        y=None,
        *,
        n_steps=50,
        guidance=1.0,
        eta=0.0,
        allow_forgotten=False,
        random_state=None,
    ):
        r"""Draw rows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        y : label or array-like of shape (n_samples,), default=None
            The class of all rows, or of each. None draws classes by their shares in training.
        n_steps : int, default=50
            Steps from noise to rows; more are slower and closer to the model.
        guidance : float, default=1
            The weight w: 0 asks for rows of the class as they are, more for rows that are
            typical of it. Without classes it has no meaning.
        eta : float in [0, 1], default=0
            Fresh noise in each step: 0 is DDIM, 1 is the ancestral sampling of DDPM.
        allow_forgotten : bool, default=False
            Whether forgotten classes may be asked for. What comes is noise, or like rows of
            another class.
        random_state : int, RandomState instance or None, default=None
            Seed of the noise; None draws other rows each time.

        Returns
        -------
        X : ndarray of float32, shape (n_samples, n_features) or of images as in `fit`
            The rows.
        y : ndarray of shape (n_samples,) or None
            Their classes; None if the model has none.

        Raises
        ------
        ValueError
            If a parameter is out of range, or a class is unknown, or forgotten.
        """
        check_is_fitted(self)
        rng = local_random_state(random_state)
        codes = self._codes_to_sample(n_samples, y, allow_forgotten, rng)
        diffusion = self.diffusion_
        rows = diffusion.sample(
            diffusion.code_tensor(codes),
            Sampler(n_steps, guidance, eta),
            torch_generator(draw_seed(rng), diffusion.device),
        )
        labels = self.classes_[codes] if diffusion.n_classes else None
        return diffusion.decode(rows, self.input_shape_), labels

    def _codes_to_sample(self, n_samples, y, allow_forgotten, rng):
        known = ~np.isin(self.classes_, [] if allow_forgotten else self.forgotten_classes_)
        if y is None:
            if self.diffusion_.n_classes == 0:
                return self._codes(None, n_samples)
            shares = self.class_prior_ * known
            if shares.sum() == 0:
                raise ValueError("All classes are forgotten; allow_forgotten=True samples them.")
            return rng.choice(len(shares), size=n_samples, p=shares / shares.sum())
        labels = np.full(n_samples, y) if np.ndim(y) == 0 else column_or_1d(y)
        if len(labels) != n_samples:
            raise ValueError(
                f"y must be one label or n_samples={n_samples} of them, got {len(labels)}."
            )
        codes = self._codes(labels, n_samples)
        if not known[codes].all():
            raise ValueError(
                f"y asks for classes that are forgotten: {self.forgotten_classes_}; "
                "allow_forgotten=True samples them all the same."
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
        X,
        y=None,
        *,
        start=0.5,
        n_steps=50,
        guidance=0.0,
        eta=0.0,
        random_state=None,
    ):
        """Add noise to rows and let the model remove it.

        What comes back is close to the rows if they are like those of the training data.

        Parameters
        ----------
        X : array-like
            Rows or images as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Their classes; None lets the model take rows of any class for possible.
        start : float in [0, 1], default=0.5
            How far on the way to noise the rows are taken; 1 leaves nothing of them.
        n_steps : int, default=50
            Steps on the way back.
        guidance : float, default=0
            As for :meth:`sample`.
        eta : float in [0, 1], default=0
            As for :meth:`sample`.
        random_state : int, RandomState instance or None, default=None
            Seed of the noise.

        Returns
        -------
        ndarray of float32, of the shape of X

        Raises
        ------
        ValueError
            If a parameter is out of range, or X or y do not fit what `fit` has seen.
        """
        check_is_fitted(self)
        X = validate_input(self, X, reset=False)
        diffusion = self.diffusion_
        rows = diffusion.reconstruct(
            *self._tensors(X, y),
            round(start * (len(diffusion.levels) - 1)),
            Sampler(n_steps, guidance, eta),
            torch_generator(draw_seed(random_state), diffusion.device),
        )
        return diffusion.decode(rows, self.input_shape_)

    @validate_params(
        {"X": "no_validation", "y": "no_validation", "n_draws": [_POSITIVE]},
        prefer_skip_nested_validation=True,
    )
    def score_samples(self, X, y=None, *, n_draws=32):
        """Judge rows by how well the model denoises them.

        Parameters
        ----------
        X : array-like
            Rows or images as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Their classes; None lets the model take rows of any class for possible.
        n_draws : int, default=32
            Number of times, spread evenly, at which a row is judged, each with noise that is
            the same for all rows and calls.

        Returns
        -------
        ndarray of shape (n_samples,)
            Minus the mean of the squared error of the noise: higher is more like the data. It
            is no log-density, though it bounds one up to weights.

        Raises
        ------
        ValueError
            If a parameter is out of range, or X or y do not fit what `fit` has seen.
        """
        check_is_fitted(self)
        X = validate_input(self, X, reset=False)
        generator = torch_generator(self.score_seed_, self.diffusion_.device)
        losses = self.diffusion_.losses(*self._tensors(X, y), n_draws, generator)
        return -losses.cpu().numpy()

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
        return float(self.score_samples(X, y).mean())

    def save_checkpoint(self, path):
        """Write the fitted model and the state of its training to a safetensors file.

        Parameters
        ----------
        path : str or path-like
            Must end with ``.safetensors``.

        Raises
        ------
        ValueError
            If it has another ending.
        """
        check_is_fitted(self)
        write_checkpoint(path, vars(self))

    def load_checkpoint(self, path):
        """Become the model that a file holds; nothing in the file is executed.

        The parameters `module` and `width` must ask for the network that was saved.

        Parameters
        ----------
        path : str or path-like
            Written by :meth:`save_checkpoint`, or by `fit` as its `checkpoint`.

        Returns
        -------
        self : ConditionalDDPM
            Fitted; with `warm_start`, `fit` goes on from there.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it holds something else.
        """
        device = resolve_device(self.device)

        def build(row_shape, n_classes):
            with seeded(0):
                return build_denoiser(self.module, self.width, row_shape, n_classes)

        fitted = read_checkpoint(path, build)
        fitted["diffusion_"].module.to(device)
        vars(self).update(fitted)
        return self

    def _tensors(self, X, y):
        """Return rows and codes as the denoiser takes them."""
        codes = self._codes(y, len(X))
        return self.diffusion_.encode(X), self.diffusion_.code_tensor(codes)

    def _codes(self, y, n_samples):
        """Return positions in `classes_`, that of the null class without labels."""
        if y is None:
            return np.full(n_samples, len(self.classes_))
        labels = column_or_1d(y)
        if len(labels) != n_samples:
            raise ValueError(f"y must have {n_samples} labels, one a row, got {len(labels)}.")
        if len(self.classes_) == 0:
            raise ValueError("y has no meaning for a model that was fitted without labels.")
        return encode_labels(labels, self.classes_)
