"""Mini-batches of in-distribution rows that bring outliers along."""

import torch
from skorch.utils import data_from_dataset, to_tensor

from ...neural import minibatches, n_minibatches, torch_generator

OUTLIER = -1  # code of an outlier beside the codes 0, 1, ... of the classes


class OutlierBatches:
    """An iterator for skorch nets: an epoch over the classes' rows, outliers beside each batch.

    The pool of outliers goes round on its own and is shuffled anew each time it is exhausted, so
    its size changes neither the number of steps nor which rows of the classes meet.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        With attributes X and y as skorch's own, or a subset of one. Outliers have y = -1.
    batch_size : int, default=128
        Rows of the classes in a batch.
    outlier_ratio : float, default=1.0
        Outliers of a batch over its rows of the classes; there is at least one.
    shuffle : bool, default=True
        Draw a new order of the classes' rows each time, from torch's global generator.
    """

    def __init__(self, dataset, batch_size=128, outlier_ratio=1.0, shuffle=True):
        X, y = data_from_dataset(dataset)
        self.X, self.y = to_tensor(X, device="cpu"), to_tensor(y, device="cpu")
        self.inliers = torch.nonzero(self.y != OUTLIER)[:, 0]
        self.outliers = torch.nonzero(self.y == OUTLIER)[:, 0]
        self.batch_size = batch_size
        self.outlier_ratio = outlier_ratio
        self.shuffle = shuffle
        # A generator of its own: with or without outliers, the classes' rows meet alike.
        self.pool = _Pool(self.outliers, torch_generator(torch.initial_seed()))

    def __len__(self):
        return n_minibatches(len(self.inliers), self.batch_size)

    def __iter__(self):
        n = len(self.inliers)
        if self.shuffle:
            batches = minibatches(n, self.batch_size, None)
        else:
            batches = torch.arange(n).split(self.batch_size)
        for batch in batches:
            rows = self.inliers[batch]
            if len(self.outliers):
                n_outliers = max(1, round(self.outlier_ratio * len(batch)))
                rows = torch.cat([rows, self.pool.take(n_outliers)])
            yield self.X[rows], self.y[rows]


class _Pool:
    """Rows in random order, round after round."""

    def __init__(self, rows, generator):
        self.rows = rows
        self.generator = generator
        self.waiting = rows[:0]

    def take(self, n_rows):
        while len(self.waiting) < n_rows:
            order = torch.randperm(len(self.rows), generator=self.generator)
            self.waiting = torch.cat([self.waiting, self.rows[order]])
        taken, self.waiting = self.waiting[:n_rows], self.waiting[n_rows:]
        return taken
