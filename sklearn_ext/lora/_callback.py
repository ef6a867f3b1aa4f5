"""Flat-LoRA for any skorch net whose module has adapters."""

from skorch.callbacks import Callback

from ..neural import draw_seed
from ..utils._warnings import warn_caller
from ._injection import lora_layers
from ._noise_process import NoiseProcess, n_batches
from ._peft_layers import PeftLayer, is_peft_layer


class FlatLoRACallback(Callback):
    r"""Train the adapters of a skorch net under noise on the merged weights.

    For nets whose module has adapters already: those of :func:`~sklearn_ext.lora.inject_lora`, or
    those of a module that peft has wrapped. During each training step the layers compute with
    :math:`W + s B A + \varepsilon`; no weight is written, so that whatever interrupts a step leaves
    the network as it was. The strength is kept in the history as `sigma`.

    Parameters
    ----------
    sigma : float, default=0.1
        Size of the noise relative to the weight, at the end of the training.
    schedule : {"cosine", "linear", "constant"} or callable, default="cosine"
        How the strength grows with the share of the training that is done.
    perturbation : {"weight", "local"}, default="weight"
        As in :class:`~sklearn_ext.FlatLoRAClassifier`.
    store_noise : bool, default=False
        Whether a noisy copy of each weight is kept during a step.
    random_state : int, RandomState instance or None, default=None
        Draws the noise. No global generator is used.

    See Also
    --------
    FlatLoRAClassifier : Adapters and noise in one estimator.

    References
    ----------
    .. [1] T. Li, Z. He, Y. Li, Y. Wang, L. Shang, X. Huang, "Flat-LoRA: Low-Rank Adaptation over a
       Flat Loss Landscape", ICML 2025, arXiv:2409.14396.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import FlatLoRACallback
    >>> from sklearn_ext.lora import inject_lora
    >>> from sklearn_ext.neural import MLP, NetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> module = inject_lora(MLP(4, 3), r=2, modules_to_save=["5"], random_state=0)
    >>> net = NetClassifier(module, callbacks=[FlatLoRACallback(random_state=0)], random_state=0)
    >>> net.fit(X, y).score(X, y) > 0.8
    True
    """

    def __init__(
        self,
        sigma=0.1,
        *,
        schedule="cosine",
        perturbation="weight",
        store_noise=False,
        random_state=None,
    ):
        self.sigma = sigma
        self.schedule = schedule
        self.perturbation = perturbation
        self.store_noise = store_noise
        self.random_state = random_state

    def on_train_begin(self, net, **kwargs):
        """Find the layers and begin the schedule.

        Parameters
        ----------
        net : skorch.NeuralNet
        **kwargs
            Not used.
        """
        self._close()
        self._process = NoiseProcess(
            noisy_layers(net.module_),
            sigma=self.sigma,
            schedule=self.schedule,
            local=self.perturbation == "local",
            store_noise=self.store_noise,
            seed=draw_seed(self.random_state),
            n_epochs=net.max_epochs,
        )
        self._process.watch(net)

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Learn how long an epoch is.

        Parameters
        ----------
        net : skorch.NeuralNet
        dataset_train : torch.utils.data.Dataset or None, default=None
        **kwargs
            Not used.
        """
        self._process.begin_epoch(n_batches(net, dataset_train))

    def on_batch_begin(self, net, training=False, **kwargs):
        """Let the layers compute under the noise of the step.

        Parameters
        ----------
        net : skorch.NeuralNet
        training : bool, default=False
            Nothing is done for batches of validation.
        **kwargs
            Not used.
        """
        if training:
            self._process.refresh()
            self._process.apply()

    def on_batch_end(self, net, training=False, **kwargs):
        """Take the noise away.

        Parameters
        ----------
        net : skorch.NeuralNet
        training : bool, default=False
            Nothing is done for batches of validation.
        **kwargs
            Not used.
        """
        if training:
            self._process.end_batch()
            self._process.silence()
            net.history.record_batch("sigma", self._process.strength)

    def on_epoch_end(self, net, **kwargs):
        """Write the strength to the history.

        Parameters
        ----------
        net : skorch.NeuralNet
        **kwargs
            Not used.
        """
        net.history.record("sigma", self._process.strength)

    def on_train_end(self, net, **kwargs):
        """Free the memory of the noise.

        Parameters
        ----------
        net : skorch.NeuralNet
        **kwargs
            Not used.
        """
        self._close()

    def _close(self):
        process = vars(self).pop("_process", None)
        if process is not None:
            process.close()


def noisy_layers(module):
    """Return the layers of a module that can take noise.

    Raises
    ------
    ValueError
        If there is none.
    """
    own = list(lora_layers(module).values())
    if own:
        return own
    found = {name: PeftLayer(m) for name, m in module.named_modules() if is_peft_layer(m)}
    refused = [name for name, layer in found.items() if not layer.takes_noise]
    if refused:
        warn_caller(f"These adapted layers get no noise: {refused}.")
    if len(found) == len(refused):
        raise ValueError(
            f"{type(module).__name__} has no adapted layer that takes noise; put adapters in with "
            "sklearn_ext.lora.inject_lora or with peft."
        )
    return list(found.values())
