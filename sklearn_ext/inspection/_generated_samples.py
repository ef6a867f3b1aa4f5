"""Samples of a generative model as pictures."""

from collections.abc import Mapping

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from ..utils._random import draw_seed

_GAP = 1  # pixels between two pictures
_CHANNELS_OF_COLOR = 3


class GeneratedSamplesDisplay:
    """A grid of generated images, one row a class; one panel a model.

    Panels of different models start from the same noise, so that what a model was made to forget
    can be seen picture by picture. Make one with :meth:`from_estimator` or
    :meth:`from_predictions`.

    Parameters
    ----------
    images : dict of str to ndarray of shape (n_classes, n_samples, height, width[, 3])
        By name of the model.
    classes : sequence
        Labels of the rows.
    forgotten : dict of str to collection
        Labels that each model was made to forget, which are marked.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, once plotted.
    axes_ : ndarray of matplotlib Axes
        One a model.

    See Also
    --------
    sklearn_ext.metrics.generation_report : The numbers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import ConditionalDDPM, GeneratedSamplesDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> model = ConditionalDDPM(width=32, max_iter=50, random_state=0).fit(X, y)
    >>> display = GeneratedSamplesDisplay.from_estimator(
    ...     {"after 50 steps": model}, image_shape=(8, 8), random_state=0
    ... )
    >>> display.images["after 50 steps"].shape
    (10, 8, 8, 8)
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, images, classes, forgotten):
        self.images = images
        self.classes = classes
        self.forgotten = forgotten

    @classmethod
    def from_estimator(
        cls,
        model,
        *,
        classes=None,
        n_samples=8,
        image_shape=None,
        n_steps=25,
        guidance=1.0,
        random_state=None,
        axes=None,
    ):
        """Draw samples of every class and plot them.

        Parameters
        ----------
        model : fitted ConditionalDDPM or SFRonClassForgetter, or dict of str to such models
            One, or several by name, such as the model before and after.
        classes : array-like of labels, default=None
            The rows of the plot, from above; None is all classes.
        n_samples : int, default=8
            Images of each class.
        image_shape : tuple of int, default=None
            Shape of an image, (height, width) or (channels, height, width), if the models were
            fitted to flat rows.
        n_steps : int, default=25
            Steps of the sampler.
        guidance : float, default=1
            Guidance of the sampler.
        random_state : int, RandomState instance or None, default=None
            Seed of the noise, which is the same for every model.
        axes : sequence of matplotlib Axes, default=None
            Where to plot, one a model; None makes a new figure.

        Returns
        -------
        GeneratedSamplesDisplay

        Raises
        ------
        ValueError
            If rows are flat and `image_shape` is missing, or does not fit.
        """
        models = model if isinstance(model, Mapping) else {type(model).__name__: model}
        first = next(iter(models.values()))
        classes = first.classes_ if classes is None else np.asarray(classes)
        seed = draw_seed(random_state)
        wanted = np.repeat(classes, n_samples)
        rows, forgotten = {}, {}
        for name, each in models.items():
            rows[name], _ = each.sample(
                len(wanted),
                wanted,
                n_steps=n_steps,
                guidance=guidance,
                allow_forgotten=True,
                random_state=seed,
            )
            forgotten[name] = getattr(each, "estimator_", each).forgotten_classes_.tolist()
        return cls.from_predictions(
            rows,
            wanted,
            classes=classes,
            image_shape=image_shape,
            forgotten=forgotten,
            axes=axes,
        )

    @classmethod
    def from_predictions(cls, X, y, *, classes=None, image_shape=None, forgotten=None, axes=None):
        """Plot samples.

        Parameters
        ----------
        X : array-like of shape (n, ...), or dict of str to such arrays
            The samples, of one model or of several by name.
        y : array-like of shape (n,)
            What they should be; every class as often as the others.
        classes : array-like of labels, default=None
            The rows of the plot, from above; None is all classes, sorted.
        image_shape : tuple of int, default=None
            Shape of an image, if rows are flat.
        forgotten : dict of str to collection of labels, default=None
            Labels to mark, by name of the model.
        axes : sequence of matplotlib Axes, default=None
            Where to plot, one a model; None makes a new figure.

        Returns
        -------
        GeneratedSamplesDisplay

        Raises
        ------
        ValueError
            If rows are flat and `image_shape` is missing or does not fit, or classes are not
            equally frequent.
        """
        named = X if isinstance(X, Mapping) else {"samples": X}
        y = np.asarray(y)
        classes = np.unique(y) if classes is None else np.asarray(classes)
        of_class = [np.flatnonzero(y == label) for label in classes]
        counts = [len(rows) for rows in of_class]
        if len(set(counts)) > 1:
            raise ValueError(f"y must hold every class equally often, got {counts} of {classes}.")
        order = np.concatenate(of_class)
        images = {}
        for name, rows in named.items():
            pictures = _as_pictures(np.asarray(rows)[order], image_shape)
            images[name] = pictures.reshape(len(classes), counts[0], *pictures.shape[1:])
        forgotten = {name: (forgotten or {}).get(name, ()) for name in named}
        return cls(images=images, classes=classes, forgotten=forgotten).plot(axes=axes)

    def plot(self, *, axes=None):
        """Draw the panels.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            Where to plot, one a model; None makes a new figure.

        Returns
        -------
        GeneratedSamplesDisplay

        Raises
        ------
        ValueError
            If `axes` are not one a model.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n_models = len(self.images)
        if axes is None:
            n_rows, n_columns = next(iter(self.images.values())).shape[:2]
            size = (n_models * (0.6 + 0.4 * n_columns), 0.5 + 0.4 * n_rows)
            _, axes = plt.subplots(1, n_models, figsize=size, layout="constrained")
        self.axes_ = np.atleast_1d(axes)
        if len(self.axes_) != n_models:
            raise ValueError(f"axes must be one a model, {n_models}, got {len(self.axes_)}.")
        every = np.concatenate([images.ravel() for images in self.images.values()])
        low, high = every.min(), max(every.max(), every.min() + 1e-12)
        for ax, (name, images) in zip(self.axes_, self.images.items(), strict=True):
            ax.imshow(_mosaic((images - low) / (high - low)), cmap="gray_r", vmin=0, vmax=1)
            step = images.shape[2] + _GAP
            ax.set_yticks(np.arange(len(self.classes)) * step + step / 2 - 1, self.classes)
            for label, tick in zip(self.classes.tolist(), ax.get_yticklabels(), strict=True):
                if label in self.forgotten[name]:
                    tick.set(color="C3", fontweight="bold")
            ax.set_xticks([])
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
            ax.set_title(name)
        self.figure_ = self.axes_[0].figure
        return self


def _as_pictures(rows, image_shape):
    """Return images of shape (n, height, width), or (n, height, width, 3) in colour."""
    if image_shape is not None:
        if np.prod(image_shape) != rows[0].size:
            raise ValueError(
                f"image_shape={tuple(image_shape)} does not fit rows of {rows[0].size} entries."
            )
        rows = rows.reshape(len(rows), *image_shape)
    if rows.ndim == 2:
        raise ValueError("Rows are flat: image_shape must say what their images are like.")
    if rows.ndim == 4 and rows.shape[1] == _CHANNELS_OF_COLOR:
        return np.moveaxis(rows, 1, -1)
    return rows if rows.ndim == 3 else rows.mean(axis=1)


def _mosaic(images):
    """Put images of shape (rows, columns, height, width, ...) side by side, with gaps between."""
    gap = [(0, 0), (0, 0), (0, _GAP), (0, _GAP), *[(0, 0)] * (images.ndim - 4)]
    padded = np.pad(images, gap)
    n_rows, n_columns, height, width, *channels = padded.shape
    return np.moveaxis(padded, 2, 1).reshape(n_rows * height, n_columns * width, *channels)
