"""Samples of a generative model as pictures, or as lines over the features of a table."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from ..utils._random import draw_seed
from ..utils._typing import Array, RandomState
from ..utils._validation import check_axes, split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP = 1  # pixels between two pictures
_N_COLOR_CHANNELS = 3
_MOST_TABLE_FEATURES = 30  # more features than this must be the pixels of an image


class GeneratedSamplesDisplay:
    """Grids of generated images, with one row per class and one panel per model.

    Samples of a table are drawn as lines over the features, with one color per class. All models
    start from the same noise, so you can compare them sample by sample to see what a model has
    forgotten. Create a display with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    images : dict of str to ndarray of shape (n_classes, n_samples, height, width[, 3])
        Images by the name of the model; rows of a table have the shape (n_classes, n_samples,
        n_features).
    classes : sequence
        Labels of the rows.
    forgotten : dict of str to collection
        Labels that each model has forgotten, which are marked.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after plotting.
    axes_ : ndarray of matplotlib Axes
        One per model.

    See Also
    --------
    sklearn_ext.metrics.generation_report : Scores of generative models.

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

    def __init__(
        self,
        *,
        images: dict[str, Array],
        classes: Array,
        forgotten: Mapping[str, Collection],
    ) -> None:
        self.images = images
        self.classes = classes
        self.forgotten = forgotten

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        classes: ArrayLike | None = None,
        n_samples: int = 8,
        image_shape: Sequence[int] | None = None,
        n_steps: int = 25,
        guidance: float = 1.0,
        random_state: RandomState = None,
        axes: "Sequence[Axes] | None" = None,
    ) -> Self:
        """Draw samples of every class and plot them.

        Parameters
        ----------
        estimator : fitted ConditionalDDPM or SFRonClassForgetter, or dict of str to such models
            One model, or several by name, such as the model before and after forgetting. The
            last step of a pipeline generates samples in the units of its own input.
        classes : array-like of labels, default=None
            Classes to plot, from top to bottom; None plots all.
        n_samples : int, default=8
            Number of images per class.
        image_shape : tuple of int, default=None
            Shape of an image, (height, width) or (channels, height, width), for models that were
            fitted to flattened images. None draws flat samples as rows of a table.
        n_steps : int, default=25
            Number of sampling steps.
        guidance : float, default=1
            Guidance of the sampler.
        random_state : int, RandomState instance or None, default=None
            Seed for the noise, which is the same for every model.
        axes : sequence of matplotlib Axes, default=None
            Axes to plot on, one per model; None makes a new figure.

        Returns
        -------
        GeneratedSamplesDisplay

        Raises
        ------
        ValueError
            If flat samples have more than 30 features and `image_shape` is missing, or if it does
            not match the samples.
        """
        models = (
            estimator if isinstance(estimator, Mapping) else {type(estimator).__name__: estimator}
        )
        models = {name: split_pipeline(each)[1] for name, each in models.items()}
        for each in models.values():
            check_is_fitted(each)
        first = next(iter(models.values()))
        shown = first.classes_ if classes is None else np.asarray(classes)
        seed = draw_seed(random_state)
        wanted = np.repeat(shown, n_samples)
        samples, forgotten = {}, {}
        for name, each in models.items():
            samples[name], _ = each.sample(
                len(wanted),
                wanted,
                n_steps=n_steps,
                guidance=guidance,
                allow_forgotten=True,
                random_state=seed,
            )
            fitted: Any = getattr(each, "estimator_", each)
            forgotten[name] = fitted.forgotten_classes_.tolist()
        return cls.from_predictions(
            samples,
            wanted,
            classes=shown,
            image_shape=image_shape,
            forgotten=forgotten,
            axes=axes,
        )

    @classmethod
    def from_predictions(
        cls,
        X: ArrayLike | Mapping[str, ArrayLike],
        y: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        image_shape: Sequence[int] | None = None,
        forgotten: Mapping[str, Collection] | None = None,
        axes: "Sequence[Axes] | None" = None,
    ) -> Self:
        """Plot samples.

        Parameters
        ----------
        X : array-like of shape (n, ...), or dict of str to such arrays
            Samples of one model, or of several by name.
        y : array-like of shape (n,)
            The requested classes; each must occur equally often.
        classes : array-like of labels, default=None
            Classes to plot, from top to bottom; None plots all, sorted.
        image_shape : tuple of int, default=None
            Shape of an image, if images are flattened. None draws flat samples as rows of a table.
        forgotten : dict of str to collection of labels, default=None
            Labels to mark, by the name of the model.
        axes : sequence of matplotlib Axes, default=None
            Axes to plot on, one per model; None makes a new figure.

        Returns
        -------
        GeneratedSamplesDisplay

        Raises
        ------
        ValueError
            If flat samples have more than 30 features and `image_shape` is missing, if it does not
            match the samples, or if classes are not equally frequent.
        """
        named = X if isinstance(X, Mapping) else {"samples": X}
        labels = np.asarray(y)
        shown = np.unique(labels) if classes is None else np.asarray(classes)
        of_class = [np.flatnonzero(labels == label) for label in shown]
        counts = [len(indices) for indices in of_class]
        if len(set(counts)) > 1:
            raise ValueError(
                f"y must contain every class equally often, got {counts} samples of {shown}."
            )
        order = np.concatenate(of_class)
        images = {}
        for name, samples in named.items():
            pictures = _as_pictures(np.asarray(samples)[order], image_shape)
            images[name] = pictures.reshape(len(shown), counts[0], *pictures.shape[1:])
        marked = {} if forgotten is None else forgotten
        marked = {name: marked.get(name, ()) for name in named}
        return cls(images=images, classes=shown, forgotten=marked).plot(axes=axes)

    def plot(self, *, axes: "Sequence[Axes] | None" = None) -> Self:
        """Draw the panels.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            Axes to plot on, one per model; None makes a new figure.

        Returns
        -------
        GeneratedSamplesDisplay

        Raises
        ------
        ValueError
            If `axes` does not have one entry per model.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n_models = len(self.images)
        first = next(iter(self.images.values()))
        is_table = first.ndim == 3
        if axes is None:
            n_rows, n_columns = first.shape[:2]
            size = (n_models * (0.6 + 0.4 * n_columns), 0.5 + 0.4 * n_rows)
            if is_table:
                size = (n_models * (1.5 + 0.5 * first.shape[2]), 3.2)
            _, axes = plt.subplots(1, n_models, figsize=size, layout="constrained", sharey=is_table)
        self.axes_ = check_axes(axes, n_models, "model")
        self.figure_ = self.axes_[0].figure
        if is_table:
            for ax, (name, rows) in zip(self.axes_, self.images.items(), strict=True):
                self._draw_table(ax, name, rows)
            return self
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
        return self

    def _draw_table(self, ax: "Axes", name: str, rows: Array) -> None:
        features = np.arange(rows.shape[2])
        for k, label in enumerate(self.classes.tolist()):
            is_forgotten = label in self.forgotten[name]
            lines = ax.plot(
                features, rows[k].T, color=f"C{k}", alpha=0.6, linestyle="-:"[is_forgotten]
            )
            lines[0].set_label(f"{label} (forgotten)" if is_forgotten else str(label))
        ax.set(title=name, xlabel="feature", ylabel="value", xticks=features)
        ax.legend(fontsize="small")


def _as_pictures(rows: Array, image_shape: Sequence[int] | None) -> Array:
    """Return images of shape (n, height, width[, 3]), or rows of shape (n, n_features)."""
    if image_shape is not None:
        if np.prod(image_shape) != rows[0].size:
            raise ValueError(
                f"image_shape must match samples with {rows[0].size} features, "
                f"got {tuple(image_shape)}."
            )
        rows = rows.reshape(len(rows), *image_shape)
    if rows.ndim == 2 and rows.shape[1] > _MOST_TABLE_FEATURES:
        raise ValueError(
            f"image_shape must give the shape of images for samples with more than "
            f"{_MOST_TABLE_FEATURES} features, got None for samples with {rows.shape[1]}."
        )
    if rows.ndim == 2:
        return rows
    if rows.ndim == 4 and rows.shape[1] == _N_COLOR_CHANNELS:
        return np.moveaxis(rows, 1, -1)
    return rows if rows.ndim == 3 else rows.mean(axis=1)


def _mosaic(images: Array) -> Array:
    """Arrange images of shape (rows, columns, height, width, ...) in a grid with gaps."""
    gap = [(0, 0), (0, 0), (0, _GAP), (0, _GAP), *[(0, 0)] * (images.ndim - 4)]
    padded = np.pad(images, gap)
    n_rows, n_columns, height, width, *channels = padded.shape
    return np.moveaxis(padded, 2, 1).reshape(n_rows * height, n_columns * width, *channels)
