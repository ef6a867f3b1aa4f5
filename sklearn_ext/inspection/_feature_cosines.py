"""Cosines between features and the weight vectors of a classifier's head."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.preprocessing import normalize
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_array, check_is_fitted

from ..utils._typing import Array, FloatArray
from ..utils._validation import split_pipeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FeatureCosineDisplay:
    """Cosines between the features of samples and the weight vectors of all classes.

    Features are the inputs of the head, the linear layer that returns the logits. If the classifier
    separates them, the features of an in-distribution (ID) sample have a large cosine with the
    weight vector of one class, and those of an out-of-distribution (OOD) sample have small cosines
    with all of them. Create a display with :meth:`from_estimator`.

    Parameters
    ----------
    cosines : dict of str to ndarray of shape (n_samples, n_classes)
        Cosines by the name of the set, "ID" first.
    classes : ndarray of shape (n_classes,)
        Class labels, in the order of the outputs of the head.
    name : str
        Title.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One panel per set, after plotting.
    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    OODScoreDisplay : Histograms of scores.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import FeatureCosineDisplay, NetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NetClassifier(random_state=0).fit(X / 16, y)
    >>> display = FeatureCosineDisplay.from_estimator(net, X / 16, 1 - X / 16)
    >>> display.cosines["OOD"].shape
    (1797, 10)
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, cosines: dict[str, FloatArray], classes: Array, name: str) -> None:
        self.cosines = cosines
        self.classes = classes
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_id: ArrayLike,
        X_ood: ArrayLike | Mapping[str, ArrayLike],
        *,
        head: str | None = None,
        max_samples: int = 200,
        name: str | None = None,
        fig: "Figure | None" = None,
    ) -> Self:
        """Compute the cosines of a fitted net's features and plot them.

        Parameters
        ----------
        estimator : estimator
            A fitted net, a fitted detector whose ``classifier_`` is one, or a pipeline that ends in
            one of them.
        X_id : array-like
            ID samples.
        X_ood : array-like or dict of str to array-like
            OOD samples, or several sets of them by name.
        head : str, default=None
            Name of the linear layer that returns the logits; None uses the `head` of the estimator
            if it has one, and the last linear layer otherwise.
        max_samples : int, default=200
            Number of samples to draw from each set, in equal steps from the first to the last.
        name : str, default=None
            Title; None uses the class name.
        fig : matplotlib Figure, default=None
            Figure to plot on; None makes a new figure.

        Returns
        -------
        FeatureCosineDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If samples are sparse.
        ValueError
            If an entry is missing or infinite.
        """
        before, estimator = split_pipeline(estimator)
        check_is_fitted(estimator)
        from ..neural import class_labels, head_of, penultimate

        net = getattr(estimator, "classifier_", estimator)
        head = getattr(estimator, "head", None) if head is None else head
        weight = normalize(head_of(net.module_, head).weight.detach().cpu().numpy())
        sets = X_ood if isinstance(X_ood, Mapping) else {"OOD": X_ood}
        cosines = {}
        for key, given in {"ID": X_id, **sets}.items():
            X = check_array(
                before(given), dtype=np.float32, order="C", allow_nd=True, input_name=str(key)
            )
            cosines[str(key)] = normalize(penultimate(net, X, head=head).cpu().numpy()) @ weight.T
        title = type(estimator).__name__ if name is None else name
        return cls(cosines=cosines, classes=class_labels(net), name=title).plot(
            max_samples=max_samples, fig=fig
        )

    def plot(self, *, max_samples: int = 200, fig: "Figure | None" = None) -> Self:
        """Draw one image per set, with one line per sample, sorted by the largest cosine.

        Parameters
        ----------
        max_samples : int, default=200
            Number of samples to draw from each set, in equal steps from the first to the last.
        fig : matplotlib Figure, default=None
            Figure to plot on; None makes a new figure.

        Returns
        -------
        FeatureCosineDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n_sets = len(self.cosines)
        if fig is None:
            fig = plt.figure(figsize=(1.5 + 2.2 * n_sets, 4.0), layout="constrained")
        self.axes_ = np.atleast_1d(fig.subplots(1, n_sets))
        for ax, (key, cosines) in zip(self.axes_, self.cosines.items(), strict=True):
            step = np.unique(np.linspace(0, len(cosines) - 1, max_samples).astype(int))
            shown = cosines[step]
            order = np.lexsort((-shown.max(axis=1), shown.argmax(axis=1)))
            image = ax.imshow(shown[order], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
            ax.set_title(f"{key}: mean |cos| {np.abs(cosines).mean():.2f}", fontsize="medium")
            ax.set_xticks(np.arange(len(self.classes)), self.classes)
            ax.set_xlabel("class")
            ax.set_yticks([])
        self.axes_[0].set_ylabel("samples, by nearest class")
        fig.colorbar(image, ax=self.axes_, label="cosine")
        fig.suptitle(self.name)
        self.figure_ = fig
        return self
