"""Cosine decay of the learning rate, as a function and as a skorch callback."""

from typing import Any

import skorch
from skorch.callbacks import Callback
from torch.utils.data import Dataset

from ..utils._schedules import cosine_decay


class CosineDecay(Callback):
    """Lower the learning rate of a skorch net along a cosine, batch by batch.

    The learning rate of step t out of T is
    ``floor + (lr - floor) * (1 + cos(pi * t / T)) / 2``. Each call of `fit` or `partial_fit`
    starts a new schedule.

    Parameters
    ----------
    floor : float, default=1e-6
        Learning rate at the end of the schedule.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext.neural import CosineDecay, NetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NetClassifier(callbacks=[CosineDecay()], random_state=0).fit(X, y)
    >>> print(f"{net.lr:.4f} -> {net.optimizer_.param_groups[0]['lr']:.7f}")
    0.0020 -> 0.0000012
    """

    def __init__(self, floor: float = 1e-6) -> None:
        self.floor = floor

    def on_train_begin(self, net: skorch.NeuralNet, X: Any = None, y: Any = None, **_: Any) -> None:
        """Store the initial learning rates.

        Parameters
        ----------
        net : skorch.NeuralNet
        X : array-like or None, default=None
            Not used.
        y : array-like or None, default=None
            Not used.
        **_
            Not used.
        """
        self.step_ = 0
        self.total_steps_: int | None = None
        groups = net.optimizer_.param_groups
        # When training continues, the optimizer still holds the last decayed rate, which is not
        # the rate to start from. Any other value was set by the user.
        for group in groups:
            if group["lr"] != group.get("decayed_lr"):
                group["initial_lr"] = group["lr"]
        self.rates_ = [group["initial_lr"] for group in groups]

    def on_epoch_begin(
        self, net: skorch.NeuralNet, dataset_train: Dataset | None = None, **_: Any
    ) -> None:
        """Count the steps of the whole training before its first epoch.

        Parameters
        ----------
        net : skorch.NeuralNet
        dataset_train : torch.utils.data.Dataset or None, default=None
            The training data.
        **_
            Not used.
        """
        if self.total_steps_ is None:
            n_batches = len(net.get_iterator(dataset_train, training=True))
            self.total_steps_ = net.max_epochs * n_batches

    def on_batch_begin(self, net: skorch.NeuralNet, training: bool = False, **_: Any) -> None:
        """Set the learning rate of a training batch.

        Parameters
        ----------
        net : skorch.NeuralNet
        training : bool, default=False
            Validation batches leave the learning rate as it is.
        **_
            Not used.
        """
        if not training or self.total_steps_ is None:
            return
        for rate, group in zip(self.rates_, net.optimizer_.param_groups, strict=True):
            floor = self.floor / rate if rate > 0 else 0.0
            factor = cosine_decay(self.step_, self.total_steps_, floor=floor)
            group["lr"] = group["decayed_lr"] = rate * factor
        self.step_ += 1
