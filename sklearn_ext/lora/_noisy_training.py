"""Training steps under noise on the merged weights."""

import contextlib

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from skorch.dataset import unpack_data

from ._adapted_module import derived_seeds
from ._injection import frozen_norms, lora_layers
from ._noise_process import NoiseProcess, n_batches


class NoisyTraining:
    """Mixin that trains a net with adapters under noise."""

    def _set_training(self, training=True):
        super()._set_training(training)
        if training:
            for norm in frozen_norms(self.module_):
                norm.eval()

    def fit_loop(self, X, y=None, epochs=None, **params):
        """Train for some epochs; see :class:`skorch.NeuralNet`.

        Parameters
        ----------
        X : array-like
        y : array-like or None, default=None
        epochs : int or None, default=None
            None is `max_epochs`.
        **params
            Passed on.

        Returns
        -------
        self : object
        """
        self._validate_own_params()
        self.unmerge()
        with self._noise(self.max_epochs if epochs is None else epochs):
            return super().fit_loop(X, y, epochs, **params)

    @contextlib.contextmanager
    def _noise(self, n_epochs):
        _, seed = derived_seeds(self.random_state)
        self._process = NoiseProcess(
            lora_layers(self.module_).values(),
            sigma=self.sigma,
            schedule=self.sigma_schedule,
            local=self.perturbation == "local",
            store_noise=self.store_noise,
            n_noise=self.n_noise,
            seed=seed,
            n_epochs=n_epochs,
            resumed=self.warm_start and len(self.history_) > 0,
        )
        try:
            self._process.watch(self)
            yield
        finally:
            self._process.close()
            del self._process

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Tell the noise how long an epoch is.

        Parameters
        ----------
        net : skorch.NeuralNet
        dataset_train : torch.utils.data.Dataset or None, default=None
        **kwargs
            Passed on.
        """
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        self._process.begin_epoch(n_batches(self, dataset_train))

    def on_batch_end(self, net, training=False, **kwargs):
        """Write the strength of the noise to the history.

        Parameters
        ----------
        net : skorch.NeuralNet
        training : bool, default=False
        **kwargs
            Passed on.
        """
        super().on_batch_end(net, training=training, **kwargs)
        if training:
            self._process.end_batch()
            self.history_.record_batch("sigma", self._process.strength)

    def on_epoch_end(self, net, **kwargs):
        """Write the last strength of the noise to the history.

        Parameters
        ----------
        net : skorch.NeuralNet
        **kwargs
            Passed on.
        """
        super().on_epoch_end(net, **kwargs)
        self.history_.record("sigma", self._process.strength)

    def train_step_single(self, batch, **fit_params):
        """Loss and gradients of a batch under the noise of the step.

        Parameters
        ----------
        batch : tuple
            Rows and targets.
        **fit_params
            Passed to the module.

        Returns
        -------
        dict
            The mean `loss` over the draws, and `y_pred` of the last one.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        self._process.refresh()
        self._set_training(True)
        Xi, yi = unpack_data(batch)
        losses = []
        for k in range(self.n_noise):
            with self._process.applied(k):
                y_pred = self.infer(Xi, **fit_params)
                loss = self.get_loss(y_pred, yi, X=Xi, training=True) / self.n_noise
                if not torch.isfinite(loss):
                    raise ValueError(
                        f"The loss is {loss.item()} at step {self._process.n_steps} (noise "
                        f"{self._process.strength:.3g}): X or y may need scaling, or lr or sigma "
                        "may be too large."
                    )
                loss.backward()
            losses.append(loss.detach())
        return {"loss": torch.stack(losses).sum(), "y_pred": y_pred}

    @property
    def sigma_history_(self):
        """Strength of the noise at each training batch, of shape (n_batches,)."""
        check_is_fitted(self)
        batches = (batch for epoch in self.history_ for batch in epoch["batches"])
        return np.array([batch["sigma"] for batch in batches if "sigma" in batch])
