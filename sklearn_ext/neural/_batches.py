"""Mini-batches of samples in any form."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import skorch
import torch
from skorch.dataset import unpack_data
from skorch.utils import to_numpy, to_tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from ..utils._typing import Array, IntArray
from ._device import torch_generator
from ._input import (
    AnySamples,
    LabeledDataset,
    check_form,
    module_inputs,
    n_samples_of,
    select_samples,
)

_MOST_BYTES = 2**25  # of the inputs in a batch that is only evaluated
_SAMPLING_PARAMS = ("batch_size", "shuffle", "sampler", "batch_sampler", "drop_last", "generator")


def minibatches(
    n_samples: int, batch_size: int, generator: torch.Generator | None
) -> Iterator[torch.Tensor]:
    """Yield the indices of shuffled mini-batches; each sample appears exactly once.

    Parameters
    ----------
    n_samples : int
    batch_size : int
        The last batch may be smaller. A single leftover sample joins the previous batch, because
        batch normalization cannot train on one sample.
    generator : torch.Generator or None
        Source of the random order; None means torch's global generator.

    Yields
    ------
    tensor of int64
    """
    device = "cpu" if generator is None else generator.device  # a generator draws on its own device
    order = torch.randperm(n_samples, generator=generator, device=device).cpu()
    yield from _split(order, batch_size)


def n_minibatches(n_samples: int, batch_size: int) -> int:
    """Return the number of batches that `minibatches` yields."""
    n_batches = math.ceil(n_samples / batch_size)
    has_leftover = batch_size > 1 and n_batches > 1 and n_samples % batch_size == 1
    return n_batches - has_leftover


def _split(order: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    n_batches = n_minibatches(len(order), batch_size)
    for k in range(n_batches):
        stop = (k + 1) * batch_size if k < n_batches - 1 else None
        yield order[k * batch_size : stop]


class TensorBatches:
    """Batch iterator for skorch nets that slices data in memory, and loads all other data.

    With small networks, slicing is many times faster than a data loader, which collects the samples
    of a batch one by one in Python. Data are sliced if they are arrays, tensors or dicts of them,
    in skorch's own dataset or torch's :class:`~torch.utils.data.TensorDataset`, or in a subset of
    one. The samples of any other dataset are collected one by one, so its transforms are applied.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        A map-style dataset.
    batch_size : int, default=128
        The last batch may be smaller. A single leftover sample joins the previous batch.
    shuffle : bool, default=False
        Whether to draw a new order for each pass. Like a data loader, it draws from torch's
        global generator.
    **loader
        Any other parameter of :class:`torch.utils.data.DataLoader`, such as `num_workers` or
        `collate_fn`. If you pass any, data in memory go through the loader, too.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch.dataset import Dataset
    >>> from sklearn_ext.neural import TensorBatches
    >>> data = Dataset(np.zeros((5, 3)), np.arange(5))
    >>> [len(y) for X, y in TensorBatches(data, batch_size=2)]
    [2, 3]
    """

    def __init__(
        self, dataset: Dataset, batch_size: int = 128, shuffle: bool = False, **loader: Any
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = loader.pop("drop_last", False)
        self.loader = loader

    def __len__(self) -> int:
        n_samples = n_samples_of(self.dataset)
        if self.drop_last:
            return n_samples // self.batch_size
        return n_minibatches(n_samples, self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        n_samples = n_samples_of(self.dataset)
        order = torch.randperm(n_samples) if self.shuffle else torch.arange(n_samples)
        if self.drop_last:
            batches = iter(order[: len(self) * self.batch_size].split(self.batch_size))
        else:
            batches = _split(order, self.batch_size)
        yield from read_batches(self.dataset, batches, self.loader)


def read_batches(
    dataset: Dataset, indices: Iterable[torch.Tensor], loader: Mapping[str, Any]
) -> Iterator[Any]:
    """Yield batches of a map-style dataset, sliced from memory or collected by a data loader.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    indices : iterable of tensors of int64
        The indices of each batch.
    loader : mapping
        Parameters of the data loader. If it has entries, data in memory go through the loader, too.

    Yields
    ------
    pair of samples and targets
    """
    held = None if loader else _held_tensors(dataset)
    if held is None:
        yield from _loaded(dataset, indices, loader)
        return
    for index in indices:
        yield _sliced(held[0], index), held[1][index]


def _held_tensors(dataset: Any) -> tuple[Any, torch.Tensor] | None:
    """Return the samples and targets that a dataset holds in memory unchanged, or None."""
    if isinstance(dataset, Subset):
        held = _held_tensors(dataset.dataset)
        if held is None:
            return None
        index = torch.as_tensor(np.asarray(dataset.indices))
        return _sliced(held[0], index), held[1][index]
    if type(dataset) is LabeledDataset:
        held = _held_tensors(dataset.dataset)
        return None if held is None else (held[0], torch.as_tensor(dataset.y))
    if type(dataset) is TensorDataset and len(dataset.tensors) == 2:
        return dataset.tensors[0], dataset.tensors[1]
    # A subclass may transform its samples.
    if type(dataset) is not skorch.dataset.Dataset:
        return None
    X, y = dataset.X, dataset.y
    parts = [*(X.values() if isinstance(X, Mapping) else [X]), *([] if y is None else [y])]
    if not all(isinstance(part, (np.ndarray, torch.Tensor)) for part in parts):
        return None
    if any(isinstance(part, np.ndarray) and part.dtype.kind not in "biufc" for part in parts):
        return None
    targets = torch.zeros(len(dataset)) if y is None else to_tensor(y, device="cpu")
    if isinstance(X, Mapping):
        return {name: _as_tensor(part) for name, part in X.items()}, targets
    return _as_tensor(X), targets


def _as_tensor(values: Array | torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        # torch warns about read-only memory, but nothing writes to it: batches are copies.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.as_tensor(values)


def _sliced(X: Any, index: torch.Tensor) -> Any:
    if isinstance(X, Mapping):
        return {name: part[index.to(part.device)] for name, part in X.items()}
    return X[index.to(X.device)]


def _loaded(
    dataset: Dataset,
    batches: Iterable[torch.Tensor],
    params: Mapping[str, Any],
) -> Iterator[Any]:
    """Yield the given batches of a dataset through a data loader."""
    # A loader with its own generator leaves the global one alone, so dropout draws the same numbers
    # as with arrays.
    yield from DataLoader(
        dataset,
        batch_sampler=[index.tolist() for index in batches],
        generator=torch_generator(torch.initial_seed()),
        **params,
    )


def loader_params(net: skorch.NeuralNet, iterator: str) -> dict[str, Any]:
    """Return a net's parameters for a data loader that do not choose the samples of a batch.

    Parameters
    ----------
    net : skorch.NeuralNet
    iterator : {"iterator_train", "iterator_valid"}
    """
    params = net.get_params_for(iterator)
    return {name: v for name, v in params.items() if name not in _SAMPLING_PARAMS}


class NetSamples:
    """Samples in any form, read batch by batch onto the device of a net.

    All algorithms of the package read samples through this class. Use it wherever an algorithm
    chooses samples by their index::

        samples = NetSamples(net, X, targets)     # X: array, tensor, dict of them, or Dataset
        inputs, t = samples.take(index)           # one batch, on the device of the net
        for inputs, t in samples.shuffled(32, generator): ...
        for inputs, t in samples.in_order(1024): ...
        for inputs, t in samples.batches(list_of_indices): ...  # with the workers of the net
        outputs = net.infer(inputs)               # a dict of inputs becomes keyword arguments

    Only the current batch is copied. Arrays and tensors are sliced. Everything else goes through
    the `dataset` and the iterator of the net, with its `collate_fn` and `num_workers`, so
    transforms and augmentation are applied. The targets inside a dataset are ignored: pass those
    that :func:`validate_input` has returned, encoded for the loss. Inputs have the type that the
    module computes in; see :func:`module_inputs`.

    Parameters
    ----------
    net : skorch.NeuralNet
        An initialized net.
    X : ndarray, tensor, dict of them, or torch.utils.data.Dataset
        As :func:`validate_input` returns it with ``any_form=True``. Nothing is copied.
    targets : ndarray or tensor of shape (n_samples, ...), default=None
        With None, each batch has None in place of its targets.
    training : bool, default=False
        Whether to read datasets through `iterator_train` rather than `iterator_valid`.

    Attributes
    ----------
    net : skorch.NeuralNet
    X : object
    targets : tensor of shape (n_samples, ...) or None
        On the CPU.

    Raises
    ------
    TypeError
        If X is a data loader or an iterable-style dataset.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from torch.utils.data import TensorDataset
    >>> from sklearn_ext import NetClassifier
    >>> from sklearn_ext.neural import NetSamples
    >>> X, y = np.eye(6, dtype=np.float32), np.arange(6) % 2
    >>> net = NetClassifier(max_epochs=1, random_state=0).fit(X, y)
    >>> dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    >>> samples = NetSamples(net, dataset, y)
    >>> inputs, targets = samples.take(torch.tensor([4, 1]))
    >>> tuple(inputs.shape), targets.tolist()
    ((2, 6), [0, 1])
    """

    def __init__(
        self,
        net: skorch.NeuralNet,
        X: AnySamples,
        targets: Array | torch.Tensor | None = None,
        *,
        training: bool = False,
    ) -> None:
        check_form(X)
        self.net = net
        self.X = X
        self.training = training
        self.targets = None if targets is None else to_tensor(targets, device="cpu")
        dataset = net.get_dataset(X)
        self._held = _held_tensors(dataset)
        self._loader = loader_params(net, "iterator_train" if training else "iterator_valid")
        # Loaders collate targets, too, which may be of any type inside the dataset.
        numbers = np.zeros(len(self)) if self.targets is None else self.targets
        self._dataset = LabeledDataset(dataset, numbers)

    def __len__(self) -> int:
        return n_samples_of(self.X)

    def select(self, index: IntArray | torch.Tensor) -> "NetSamples":
        """Return a reader of the samples with the given indices."""
        chosen = to_numpy(index) if isinstance(index, torch.Tensor) else index
        targets = None if self.targets is None else self.targets[torch.as_tensor(chosen)]
        X = select_samples(self.X, chosen)
        return NetSamples(self.net, X, targets, training=self.training)

    def take(self, index: torch.Tensor) -> tuple[Any, Any]:
        """Return the inputs and targets of the samples with the given indices.

        Parameters
        ----------
        index : tensor of int64

        Returns
        -------
        inputs : tensor, or dict of tensors
        targets : tensor or None
        """
        index = index.cpu()
        if self._held is not None:
            return self._on_device(_sliced(self._held[0], index), index)
        collate = self._loader.get("collate_fn") or default_collate
        items = [self._dataset[k] for k in index.tolist() or [0]]  # no item has no shape
        inputs = unpack_data(collate(items))[0]
        return self._on_device(inputs if len(index) else _sliced(inputs, index), index)

    def batches(self, indices: Iterable[torch.Tensor]) -> Iterator[tuple[Any, Any]]:
        """Yield the inputs and targets of each batch, as `take` returns them.

        Unlike repeated calls of `take`, this uses the worker processes of the net's iterator.

        Parameters
        ----------
        indices : iterable of tensors of int64
            The indices of each batch.

        Yields
        ------
        inputs : tensor, or dict of tensors
        targets : tensor or None
        """
        if self._held is not None or not self._loader.get("num_workers"):
            yield from map(self.take, indices)
            return
        kept = [index.cpu() for index in indices]
        loaded = _loaded(self._dataset, kept, self._loader)
        for index, batch in zip(kept, loaded, strict=True):
            yield self._on_device(unpack_data(batch)[0], index)

    def shuffled(
        self, batch_size: int, generator: torch.Generator | None
    ) -> Iterator[tuple[Any, Any]]:
        """Yield batches of all samples in a random order; see :func:`minibatches`."""
        yield from self.batches(minibatches(len(self), batch_size, generator))

    def in_order(self, batch_size: int) -> Iterator[tuple[Any, Any]]:
        """Yield batches of all samples in their original order, smaller ones of large samples."""
        if len(self):
            batch_size = min(batch_size, max(1, _MOST_BYTES // self._bytes_of_a_sample()))
        yield from self.batches(torch.arange(len(self)).split(batch_size))

    def _bytes_of_a_sample(self) -> int:
        inputs, _ = self.take(torch.arange(1))
        parts = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        return max(1, sum(part.numel() * part.element_size() for part in parts))

    def _on_device(self, inputs: Any, index: torch.Tensor) -> tuple[Any, Any]:
        device = self.net.device
        targets = None if self.targets is None else to_tensor(self.targets[index], device=device)
        return module_inputs(self.net, to_tensor(inputs, device=device)), targets
