"""Forgetting by bounded ascent and repair."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions

from ...neural import class_codes, to_tensor, validate_input
from ...utils._atomic import atomic_fit
from ..steps._fast_slow import SCHEDULES, Plan, endless_batches, fast_slow, weighted_ascent
from ..steps._fine_tuning import OPTIMIZERS, has_running_statistics, make_optimizer
from ..steps._masks import density
from ._base import BaseUnlearner
from ._sfron_limits import accuracy_on, expected_forget_score, forget_remain_mask, sample_rows
from ._unlearner_docs import with_unlearner_docs

_EPOCHS = 5
_MAX_ITER = 200
_WATCHED_FORGET_ROWS = 256
_WATCHED_RETAINED_ROWS = 1000
_LARGEST_LOSS = 0.05  # of accuracy on retained rows
_CLIPPED_SHARE = 0.9


@with_unlearner_docs
class SFRonUnlearner(BaseUnlearner):
    r"""Saliency forgetting in the remain-preserving manifold, online (SFRon).

    Steps that climb the loss of the rows to forget alternate with steps that descend the loss of
    the others. Climbing counts rows that are still known well for more, and touches only weights
    that matter more for the rows to forget. The alternation keeps the rest of the model intact: it
    acts like the inverse Hessian of the remaining loss.

    The result is close to a retrained model, without a guarantee that all traces are gone.

    Parameters
    ----------
    {estimator}

    n_iter : int or "auto", default="auto"
        Forget steps. "auto" is five passes over the retained rows, at most 200.

    n_repair : int, default=1
        Repair steps after each forget step.

    lr : float or None, default=None
        Learning rate of both kinds of steps, which decays to 0 along half a cosine; None is the
        net's.

    forget_step : {"normalize", "clip"}, default="normalize"
        Whether the forget gradient is brought to a given length, or scaled and clipped as
        published. The right scale differs by orders of magnitude between networks.

    forget_norm : float, default=0.3
        Length of the first normalised forget gradient.

    forget_alpha : float, default=10
        Scale of the first forget gradient that is clipped. It has no effect while all are.

    clip_norm : float, default=1
        Largest length of the latter.

    forget_schedule : {"cosine", "linear", "quadratic", "constant"}, default="cosine"
        How length and scale decay.

    lambd : float, default=0.5
        Rows of a forget batch count like their losses to the power of ``-lambd``.

    loss_floor : float, default=1e-4
        Losses below count like this.

    gamma : float or None, default=1
        Weights may be changed by forget steps if their squared gradient for the rows to forget is
        at least so many times that for the others. None lets all change.

    slow_lr : float in (0, 1], default=1
        Share of each iteration's change that is kept.

    stop_forget_score : float, "auto" or None, default="auto"
        Iterations that find the accuracy on the rows to forget not above this only repair. "auto"
        estimates the accuracy of a retrained model: that of random features fitted to the retained
        rows, times the ratio of the original model's accuracy to theirs on `X_val` if it is given.
        None never stops, which forgets too much as a rule.

    optimizer : {"adamw", "adam", "sgd"}, torch.optim.Optimizer class or None, default=None
        What makes the steps; "sgd" has a momentum of 0.9. None is the net's, with its parameters.

    weight_decay : float, default=0
        Decay of the weights, if `optimizer` is given.

    shared_optimizer : bool, default=True
        Whether forget and repair steps share momentum. If not, forget steps are plain gradient
        steps, which are weaker.

    strict_mask : bool, default=False
        Whether forget steps leave the other weights exactly as they are. If not, momentum and
        weight decay may move them.

    freeze_norm : bool or "auto", default="auto"
        Whether forget steps leave running statistics of normalisation layers alone. "auto" does so
        where there are any.

    fisher : {"batch", "sample"}, default="batch"
        Whether gradients are squared by batch, as published, or by row.

    mask_max_samples : int, "auto" or None, default="auto"
        Retained rows behind the mask. "auto" is 5,000, or 200 for each row to forget if that is
        less. None is all.

    batch_size : int or None, default=None
        Rows of a step; None is the net's.

    random_state : int, RandomState instance or None, default=None
        Seed of the original training, if there is any, and of all draws.

    verbose : int, default=0
        Prints the record of each iteration when positive.

    Attributes
    ----------
    {models}

    mask_ : dict of str to ndarray of bool, or None
        The weights that forget steps may change, by parameter.

    mask_density_ : float
        Their share.

    stop_forget_score_ : float or None
        The score at which forgetting pauses.

    n_forget_steps_ : int
        Forget steps made.

    n_repair_steps_ : int
        Repair steps made.

    stopped_ : bool
        Whether any forget step was left out.

    history_ : list of dict
        What happened in each iteration.

    input_shape_ : tuple of int
        Shape of one row of X.

    {input_facts}

    See Also
    --------
    MUSOUnlearner : Trains with labels as if the rows had never been seen.
    GradientAscentUnlearner : Climbs without repair.

    References
    ----------
    .. [1] Z. Huang, X. Cheng, J. Zheng, H. Wang, Z. He, T. Li, X. Huang, "Unified Gradient-Based
       Machine Unlearning with Remain Geometry Enhancement", NeurIPS, 2024. arXiv:2409.19732.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import SFRonUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SFRonUnlearner(random_state=0).fit(X / 16, y, forget=y == 3)
    >>> bool((model.predict(X[y == 3] / 16) == 3).mean() < 0.05)
    True
    """

    _parameter_constraints = {
        **BaseUnlearner._parameter_constraints,
        "n_iter": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "n_repair": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "forget_step": [StrOptions({"normalize", "clip"})],
        "forget_norm": [Interval(Real, 0, None, closed="left")],
        "forget_alpha": [Interval(Real, 0, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="right")],
        "forget_schedule": [StrOptions(set(SCHEDULES))],
        "lambd": [Interval(Real, 0, None, closed="left")],
        "loss_floor": [Interval(Real, 0, None, closed="neither")],
        "gamma": [Interval(Real, 0, None, closed="left"), None],
        "slow_lr": [Interval(Real, 0, 1, closed="right")],
        "stop_forget_score": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"}), None],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable, None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "shared_optimizer": ["boolean"],
        "strict_mask": ["boolean"],
        "freeze_norm": ["boolean", StrOptions({"auto"})],
        "fisher": [StrOptions({"batch", "sample"})],
        "mask_max_samples": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
    }

    def __init__(
        self,
        estimator=None,
        *,
        n_iter="auto",
        n_repair=1,
        lr=None,
        forget_step="normalize",
        forget_norm=0.3,
        forget_alpha=10.0,
        clip_norm=1.0,
        forget_schedule="cosine",
        lambd=0.5,
        loss_floor=1e-4,
        gamma=1.0,
        slow_lr=1.0,
        stop_forget_score="auto",
        optimizer=None,
        weight_decay=0.0,
        shared_optimizer=True,
        strict_mask=False,
        freeze_norm="auto",
        fisher="batch",
        mask_max_samples="auto",
        batch_size=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.n_iter = n_iter
        self.n_repair = n_repair
        self.lr = lr
        self.forget_step = forget_step
        self.forget_norm = forget_norm
        self.forget_alpha = forget_alpha
        self.clip_norm = clip_norm
        self.forget_schedule = forget_schedule
        self.lambd = lambd
        self.loss_floor = loss_floor
        self.gamma = gamma
        self.slow_lr = slow_lr
        self.stop_forget_score = stop_forget_score
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.shared_optimizer = shared_optimizer
        self.strict_mask = strict_mask
        self.freeze_norm = freeze_norm
        self.fisher = fisher
        self.mask_max_samples = mask_max_samples
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def reference(cls, estimator=None, **params):
        """Return the unlearner with the constants of the authors for CIFAR-10.

        They do not transfer to other networks, and are meant for comparisons.

        Parameters
        ----------
        estimator : skorch classifier, FrozenEstimator or None, default=None
            As for the class.
        **params
            Other parameters of the class, which take precedence.

        Returns
        -------
        SFRonUnlearner
        """
        published = {
            "n_iter": 300,
            "n_repair": 5,
            "lr": 0.01,
            "forget_step": "clip",
            "forget_alpha": 25.0,
            "clip_norm": 7.0,
            "optimizer": "sgd",
            "weight_decay": 5e-4,
            "stop_forget_score": None,
            "mask_max_samples": None,
        }
        return cls(estimator, **published | params)

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, forget=None, X_val=None, y_val=None):
        """Train on all rows unless that has been done, then forget some of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
            The rows that the original model was trained on, or will be.
        y : array-like of shape (n_samples,)
            Their labels.
        forget : array-like of bool of shape (n_samples,), or of int, default=None
            Mask or indices of the rows to forget. None asks for nothing: the original model comes
            back as it is. In cross-validation it has to be a mask, which is sliced with the rows.
        X_val : array-like of shape (n_validation, ...), default=None
            Rows that the original model was not trained on, to find out when to stop.
        y_val : array-like of shape (n_validation,), default=None
            Their labels.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, the data are not finite or of the wrong shape, the
            request is empty, selects all rows or one that is not there, or fewer than two classes
            would be left.
        TypeError
            If `estimator` is no skorch classifier, or `forget` neither a mask nor indices.
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together.")
        return self._fit(X, y, forget, validation=None if X_val is None else (X_val, y_val))

    def _unlearn(self, request, validation=None):
        size = request.batch_size(self.batch_size)
        stop = self._stop_score(request, validation)
        mask = None
        if self.gamma is not None:
            mask = forget_remain_mask(
                request,
                gamma=self.gamma,
                batch_size=size,
                by_row=self.fisher == "sample",
                max_samples=self.mask_max_samples,
            )
        watched = sample_rows(request.forget, _WATCHED_FORGET_ROWS, request.rng)
        kept = sample_rows(request.retain, _WATCHED_RETAINED_ROWS, request.rng)
        forget_score, kept_score = accuracy_on(request, watched), accuracy_on(request, kept)
        kept_before = kept_score()
        optimizer, plan = self._make_optimizer(request), self._plan(request, size)
        request.progress.begin(plan.n_iter)

        def losses(rows):
            return request.row_losses(request.module(request.X[rows]), request.codes[rows])

        history = fast_slow(
            request.module,
            weighted_ascent(losses, self.lambd, self.loss_floor),
            losses,
            endless_batches(request.forget, size, request.generator),
            endless_batches(request.retain, size, request.generator),
            optimizer,
            plan,
            forget_optimizer=None if self.shared_optimizer else self._plain_steps(request),
            mask=mask,
            forget_score=forget_score,
            stop_score=stop,
            report=lambda record: self._report(request, record),
        )
        norms = np.array([record["forget_norm"] for record in history])
        made = np.isfinite(norms)
        if self.forget_step == "clip" and made.any():
            share = (norms[made] > self.clip_norm).mean()
            if share > _CLIPPED_SHARE:
                self._warn(
                    f"{share:.0%} of the forget steps were clipped to clip_norm={self.clip_norm}; "
                    f"forget_alpha={self.forget_alpha} has no effect on them."
                )
        lost = kept_before - kept_score()
        if lost > _LARGEST_LOSS:
            self._warn(
                f"The accuracy on retained rows fell by {100 * lost:.1f} points; forget with "
                "fewer, shorter or better repaired steps."
            )
        return {
            "history_": history,
            "mask_": mask if mask is None else {k: m.cpu().numpy() for k, m in mask.items()},
            "mask_density_": 1.0 if mask is None else density(mask),
            "stop_forget_score_": stop,
            "n_forget_steps_": int(made.sum()),
            "n_repair_steps_": len(history) * self.n_repair,
            "stopped_": bool(not made.all()),
        }

    def _nothing_to_forget(self, net):
        return {
            "history_": [],
            "mask_": None,
            "mask_density_": 1.0,
            "stop_forget_score_": None,
            "n_forget_steps_": 0,
            "n_repair_steps_": 0,
            "stopped_": False,
        }

    def _stop_score(self, request, validation):
        if self.stop_forget_score != "auto":
            return self.stop_forget_score
        if validation is None:
            return expected_forget_score(request)
        X_val, y_val = validation
        X_val = to_tensor(validate_input(self, X_val, reset=False), request.net)
        check_consistent_length(X_val, y_val)
        codes_val = to_tensor(class_codes(request.net, y_val), request.net)
        return expected_forget_score(request, X_val, codes_val)

    def _plan(self, request, batch_size):
        n_iter, freeze_norm = self.n_iter, self.freeze_norm
        if n_iter == "auto":
            n_iter = min(math.ceil(_EPOCHS * len(request.retain) / batch_size), _MAX_ITER)
        if freeze_norm == "auto":
            freeze_norm = has_running_statistics(request.module)
        return Plan(
            n_iter=n_iter,
            n_repair=self.n_repair,
            normalize=self.forget_step == "normalize",
            forget_norm=self.forget_norm,
            forget_alpha=self.forget_alpha,
            clip_norm=self.clip_norm,
            schedule=self.forget_schedule,
            slow_lr=self.slow_lr,
            strict_mask=self.strict_mask,
            freeze_norm=freeze_norm,
        )

    def _make_optimizer(self, request):
        """Make the optimizer asked for, or a new one like the net's."""
        net = request.net
        lr = net.lr if self.lr is None else self.lr
        if self.optimizer is not None:
            return make_optimizer(request.module, self.optimizer, lr, self.weight_decay)
        named = [(n, p) for n, p in request.module.named_parameters() if p.requires_grad]
        args, kwargs = net.get_params_for_optimizer("optimizer", named)
        return net.optimizer(*args, **kwargs | {"lr": lr})

    def _plain_steps(self, request):
        lr = request.net.lr if self.lr is None else self.lr
        weights = [weight for weight in request.module.parameters() if weight.requires_grad]
        return torch.optim.SGD(weights, lr=lr)
