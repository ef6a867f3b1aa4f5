"""Cosine decay of the learning rate, as a function and as a skorch callback."""

import math

from skorch.callbacks import Callback


def cosine_decay(step: int, n_steps: int, *, warmup: int = 0, floor: float = 0.0) -> float:
    """Factor of the learning rate at a step: a linear rise, then half a cosine.

    ``(t + 1) / warmup`` for the first `warmup` steps, then
    ``floor + (1 - floor) * (1 + cos(pi * (t - warmup) / (n_steps - warmup))) / 2``.

    Parameters
    ----------
    step : int
        Number of steps done, from 0.
    n_steps : int
    warmup : int, default=0
    floor : float, default=0
        Value that the cosine would reach at `n_steps`.

    Returns
    -------
    float
    """
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(n_steps - warmup, 1)
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


class CosineDecay(Callback):
    """A skorch callback that lowers the learning rate from step to step of a training.

    At step t of T it is ``floor + (lr - floor) * (1 + cos(pi * t / T)) / 2``; each call of `fit` or
    `partial_fit` begins anew.

    Parameters
    ----------
    floor : float, default=1e-6
        Learning rate that the cosine would reach after the last step.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext.neural import NetClassifier
    >>> from sklearn_ext.neural._schedules import CosineDecay
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NetClassifier(callbacks=[CosineDecay()], random_state=0).fit(X, y)
    >>> net.optimizer_.param_groups[0]["lr"] < net.lr / 100
    True
    """

    def __init__(self, floor=1e-6):
        self.floor = floor

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Remember the learning rates to start from."""
        self.step_, self.n_steps_ = 0, None
        groups = net.optimizer_.param_groups
        # The optimizer of a net that trains on holds the last rate, unless a user has set another.
        for group in groups:
            if group["lr"] != group.get("decayed_lr"):
                group["initial_lr"] = group["lr"]
        self.rates_ = [group["initial_lr"] for group in groups]

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Count the steps to come, once."""
        if self.n_steps_ is None:
            n_batches = len(net.get_iterator(dataset_train, training=True))
            self.n_steps_ = net.max_epochs * n_batches

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the learning rate of this step."""
        if not training:
            return
        for rate, group in zip(self.rates_, net.optimizer_.param_groups, strict=True):
            share = self.floor / rate
            lr = rate * cosine_decay(self.step_, self.n_steps_, floor=share)
            group["lr"] = group["decayed_lr"] = lr
        self.step_ += 1
