"""Detection by features of outliers that are orthogonal to all classes."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ...neural import (
    CosineDecay,
    NetClassifier,
    class_labels,
    draw_seed,
    fitted_copy,
    head_of,
    n_minibatches,
    resolve_device,
)
from ...utils._warnings import warn_caller
from .._classifier_outputs import check_head, features_of, head_parameters
from .._detector import BaseOODDetector
from .._docs import with_common_parts
from ..post_hoc._scores import unit_rows
from ._feature_geometry import SCORE_NAMES, named_score, row_space_basis, separation_report
from ._pretraining import roomy_module
from ._separation_net import SeparationNet
from ._synthetic_outliers import KINDS, synthetic_outliers

# Of automatic numbers of epochs. More steps fit the classes no better, and features of strange rows
# come nearer to theirs.
_STEPS = 550
_FEWEST_EPOCHS = 5
_MOST_PRETRAIN_EPOCHS = 40
_MOST_EPOCHS = 20


@with_common_parts
class OrthLossOODDetector(BaseOODDetector):
    r"""Detect unknown classes by features that are orthogonal to all known ones (OrthLoss).

    A classifier is fine-tuned with outliers at hand: features of rows of a class are pulled
    towards the row :math:`w_c` of the head that belongs to it, those of outliers are made
    orthogonal to all rows. What of a unit feature u is left in the row space of the head, at most
    C of d dimensions, then says whether an input is of a known class. One network and one forward
    pass give classes and scores.

    The outliers are rows of X labelled `outlier_label`. They need not resemble those met later,
    but should be diverse.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The net to fine-tune; its head is its last :class:`torch.nn.Linear`. A fitted one is copied,
        one that is not is cloned and fitted with its own settings. None trains a small perceptron
        (images: a small convolutional network) with at least 128 features and three a class.
        Cloning the detector, as searches and cross-validation do, forgets what a bare net has
        learned: put a fitted one into a :class:`~sklearn.frozen.FrozenEstimator`.

    oe_weight : float, default=0.5
        Weight :math:`\lambda` of the outlier-exposure loss, which makes outputs on outliers
        uniform.

    sep_weight : float, default=1.0
        Weight :math:`\beta` of the separation loss, the absolute cosines of outliers with the rows
        of the head.

    clu_weight : float, default=1.0
        Weight :math:`\alpha` of the clustering loss, minus the cosine of a feature with the row of
        its class.

    sep_reduction : {"mean", "sum"}, default="mean"
        Over classes, in the separation loss. "sum" is C times as strong.

    energy_margins : (float, float) or None, default=None
        If given, the outlier-exposure loss becomes squared hinges that push energies of inliers
        below the first number and those of outliers above the second. They are in units of the
        logits of this network, and `oe_weight` should be about 0.1.

    pretrain_epochs : int or "auto", default="auto"
        Epochs of plain classification before, where `estimator` is None. "auto" is what takes about
        550 steps, from 5 to 40: enough for easy classes. For others give a number, or a net that is
        trained well.

    pretrain_lr : float, default=0.1
        Learning rate to begin these with.

    max_epochs : int or "auto", default="auto"
        Epochs of fine-tuning. "auto" is what takes about 550 steps, from 5 to 20. An epoch goes
        once over the rows of the classes, however many outliers there are.

    stage2_start : int or float in [0, 1), default=0
        First epoch with the terms on features, or the share of `max_epochs` before it.

    lr : float, default=0.05
        Learning rate to begin fine-tuning with; it falls along half a cosine.

    momentum : float in [0, 1), default=0.9
        Momentum of the gradient steps, Nesterov's.

    weight_decay : float, default=5e-4
        L2 penalty.

    batch_size : int, default=64
        Rows of the classes in a step.

    outlier_ratio : float, default=1.0
        Outliers of a step over its rows of the classes.

    outlier_label : int or str, default=-1
        Label in y that means "of no class".

    synthetic_outliers : {"auto", "permute", "mix", "uniform"} or None, default="auto"
        What to train on where no row is labelled as an outlier: values shuffled within a row,
        mixtures of two classes, uniform draws from the bounding box, or all of these. A warning
        says so. None makes it an error.

    ood_score : str, default="rowspace"
        What `score_samples` returns, one of "rowspace", "msp", "energy", "maxlogit", "maxcos",
        "msp+cos", "msp+meancos", "msp+maxcos" and "msp+rowspace": the length of the unit feature's
        projection onto the row space, the largest probability, the soft maximum of the logits, the
        largest logit, the largest cosine, the sum or the mean of all absolute cosines, or a sum of
        two of these.

    {rejection}

    validation_fraction : float in (0, 1), default=0.1
        Share of the rows of the classes that is kept from training and sets the threshold.

    head : str or None, default=None
        Name of the linear layer whose input are the features; None is the last one.

    callbacks : list of skorch callbacks or None, default=None
        For fine-tuning.

    device : str, torch.device or None, default=None
        Where to train: "cpu", "cuda", "mps", or "auto" for the best there is. None is the CPU, or
        the device of `estimator`.

    random_state : int, RandomState instance or None, default=None
        Seed of everything.

    verbose : int, default=0
        Prints losses when positive.

    Attributes
    ----------
    classifier_ : SeparationNet
        The fine-tuned classifier.

    classes_ : ndarray of shape (n_classes,)
        Labels without `outlier_label`.

    offset_ : float
        Threshold of the scores.

    weight_rows_ : ndarray of shape (n_classes, n_penultimate)
        Unit rows of the head.

    row_basis_ : ndarray of shape (n_penultimate, rank)
        Orthonormal basis of their span.

    separation_ : dict of dict
        Under "before" and "after" fine-tuning: ``id_cosine`` and ``outlier_cosine``, the mean
        absolute cosine of training rows and of outliers with the rows of the head;
        ``id_residual`` and ``outlier_residual``, the mean length of what of a unit feature is
        outside of the row space; ``outliers_like_id``, the share of outliers with a probability
        above 0.99 and a cosine above 0.9. Many of the latter before fine-tuning hint at outliers
        that are of a known class.

    n_outliers_ : int
        Number of outliers trained on.

    is_synthetic_ : bool
        Whether they were made.

    history_ : skorch.history.History
        Of fine-tuning.

    {facts}

    See Also
    --------
    SeparationNet : The training alone.
    KNNOODDetector : Needs no outliers.

    Notes
    -----
    The published code is ``ood_score="msp+cos", sep_reduction="sum", stage2_start=0.5,
    outlier_ratio=2``.

    A step costs what it costs to train on twice as many rows (``1 + outlier_ratio``); a score
    costs one forward pass.

    References
    ----------
    .. [1] Y. Wu, R. Yu, X. Cheng, Z. He, X. Huang, "Pursuing Feature Separation based on Neural
       Collapse for Out-of-Distribution Detection", ICLR 2025, arXiv:2405.17816.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import OrthLossOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> rng = np.random.RandomState(0)
    >>> outliers = np.apply_along_axis(rng.permutation, 1, X)
    >>> detector = OrthLossOODDetector(max_epochs=5, pretrain_epochs=5, random_state=0)
    >>> X_all, y_all = np.concatenate([X, outliers]), np.concatenate([y, np.full(len(X), -1)])
    >>> detector.fit(X_all, y_all).classes_
    array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    >>> unseen = rng.uniform(0, 16, size=X.shape)
    >>> bool((detector.predict(unseen) == -1).mean() > 0.8)
    True
    """

    _parameter_constraints = {
        **BaseOODDetector._parameter_constraints,
        "oe_weight": [Interval(Real, 0, None, closed="left")],
        "sep_weight": [Interval(Real, 0, None, closed="left")],
        "clu_weight": [Interval(Real, 0, None, closed="left")],
        "sep_reduction": [StrOptions({"mean", "sum"})],
        "energy_margins": [tuple, list, None],
        "pretrain_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "pretrain_lr": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "stage2_start": [
            Interval(Integral, 0, None, closed="left"),
            Interval(Real, 0, 1, closed="left"),
        ],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "outlier_ratio": [Interval(Real, 0, None, closed="neither")],
        "synthetic_outliers": [StrOptions({"auto", *KINDS}), None],
        "ood_score": [StrOptions(set(SCORE_NAMES))],
        "head": [str, None],
        "callbacks": [list, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator=None,
        *,
        oe_weight=0.5,
        sep_weight=1.0,
        clu_weight=1.0,
        sep_reduction="mean",
        energy_margins=None,
        pretrain_epochs="auto",
        pretrain_lr=0.1,
        max_epochs="auto",
        stage2_start=0,
        lr=0.05,
        momentum=0.9,
        weight_decay=5e-4,
        batch_size=64,
        outlier_ratio=1.0,
        outlier_label=-1,
        synthetic_outliers="auto",
        ood_score="rowspace",
        id_rejection_rate=0.05,
        validation_fraction=0.1,
        head=None,
        callbacks=None,
        device=None,
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.estimator = estimator
        self.oe_weight = oe_weight
        self.sep_weight = sep_weight
        self.clu_weight = clu_weight
        self.sep_reduction = sep_reduction
        self.energy_margins = energy_margins
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_lr = pretrain_lr
        self.max_epochs = max_epochs
        self.stage2_start = stage2_start
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.outlier_ratio = outlier_ratio
        self.synthetic_outliers = synthetic_outliers
        self.ood_score = ood_score
        self.head = head
        self.callbacks = callbacks
        self.device = device
        self.verbose = verbose

    def _fit_detector(self, rows, rng):
        self._check_margins()
        outliers = self._outliers(rows, rng)
        net = self._pretrained(rows, rng)
        labels = class_labels(net)
        check_head(net.module_, labels, self.head)
        self._warn_of_few_features(net, len(labels))
        before = self._geometry(net, rows.X, outliers)
        self.classifier_ = self._fine_tuned(net, labels, rows, outliers, rng)
        self.classes_ = self.classifier_.classes_
        weight, _ = head_parameters(self.classifier_.module_, self.head)
        self.weight_rows_ = unit_rows(weight).numpy()
        self.row_basis_ = row_space_basis(weight).numpy()
        after = self._geometry(self.classifier_, rows.X, outliers)
        self.separation_ = {"before": before, "after": after}
        self.n_outliers_ = len(outliers)
        self.is_synthetic_ = len(rows.X_outliers) == 0
        self.history_ = self.classifier_.history

    def _check_margins(self):
        margins = self.energy_margins
        if margins is None:
            return
        numbers = len(margins) == 2 and all(isinstance(m, Real) for m in margins)
        if not (numbers and margins[0] < margins[1]):
            raise ValueError(
                "energy_margins must be None or two numbers, the first (of inliers) below the "
                f"second (of outliers), got {margins!r}."
            )

    def _outliers(self, rows, rng):
        if len(rows.X_outliers):
            return rows.X_outliers
        if self.synthetic_outliers is None:
            raise ValueError(
                f"No row is labelled outlier_label={self.outlier_label!r}, and "
                "synthetic_outliers=None makes none."
            )
        made = synthetic_outliers(rows.X, rows.y, self.synthetic_outliers, rng)
        warn_caller(
            f"No row is labelled outlier_label={self.outlier_label!r}: training on {len(made)} "
            f"outliers made from the rows (synthetic_outliers={self.synthetic_outliers!r}). "
            "Rows that are known to be of no class are better."
        )
        return made

    def _pretrained(self, rows, rng):
        if self.estimator is not None:
            return fitted_copy(self.estimator, rows.X, rows.y, random_state=draw_seed(rng))
        net = NetClassifier(
            roomy_module,
            module__input_shape=self.input_shape_,
            module__n_classes=len(np.unique(rows.y)),
            lr=self.pretrain_lr,
            max_epochs=self._n_epochs(self.pretrain_epochs, len(rows.X), _MOST_PRETRAIN_EPOCHS),
            callbacks=[("learning_rate", CosineDecay())],
            **self._training(rng, resolve_device(self.device)),
        )
        return net.fit(rows.X, rows.y)

    def _n_epochs(self, asked, n_rows, most):
        if asked != "auto":
            return asked
        n_epochs = round(_STEPS / n_minibatches(n_rows, self.batch_size))
        return min(max(n_epochs, _FEWEST_EPOCHS), most)

    def _training(self, rng, device):
        """Return what both trainings have in common."""
        return {
            "optimizer": torch.optim.SGD,
            "optimizer__momentum": self.momentum,
            "optimizer__nesterov": self.momentum > 0,
            "optimizer__weight_decay": self.weight_decay,
            "batch_size": self.batch_size,
            "device": device,
            "random_state": draw_seed(rng),
            "verbose": self.verbose,
        }

    def _fine_tuned(self, net, labels, rows, outliers, rng):
        device = net.device if self.device is None else resolve_device(self.device)
        tuned = SeparationNet.from_net(
            net,
            lr=self.lr,
            max_epochs=self._n_epochs(self.max_epochs, len(rows.X), _MOST_EPOCHS),
            oe_weight=self.oe_weight,
            sep_weight=self.sep_weight,
            clu_weight=self.clu_weight,
            sep_reduction=self.sep_reduction,
            energy_margins=self.energy_margins,
            stage2_start=self.stage2_start,
            outlier_ratio=self.outlier_ratio,
            outlier_label=self.outlier_label,
            head=self.head,
            callbacks=self.callbacks,
            **self._training(rng, device),
        )
        X = np.concatenate([rows.X, outliers])
        # As objects: the type of the labels need not have a place for the mark.
        marks = np.full(len(outliers), self.outlier_label, dtype=object)
        y = np.concatenate([rows.y.astype(object), marks])
        return tuned.partial_fit(X, y, classes=labels)

    def _warn_of_few_features(self, net, n_classes):
        n_features = head_of(net.module_, self.head).in_features
        if n_features < 2 * n_classes:
            warn_caller(
                f"The head has {n_features} features for {n_classes} classes. Outliers need "
                "features that are orthogonal to all classes; with fewer than two features a class "
                "there may be none."
            )

    def _geometry(self, net, X, outliers):
        features, outlier_features = (features_of(net, part, self.head) for part in (X, outliers))
        head = head_parameters(net.module_, self.head)
        return separation_report(features, outlier_features, *head)

    def _score_rows(self, X):
        features = features_of(self.classifier_, X, self.head)
        head = head_parameters(self.classifier_.module_, self.head)
        basis = torch.from_numpy(self.row_basis_)
        return named_score(self.ood_score, features, *head, basis).numpy()
