"""Cosines of features with the rows of a classifier's head."""

import numpy as np
from sklearn.preprocessing import normalize
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_array, check_is_fitted


class FeatureCosineDisplay:
    """Cosines of the features of rows with all rows of the head, by class.

    Features are the input of the head, the linear layer that returns the logits. In a classifier
    that has separated them, those of in-distribution (ID) rows have a large cosine with the row of
    one class, and those of out-of-distribution (OOD) rows have none with any. Make one with
    :meth:`from_estimator`.

    Parameters
    ----------
    cosines : dict of str to ndarray of shape (n_samples, n_classes)
        By the name of the set, "ID" first.
    classes : ndarray of shape (n_classes,)
        Labels of the rows of the head.
    name : str
        Title.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One panel a set, once plotted.
    figure_ : matplotlib Figure

    See Also
    --------
    OODScoreDisplay : The scores that come of it.

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

    def __init__(self, *, cosines, classes, name):
        self.cosines = cosines
        self.classes = classes
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator, X_id, X_ood, *, head=None, max_rows=200, name=None, fig=None
    ):
        """Compute the cosines of a fitted net's features and plot them.

        Parameters
        ----------
        estimator : estimator
            A fitted net, or a fitted detector whose ``classifier_`` is one.
        X_id : array-like
            ID rows.
        X_ood : array-like or dict of str to array-like
            OOD rows, or several sets of them by name.
        head : str, default=None
            Name of the linear layer that returns the logits; None is the `head` of the estimator if
            it has one, else the last linear layer.
        max_rows : int, default=200
            Rows to draw of each set, from the first to the last in equal steps.
        name : str, default=None
            Title; None is the name of the class.
        fig : matplotlib Figure, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        FeatureCosineDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If rows are sparse.
        ValueError
            If an entry is missing or infinite.
        """
        check_is_fitted(estimator)
        from ..neural import class_labels, head_of, penultimate

        net = getattr(estimator, "classifier_", estimator)
        head = getattr(estimator, "head", None) if head is None else head
        weight = normalize(head_of(net.module_, head).weight.detach().cpu().numpy())
        sets = X_ood if isinstance(X_ood, dict) else {"OOD": X_ood}
        cosines = {}
        for key, X in {"ID": X_id, **sets}.items():
            X = check_array(X, dtype=np.float32, order="C", allow_nd=True, input_name=str(key))
            cosines[str(key)] = normalize(penultimate(net, X, head=head).cpu().numpy()) @ weight.T
        title = type(estimator).__name__ if name is None else name
        return cls(cosines=cosines, classes=class_labels(net), name=title).plot(
            max_rows=max_rows, fig=fig
        )

    def plot(self, *, max_rows=200, fig=None):
        """Draw one image a set: a line for each row, sorted by its largest cosine.

        Parameters
        ----------
        max_rows : int, default=200
            Rows to draw of each set, from the first to the last in equal steps.
        fig : matplotlib Figure, default=None
            Where to plot; None makes a new figure.

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
            step = np.unique(np.linspace(0, len(cosines) - 1, max_rows).astype(int))
            shown = cosines[step]
            order = np.lexsort((-shown.max(axis=1), shown.argmax(axis=1)))
            image = ax.imshow(shown[order], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
            ax.set_title(f"{key}: mean |cos| {np.abs(cosines).mean():.2f}", fontsize="medium")
            ax.set_xticks(np.arange(len(self.classes)), self.classes)
            ax.set_xlabel("class")
            ax.set_yticks([])
        self.axes_[0].set_ylabel("rows, by nearest class")
        fig.colorbar(image, ax=self.axes_, label="cosine")
        fig.suptitle(self.name)
        self.figure_ = fig
        return self
