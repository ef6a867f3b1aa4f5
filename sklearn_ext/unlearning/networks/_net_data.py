"""A network and its samples, as the unlearning algorithms see them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import skorch
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ...neural import (
    device_of,
    head_of,
    log_probabilities,
    loss_of_outputs,
    main_output,
    outputs_and_features,
)
from ...utils._typing import IntArray
from .._forget_request import ForgetRequest
from ..steps import forward

_CPU_BATCH = 128  # larger batches leave the cache, which makes convolutions twice as slow
_ACCELERATOR_BATCH = 1024
_EVALUATION_BYTES = 2**25  # of the inputs in a batch of the evaluation

# Maps outputs and targets to the mean loss or, with reduction="none", to the losses of samples.
Loss: TypeAlias = Callable[..., torch.Tensor]


def loss_of(net: skorch.NeuralNetClassifier) -> Loss:
    """Return the loss with which a net is trained, as a function like torch's `cross_entropy`.

    The targets are class indices, or probabilities of shape (n, n_classes). By default, the losses
    are reduced as the net reduces them.
    """

    def loss(
        outputs: torch.Tensor, targets: torch.Tensor, *, reduction: str | None = None
    ) -> torch.Tensor:
        criterion = net.criterion_
        own = getattr(criterion, "reduction", None)
        if targets.ndim == 2 and isinstance(criterion, nn.NLLLoss):  # which takes no probabilities
            return cross_entropy(
                log_probabilities(net, main_output(outputs)),
                targets,
                weight=criterion.weight,
                reduction=criterion.reduction if reduction is None else reduction,
            )
        if reduction is None or own is None:
            return loss_of_outputs(net, outputs, targets, training=True)
        criterion.reduction = reduction
        try:
            return loss_of_outputs(net, outputs, targets, training=True)
        finally:
            criterion.reduction = own

    return loss


class NetData:
    """A trained module and its samples, which move to its device batch by batch.

    Parameters
    ----------
    module : torch.nn.Module
        A trained module.
    X : array, tensor or reader
        The training data of the module: an array or a tensor of shape (n_samples, ...), or a
        reader, whose method ``take`` returns a batch as the module takes it, as the first part of a
        pair.
    codes : array or tensor of int64 of shape (n_samples,)
        Class indices of the samples.
    request : ForgetRequest
        The samples to forget and to retain.
    loss : callable, default=torch.nn.functional.cross_entropy
        Maps outputs of the module and targets to the mean loss of a batch or, with
        ``reduction="none"``, to the losses of its samples.

    Attributes
    ----------
    module : torch.nn.Module
        The module.
    device : torch.device
        The device of the module.
    X : tensor of shape (n_samples, ...) or reader
        The training data, on the device on which they were given.
    codes : int64 tensor of shape (n_samples,)
        Class indices of the samples, on this device.
    forget, retain : int64 tensors
        Indices of the forget set and of the retained set, on the CPU.
    loss : callable
        The loss, as given.
    n_classes : int
        Number of classes, which is the number of outputs of the module.
    batch_size : int
        Samples that are evaluated together.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.unlearning import ForgetRequest
    >>> from sklearn_ext.unlearning.networks import NetData
    >>> request = ForgetRequest.from_user([0], n_samples=3)
    >>> data = NetData(torch.nn.Linear(2, 3), torch.zeros(3, 2), torch.tensor([0, 1, 1]), request)
    >>> data.present()  # class 0 has no retained sample, and class 2 has no sample at all
    tensor([False,  True, False])
    """

    def __init__(
        self,
        module: nn.Module,
        X: Any,
        codes: IntArray | torch.Tensor,
        request: ForgetRequest,
        loss: Loss = cross_entropy,
    ) -> None:
        self.module = module
        self.device = device_of(module)
        is_array = isinstance(X, (np.ndarray, torch.Tensor))
        self.X: Any = torch.as_tensor(X) if is_array else X
        self.codes = torch.as_tensor(codes, device=self.device)
        self.forget = torch.as_tensor(request.forget)
        self.retain = torch.as_tensor(request.retain)
        self.loss = loss
        self._sample_bytes = self._bytes_of_a_sample()
        largest = _CPU_BATCH if self.device.type == "cpu" else _ACCELERATOR_BATCH
        self.batch_size = min(self.most_samples(_EVALUATION_BYTES), largest)
        self.n_classes: int = self.outputs(torch.arange(min(2, len(codes)))).shape[1]

    def present(self) -> torch.Tensor:
        """Return a mask of the classes that have retained samples, of shape (n_classes,)."""
        return torch.bincount(self.codes[self.retain], minlength=self.n_classes) > 0

    def _bytes_of_a_sample(self) -> int:
        sample = self.inputs(torch.arange(1))
        parts = sample.values() if isinstance(sample, Mapping) else [sample]
        return max(1, sum(part.numel() * part.element_size() for part in parts))

    def most_samples(self, n_bytes: int) -> int:
        """Return how many samples fit into some memory.

        Parameters
        ----------
        n_bytes : int
            The memory in bytes.

        Returns
        -------
        int
            At least 1.
        """
        return max(1, n_bytes // self._sample_bytes)

    def inputs(self, index: torch.Tensor) -> Any:
        """Return samples on the device of the module, in the form that it takes.

        Parameters
        ----------
        index : int64 tensor of shape (n,)
            The samples.

        Returns
        -------
        tensor of shape (n, ...), or dict of tensors
        """
        if isinstance(self.X, torch.Tensor):
            return self.X[index.to(self.X.device)].to(self.device)
        return self.X.take(index)[0]

    @torch.no_grad()
    def outputs(self, index: torch.Tensor, module: nn.Module | None = None) -> torch.Tensor:
        """Return the outputs of the module, which stays in evaluation mode.

        Parameters
        ----------
        index : int64 tensor of shape (n,)
            The samples.
        module : torch.nn.Module, default=None
            Another module to use.

        Returns
        -------
        tensor of shape (n, n_classes)
        """
        chosen = (self.module if module is None else module).eval()
        batches = (self.inputs(batch) for batch in index.split(self.batch_size))
        return torch.cat([main_output(forward(chosen, batch)) for batch in batches])

    @torch.no_grad()
    def features(self, index: torch.Tensor, head: str | None = None) -> torch.Tensor:
        """Return the inputs of the last linear layer, in evaluation mode.

        Parameters
        ----------
        index : int64 tensor of shape (n,)
            The samples.
        head : str, default=None
            Name of the layer; None means the last :class:`torch.nn.Linear`.

        Returns
        -------
        tensor of shape (n, n_features)
        """
        module = self.module.eval()
        layer = head_of(module, head)
        batches = (self.inputs(batch) for batch in index.split(self.batch_size))
        return torch.cat([outputs_and_features(module, batch, layer)[1] for batch in batches])

    def batch_loss(self, index: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of samples with their own classes.

        Parameters
        ----------
        index : int64 tensor of shape (n,)
            The samples.

        Returns
        -------
        tensor, scalar
        """
        return self.loss(forward(self.module, self.inputs(index)), self.codes[index])

    def sample_losses(self, index: torch.Tensor) -> torch.Tensor:
        """Return the loss of each of some samples with its own class.

        Parameters
        ----------
        index : int64 tensor of shape (n,)
            The samples.

        Returns
        -------
        tensor of shape (n,)

        Raises
        ------
        ValueError
            If the loss has another shape.
        """
        losses = self.loss(
            forward(self.module, self.inputs(index)), self.codes[index], reduction="none"
        )
        if losses.shape != index.shape:
            raise ValueError(
                "The criterion must return one loss per sample with reduction='none', but for "
                f"{len(index)} samples it returned a tensor of shape {tuple(losses.shape)}."
            )
        return losses


def takes_probabilities(data: NetData) -> bool:
    """Return whether the loss of the network accepts probabilities as targets."""
    index = data.retain[:2]
    targets = nn.functional.one_hot(data.codes[index], data.n_classes).float()
    try:
        loss = data.loss(data.outputs(index), targets)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    return loss.ndim == 0 and bool(loss.isfinite())


def probabilities(data: NetData, index: torch.Tensor) -> torch.Tensor:
    """Return the probabilities that the network gives to the classes of some samples.

    Parameters
    ----------
    data : NetData
        The network, whose outputs are logits or probabilities, and its samples.
    index : int64 tensor of shape (n,)
        The samples.

    Returns
    -------
    tensor of shape (n, n_classes)
    """
    outputs = data.outputs(index).float()
    are_probabilities = bool((outputs >= 0).all()) and torch.allclose(
        outputs.sum(dim=1), outputs.new_ones(len(outputs)), atol=1e-3
    )
    return outputs if are_probabilities else outputs.softmax(dim=1)


def present_probabilities(data: NetData, index: torch.Tensor) -> torch.Tensor:
    """Return probabilities of some samples among the classes that have retained samples.

    Parameters
    ----------
    data : NetData
        The network and its samples.
    index : int64 tensor of shape (n,)
        The samples.

    Returns
    -------
    tensor of shape (n, n_classes)
        Zero for other classes, and for samples for which all such classes have probability zero.
    """
    found = probabilities(data, index) * data.present()
    total = found.sum(dim=1, keepdim=True)
    return torch.where(total > 0, found / total, found)


def retained_targets(data: NetData, choice: str) -> torch.Tensor:
    """Return targets of all samples, which by default preserve the outputs for retained samples.

    Parameters
    ----------
    data : NetData
        The original network, not changed yet, and its samples.
    choice : {"auto", "outputs", "labels"}
        "outputs" are the probabilities of the network, and "labels" are the classes. "auto" means
        the probabilities if the loss takes them, or else the classes.

    Returns
    -------
    tensor of shape (n_samples, n_classes), or int64 tensor of shape (n_samples,)
        The targets of samples to forget are their own classes. The probabilities of retained
        samples are restricted to classes that have retained samples.
    """
    if choice == "labels" or (choice == "auto" and not takes_probabilities(data)):
        return data.codes.clone()
    targets = nn.functional.one_hot(data.codes, data.n_classes).float()
    # A retrained network has never seen a class that is forgotten as a whole.
    found = present_probabilities(data, data.retain)
    known = found.any(dim=1)
    targets[data.retain[known]] = found[known]
    return targets
