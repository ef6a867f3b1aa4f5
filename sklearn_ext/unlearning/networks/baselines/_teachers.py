"""Learning from teachers: the original network and one that forgot or never learned."""

from functools import partial
from numbers import Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval

from ....neural import log_probabilities
from .._base import Task
from ._algorithm import BaselineConfig, teacher_loss, teacher_targets
from ._fine_tuning import BaseTargetUnlearner


class BadTeacherUnlearner(BaseTargetUnlearner):
    """Learn retained samples from the original model, and the others from a random model.

    The targets are probabilities: those of the original model for the retained samples, and those
    of the same network with new random weights for the samples to forget. Layers get new weights
    through their method ``reset_parameters``; layers without it stay as they are.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    temperature : float, default=1
        Divides the logits of both teachers and of the student.

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
        One record per epoch.

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
    .. [1] V. Chundawat, A. Tarun, M. Mandal, M. Kankanhalli, "Can Bad Teaching Induce Forgetting?
       Unlearning in Deep Networks Using an Incompetent Teacher", arXiv:2205.08096, 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import BadTeacherUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BadTeacherUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseTargetUnlearner._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        temperature: float = 1.0,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "adamw",
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
            random_state=random_state,
            verbose=verbose,
        )
        self.temperature = temperature

    def _config(self, task: Task) -> BaselineConfig:
        settings: dict[str, Any] = {
            "temperature": self.temperature,
            "log_probabilities": partial(log_probabilities, task.net),
        }
        return BaselineConfig(
            self._training(task),
            partial(teacher_targets, **settings),
            loss=partial(teacher_loss, **settings),
        )
