"""The estimator of MUSO, which forgets by training with other labels."""

from numbers import Real
from typing import Any, ClassVar, Self

from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ...neural import AnySamples, class_labels
from ...utils._atomic import atomic_fit
from ...utils.compat import with_callbacks
from ._base import BaseFineTuner, Task, check_given_together
from ._muso_algorithm import MUSOConfig, muso


class MUSOUnlearner(BaseFineTuner):
    """Unlearn by relabeling (MUSO): fine-tune with the labels that a retrained model would give.

    If a model that is linear in fixed features is fine-tuned with the labels that a retrained model
    gives to the samples to forget, it ends exactly at the weights of the retrained model. This
    estimator estimates those labels without retraining, and fine-tunes a network with them, which
    is an approximation.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    label_model : str, classifier, array-like or callable, default="auto"
        Estimates the labels of the samples to forget.

        - "auto": a ridge regression of at most 5,000 retained samples on features that have never
          depended on the samples to forget: either those of the network before its training, which
          is built again from the parameter `module` of the net, or responses to image patches if
          the network is convolutional, and random features of the inputs otherwise. The better
          leave-one-out predictions of the retained samples decide. The predictions are mixed with
          the outputs of the original network, whose weight is larger the less it has memorized its
          training samples.
        - "random_features": the ridge regression of "auto" on random features of the inputs.
        - "head": a ridge regression of the retained labels on the features before the last linear
          layer. It is refitted in each epoch and makes new predictions for each batch. The features
          were trained on the samples to forget, so this model changes too few labels unless a
          whole class is forgotten.
        - "projection": the published rule, see :meth:`from_paper`. If there are more retained
          samples than features, it starts with the true labels, and the outcome depends on
          chance.
        - A classifier: a clone is fitted to the flattened retained samples.
        - An array: labels of shape (n_forget,), or scores of all classes of shape
          (n_forget, n_classes), in the order of `forget`.
        - A callable: it is called with the retained samples, their labels and the samples to
          forget, and returns such an array.

    soft_targets : bool or "auto", default="auto"
        Whether to train the samples to forget on probabilities (True) or labels (False). "auto"
        means the probabilities of a label model that is chosen by name, made more extreme the
        higher its accuracy is, because networks are more confident than calibrated probabilities.
        For any other label model, or if the loss of the network does not take probabilities,
        "auto" means labels.

    retained_ratio : float in (0, 1], default=0.35
        Fraction of the retained samples that each epoch visits. The samples to forget are all
        visited.

    subset_ratio : float in (0, 1], default=0.2
        Fraction of the retained samples that "head" and "projection" draw in each epoch.

    eps : float or None, default=None
        Ridge of "head" in units of the mean eigenvalue, or absolute ridge of "projection". None
        means 1e-3 for "head", and a rise from 1e-6 to 1e-2 for "projection".

    head : str or None, default=None
        Name of the last linear layer. None means the last :class:`torch.nn.Linear`.

    initial_head : array-like of shape (n_penultimate + 1, n_classes) or None, default=None
        Weights of that layer before the original training, with the biases in the last row. None
        means zero.

    learning_rate : float, default=3e-3
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

    retained_targets : {"auto", "outputs", "labels"}, default="auto"
        Targets of the retained samples. "outputs" are the probabilities of the original network,
        which preserve its predictions for these samples. "labels", as in the paper, train it
        further. "auto" means "outputs" if the loss of the network takes probabilities, and "labels"
        otherwise.

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

    forget_labels_ : ndarray of shape (n_forget,)
        Labels with which the samples to forget were trained in the last epoch.

    changed_fraction_ : ndarray of shape (n_epochs,)
        Fraction of these labels that differed from the true ones in each epoch.

    label_model_ : LabelModelSummary, estimator or None
        The fitted label model. None if labels are given, and for "head" and "projection". The
        attributes `kind` and `accuracy` of a summary are the kind of features that was chosen and
        the leave-one-out accuracy on the retained samples.

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
    RandomFeatureClassifier : Forgets exactly, in closed form.
    NatMUUnlearner : Changes the samples to forget together with their labels.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import MUSOUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MUSOUnlearner(random_state=0).fit(X / 16, y, forget=y == 3)
    >>> bool((model.predict(X[y == 3] / 16) == 3).mean() < 0.05)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseFineTuner._parameter_constraints,
        "label_model": [
            StrOptions({"auto", "random_features", "head", "projection"}),
            HasMethods(["fit", "predict"]),
            "array-like",
            callable,
        ],
        "soft_targets": ["boolean", StrOptions({"auto"})],
        "retained_targets": [StrOptions({"auto", "outputs", "labels"})],
        "retained_ratio": [Interval(Real, 0, 1, closed="right")],
        "subset_ratio": [Interval(Real, 0, 1, closed="right")],
        "eps": [Interval(Real, 0, None, closed="left"), None],
        "head": [str, None],
        "initial_head": ["array-like", None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        label_model: Any = "auto",
        soft_targets: bool | str = "auto",
        retained_ratio: float = 0.35,
        subset_ratio: float = 0.2,
        eps: float | None = None,
        head: str | None = None,
        initial_head: ArrayLike | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "adamw",
        retained_targets: str = "auto",
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
        self.label_model = label_model
        self.soft_targets = soft_targets
        self.retained_ratio = retained_ratio
        self.subset_ratio = subset_ratio
        self.eps = eps
        self.head = head
        self.initial_head = initial_head
        self.retained_targets = retained_targets

    @classmethod
    def from_paper(cls, estimator: Any = None, **params: Any) -> Self:
        """Return the unlearner with the label rule of the paper.

        This sets the true labels of all retained samples as targets, no limit on the loss of
        accuracy on them, and ``label_model="projection"``. By this rule, equation 2 of the paper,
        the label of a sample is the class with the largest score
        :math:`Z_u R + (Z_u - Z_u^p) W_p`, where the head R is projected onto the features of the
        retained samples.

        Parameters
        ----------
        estimator : skorch classifier, FrozenEstimator or None, default=None
            The model to unlearn from.
        **params
            Other parameters of the class, which take precedence.

        Returns
        -------
        MUSOUnlearner
            The unfitted estimator.
        """
        published: dict[str, Any] = {
            "label_model": "projection",
            "soft_targets": False,
            "retained_targets": "labels",
            "retained_ratio": 1.0,
            "retained_tolerance": None,
        }
        return cls(estimator, **published | params)

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: AnySamples,
        y: ArrayLike | None = None,
        *,
        forget: ArrayLike | None = None,
        X_val: AnySamples = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Fit the original model unless it is fitted already, then forget some of its samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
            Training data of the original model, including the samples to forget. A tensor, a dict
            of arrays or a map-style :class:`torch.utils.data.Dataset` is read batch by batch.
        y : array-like of shape (n_samples,) or None, default=None
            Class labels of the samples. With None, X must be a dataset that contains them.
        forget : array-like of bool of shape (n_samples,), or of int, default=None
            Mask or indices of the samples to forget. With None, nothing is forgotten, and
            `estimator_` is a copy of the original model. In cross-validation, pass a mask: it is
            split together with the samples.
        X_val : array-like of shape (n_validation, ...), default=None
            Samples that the original model was not trained on. They show how much it has memorized,
            and how confident it is about samples that it has not seen.
        y_val : array-like of shape (n_validation,), default=None
            Class labels of these samples.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, X or y is not finite or has the wrong shape, `forget`
            selects no sample, all samples, a sample twice or one that does not exist, `forget` is a
            mask of the wrong length, fewer than two classes would be left, only one of `X_val` and
            `y_val` is given, or the training produces weights that are not finite.
        TypeError
            If `estimator` is not a skorch classifier, or `forget` is neither a mask nor indices.
        """
        check_given_together(X_val, y_val)
        task = self._begin(X, y, forget)
        samples_val, codes_val = self._held_out(task, X_val, y_val)
        result = muso(
            task.net.module_,
            task.X,
            task.codes,
            task.request,
            self._config(task),
            task.rng,
            classes=class_labels(task.net),
            initial=task.initial,
            X_val=samples_val,
            codes_val=codes_val,
            loss=task.loss,
            monitor=task.monitor,
        )
        self._finish(task)
        self.forget_labels_ = self.classes_[result.forget_codes]
        self.changed_fraction_ = result.changed_fraction
        self.label_model_ = result.label_model
        self.history_ = result.history
        return self

    def _config(self, task: Task) -> MUSOConfig:
        return MUSOConfig(
            training=self._training(task),
            label_model=self.label_model,
            soft_targets=self.soft_targets,
            retained_ratio=self.retained_ratio,
            subset_ratio=self.subset_ratio,
            eps=self.eps,
            head=self.head,
            initial_head=self.initial_head,
            retained_targets=self.retained_targets,
            limit=self._limit(),
        )
