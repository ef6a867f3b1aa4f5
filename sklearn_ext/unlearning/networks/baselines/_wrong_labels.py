"""Training with random wrong labels, of all weights or of the salient ones."""

from numbers import Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval

from ....utils._validation import own_constructor
from .._base import Task
from ._algorithm import BaselineConfig, wrong_labels
from ._fine_tuning import BaseTargetUnlearner


@own_constructor
class RandomLabelUnlearner(BaseTargetUnlearner):
    """Train on all samples, with random wrong labels for the samples to forget.

    This method is also known as amnesiac unlearning. A wrong label is drawn once for each sample,
    with the class frequencies of the retained samples. It often forgets more than retraining would.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    learning_rate : float, default=1e-3
        Initial learning rate, which decays to 0 along half a cosine.

    weight_decay : float, default=0
        Weight decay of the optimizer.

    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="adamw"
        The optimizer. "sgd" uses a momentum of 0.9.

    retained_tolerance : float in [0, 1] or None, default=0.05
        Largest loss of accuracy on the retained samples, 500 of which are watched. Changes that
        lose more are shortened, and the following steps are half as long. None means no limit.

    on_retained_loss : {"warn", "raise"}, default="warn"
        Whether `fit` warns or raises an error if the accuracy is still lower at the end.

    random_state : int, RandomState instance or None, default=None
        Seed of all random draws, and of the original training if there is one.

    verbose : int, default=0
        If positive, the record of each epoch is printed.

    Attributes
    ----------
    estimator_ : skorch classifier
        The unlearned model.

    original_estimator_ : skorch classifier
        The original model.

    classes_ : ndarray of shape (n_classes,)
        Class labels of the original model.

    forget_idx_ : ndarray of int
        Indices of the samples to forget.

    history_ : list of dict
        One record per epoch, with the loss, the accuracies "FA" on samples to forget and "RA" on
        retained samples, and the fraction "kept" of the change.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    MUSOUnlearner : Also trains on the samples to forget, with labels of a retrained model.

    References
    ----------
    .. [1] L. Graves, V. Nagisetty, V. Ganesh, "Amnesiac Machine Learning", AAAI, 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import RandomLabelUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RandomLabelUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    def _config(self, task: Task) -> BaselineConfig:
        return BaselineConfig(self._training(task), limit=self._limit(), training_set=wrong_labels)


class SalUnUnlearner(BaseTargetUnlearner):
    """Train with random wrong labels, but change only weights that matter for the forget set.

    Weights are ranked by the size of the gradient of the loss, summed over the samples to forget.
    The other weights keep their exact values.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    mask_fraction : float in [0, 1], default=0.5
        Fraction of the weights that may change.

    learning_rate : float, default=1e-3
        Initial learning rate, which decays to 0 along half a cosine.

    weight_decay : float, default=0
        Weight decay of the optimizer.

    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="adamw"
        The optimizer. "sgd" uses a momentum of 0.9.

    retained_tolerance : float in [0, 1] or None, default=0.05
        Largest loss of accuracy on the retained samples, 500 of which are watched. Changes that
        lose more are shortened, and the following steps are half as long. None means no limit.

    on_retained_loss : {"warn", "raise"}, default="warn"
        Whether `fit` warns or raises an error if the accuracy is still lower at the end.

    random_state : int, RandomState instance or None, default=None
        Seed of all random draws, and of the original training if there is one.

    verbose : int, default=0
        If positive, the record of each epoch is printed.

    Attributes
    ----------
    estimator_ : skorch classifier
        The unlearned model.

    original_estimator_ : skorch classifier
        The original model.

    classes_ : ndarray of shape (n_classes,)
        Class labels of the original model.

    forget_idx_ : ndarray of int
        Indices of the samples to forget.

    history_ : list of dict
        One record per epoch, with the loss, the accuracies "FA" on samples to forget and "RA" on
        retained samples, and the fraction "kept" of the change.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    RandomLabelUnlearner : Does the same with all weights.

    References
    ----------
    .. [1] C. Fan, J. Liu, Y. Zhang, E. Wong, D. Wei, S. Liu, "SalUn: Empowering Machine Unlearning
       via Gradient-based Weight Saliency in Both Image Classification and Generation",
       arXiv:2310.12508, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import SalUnUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SalUnUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseTargetUnlearner._parameter_constraints,
        "mask_fraction": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        mask_fraction: float = 0.5,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "adamw",
        retained_tolerance: float | None = 0.05,
        on_retained_loss: str = "warn",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            retained_tolerance=retained_tolerance,
            on_retained_loss=on_retained_loss,
            random_state=random_state,
            verbose=verbose,
        )
        self.mask_fraction = mask_fraction

    def _config(self, task: Task) -> BaselineConfig:
        return BaselineConfig(
            self._training(task),
            limit=self._limit(),
            training_set=wrong_labels,
            mask_fraction=self.mask_fraction,
        )
