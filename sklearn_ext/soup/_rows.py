"""Rows for a network in whatever form it takes them, with targets as its loss wants them."""

from collections.abc import Mapping

import numpy as np
import skorch
import torch
from scipy.sparse import issparse
from skorch.dataset import get_len
from skorch.utils import multi_indexing, to_tensor
from torch.utils.data import Dataset, Subset, default_collate

from ..neural import class_codes, minibatches, torch_generator


def is_opaque(X):
    """Whether only the network knows what X is: not an array that can be checked."""
    # scipy's dictionary of keys is a mapping, too.
    return isinstance(X, (Mapping, Dataset, torch.Tensor)) and not issparse(X)


def n_rows(X):
    """Return the number of rows of anything that a skorch net takes."""
    return len(X) if isinstance(X, Dataset) else get_len(X)


def select_rows(X, rows):
    """Rows of anything that a skorch net takes.

    Parameters
    ----------
    X : ndarray, tensor, mapping of them, or torch.utils.data.Dataset
    rows : ndarray of int

    Returns
    -------
    object
        Of the type of X.
    """
    return Subset(X, rows.tolist()) if isinstance(X, Dataset) else multi_indexing(X, rows)


def targets_of(net, y):
    """Return targets as the loss of a fitted net takes them.

    Parameters
    ----------
    net : skorch.NeuralNet
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)

    Returns
    -------
    tensor
        Codes of classes for a classifier, else float32 of shape (n_samples, n_outputs).
    """
    if isinstance(net, skorch.NeuralNetClassifier):
        return torch.as_tensor(class_codes(net, y))
    if isinstance(net, skorch.NeuralNetBinaryClassifier):
        return torch.as_tensor(class_codes(net, y), dtype=torch.float32)
    return torch.as_tensor(np.asarray(y, dtype=np.float32).reshape(len(y), -1))


class Rows:
    """Inputs and targets that are cut in batches.

    Parameters
    ----------
    X : ndarray, tensor, mapping of them, or torch.utils.data.Dataset
        The first entry of a data set's items is the input.
    targets : tensor of shape (n_samples, ...)
    """

    def __init__(self, X, targets):
        self.X = X if isinstance(X, Dataset) else to_tensor(X, device="cpu")
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def take(self, rows):
        """Return inputs and targets of some rows, given by a tensor of indices."""
        if isinstance(self.X, Dataset):
            inputs = default_collate([self.X[k][0] for k in rows.tolist()])
        else:
            inputs = multi_indexing(self.X, rows.numpy())
        return inputs, self.targets[rows]

    def shuffled(self, batch_size, generator):
        """Yield batches of all rows in a random order."""
        for rows in minibatches(len(self), batch_size, generator):
            yield self.take(rows)

    def in_order(self, batch_size):
        """Yield batches of all rows in their order."""
        for rows in torch.arange(len(self)).split(batch_size):
            yield self.take(rows)

    def inputs_for_statistics(self, batch_size):
        """Yield inputs in an order that is random, as rows may be sorted, yet always the same."""
        for inputs, _ in self.shuffled(batch_size, torch_generator(0)):
            yield inputs
