"""Forgetting by blends with retained rows."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ...neural import head_of, log_probabilities, predict_logits, to_tensor
from ._base import BaseFineTuner
from ._hybrid_rows import HybridRows
from ._natmu_blending import gradual_masks, match_rows, rank_classes, uniform_masks
from ._unlearner_docs import with_unlearner_docs

_N_HYBRIDS = 4


@with_unlearner_docs
class NatMUUnlearner(BaseFineTuner):
    r"""Natural machine unlearning (NatMU): blend retained content into the rows to forget.

    Every row to forget is mixed with retained rows of the classes that the original model finds
    most likely besides the true one. The blends carry the labels of the retained rows, which is
    right for a part of each: the network learns to rely on what was injected and to ignore the
    rest. Then follows plain fine-tuning on the retained rows and the blends.

    Parameters
    ----------
    {estimator}

    delta : float, default=-0.05
        Added to the share of the forget row at every position, 47 % on average. -1 leaves nothing
        of the forget row, 1 nothing of the retained one. Smaller values suit random rows, values
        around 0 whole classes.

    n_hybrids : int or "auto", default="auto"
        Blends of each forget row, each with a row of another class. "auto" is four, or as many as
        there are other classes.

    mask : {"auto", "gradual", "uniform"}, array-like or callable, default="auto"
        Shares of the forget row; an array has shape ``(n_hybrids, *row_shape)``. "gradual" varies
        across an image, "uniform" is one share for all features, "auto" is the former for images
        and the latter for tables. A callable takes the
        number of masks and the shape of a row, and returns an array. Only named masks are shifted
        by `delta`.

    reinit_head : bool or "auto", default=False
        Whether the weights of the last linear layer begin anew. "auto" does so if a class loses
        all its rows; small networks need more epochs then.

    head : str or None, default=None
        Name of that layer; None is the last :class:`torch.nn.Linear`.

    resample : bool, default=False
        Whether retained rows are drawn anew in each epoch.

    augment : callable or None, default=None
        Applied to the retained rows of each batch, a tensor. Blends are never augmented.

    feature_range : "auto", pair of float or None, default="auto"
        Range to which blends are clipped. "auto" is that of the retained rows, None does not clip.

    lr : float, default=5e-3
        Learning rate; decays to 0 along half a cosine. Large networks want about 1e-3. With too
        small a rate, too little is forgotten.

    {passes}

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="adamw"
        What makes the steps; "sgd" has a momentum of 0.9.

    {seed}

    Attributes
    ----------
    {models}

    hybrid_index_ : ndarray of shape (n_blends, 3)
        Forget row, retained row and number of the mask of each blend, the rows as indices into X.

    masks_ : ndarray of shape (n_masks, \*row_shape)
        Shares of the forget row, up to axes of length one.

    stock_exhausted_ : bool
        Whether retained rows had to be used more than once.

    n_steps_ : int
        Steps of the optimizer.

    {facts}

    See Also
    --------
    MUSOUnlearner : Changes the labels of the rows to forget, not the rows.

    References
    ----------
    .. [1] Z. He, T. Li, X. Cheng, Z. Huang, X. Huang, "Towards Natural Machine Unlearning",
       arXiv:2405.15495, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import NatMUUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> model = NatMUUnlearner(random_state=0).fit(X / 16, y, forget=y == 3)
    >>> bool((model.predict(X[y == 3] / 16) == 3).mean() < 0.2)
    True
    """

    _parameter_constraints = {
        **BaseFineTuner._parameter_constraints,
        "delta": [Interval(Real, -1, 1, closed="both")],
        "n_hybrids": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "mask": [StrOptions({"auto", "gradual", "uniform"}), "array-like", callable],
        "reinit_head": ["boolean", StrOptions({"auto"})],
        "head": [str, None],
        "resample": ["boolean"],
        "augment": [callable, None],
        "feature_range": [StrOptions({"auto"}), list, tuple, None],
    }

    def __init__(
        self,
        estimator=None,
        *,
        delta=-0.05,
        n_hybrids="auto",
        mask="auto",
        reinit_head=False,
        head=None,
        resample=False,
        augment=None,
        feature_range="auto",
        lr=5e-3,
        weight_decay=0.0,
        max_epochs="auto",
        batch_size=None,
        optimizer="adamw",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            estimator,
            lr=lr,
            weight_decay=weight_decay,
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            random_state=random_state,
            verbose=verbose,
        )
        self.delta = delta
        self.n_hybrids = n_hybrids
        self.mask = mask
        self.reinit_head = reinit_head
        self.head = head
        self.resample = resample
        self.augment = augment
        self.feature_range = feature_range

    def _unlearn(self, request):
        ranking = self._rank(request)
        n_other = min(len(classes) for classes in ranking)
        n_hybrids = min(_N_HYBRIDS if self.n_hybrids == "auto" else self.n_hybrids, n_other)
        if self.n_hybrids not in ("auto", n_hybrids):
            self._warn(
                f"n_hybrids={self.n_hybrids} is more than there are other classes for each row; "
                f"{n_hybrids} are used."
            )
        masks = self._masks(n_hybrids, tuple(request.X.shape[1:]))
        limits = self._limits(request)
        retained_codes = request.codes[request.retain].cpu().numpy()
        state = {}

        def draw():
            index, state["exhausted"] = match_rows(ranking, retained_codes, n_hybrids, request.rng)
            state["index"] = index
            state["rows"] = HybridRows(
                request,
                index,
                to_tensor(masks.astype(np.float32), request.net),
                limits,
                augment=self.augment,
            )

        draw()
        if self._begins_head_anew(request):
            nn.init.xavier_normal_(head_of(request.module, self.head).weight, gain=math.sqrt(2))
        fitted = self._train(
            request,
            len(state["rows"]),
            lambda index: state["rows"].batch(index),
            before_epoch=draw if self.resample else None,
        )
        index = state["index"].copy()
        index[:, 0] = request.forget[index[:, 0]]
        index[:, 1] = request.retain[index[:, 1]]
        return fitted | {
            "hybrid_index_": index,
            "masks_": masks,
            "stock_exhausted_": state["exhausted"],
            "n_steps_": fitted["history_"][-1]["n_steps"] if fitted["history_"] else 0,
        }

    def _nothing_to_forget(self, net):
        return {
            "history_": [],
            "hybrid_index_": np.empty((0, 3), dtype=np.int64),
            "masks_": np.empty((0, *self.input_shape_)),
            "stock_exhausted_": False,
            "n_steps_": 0,
        }

    def _rank(self, request):
        outputs = predict_logits(request.net, request.X[request.forget])
        scores = log_probabilities(request.net, outputs).cpu().numpy()
        codes = request.codes[request.forget].cpu().numpy()
        return rank_classes(scores, codes, request.present.cpu().numpy())

    def _masks(self, n_hybrids, row_shape):
        name = self.mask
        if isinstance(name, str) and name == "auto":
            name = "uniform" if len(row_shape) == 1 else "gradual"
        if callable(name):
            masks = np.asarray(name(n_hybrids, row_shape), dtype=np.float64)
        elif not isinstance(name, str):
            masks = np.asarray(name, dtype=np.float64)
        elif name == "uniform":
            masks = uniform_masks(n_hybrids, self.delta)
            return masks.reshape(n_hybrids, *[1] * len(row_shape))
        elif len(row_shape) == 1:
            raise ValueError("mask='gradual' needs images; X has rows of features.")
        else:
            masks = gradual_masks(*row_shape[-2:], n_hybrids, self.delta)
            return masks[:, None] if len(row_shape) > 2 else masks
        if masks.shape != (n_hybrids, *row_shape) or masks.min() < 0 or masks.max() > 1:
            raise ValueError(
                f"mask must give an array of shape {(n_hybrids, *row_shape)} with entries in "
                f"[0, 1], got shape {masks.shape}."
            )
        return masks

    def _limits(self, request):
        if self.feature_range is None:
            return None
        if isinstance(self.feature_range, str):
            low, high = request.X[request.retain].aminmax()
            return low.item(), high.item()
        if len(self.feature_range) != 2 or not self.feature_range[0] < self.feature_range[1]:
            raise ValueError(f"feature_range must be (low, high), got {self.feature_range!r}.")
        return self.feature_range

    def _begins_head_anew(self, request):
        if self.reinit_head == "auto":
            return not bool(request.present[request.codes[request.forget]].all())
        return self.reinit_head
