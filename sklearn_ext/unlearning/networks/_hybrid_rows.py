"""Retained rows and hybrids as one set to train on."""

import torch

from ._natmu_blending import blend

_MAX_STORED_BYTES = 2**28


class HybridRows:
    """Retained rows first, then hybrids; both by number.

    Parameters
    ----------
    request : Request
    index : ndarray of shape (n_hybrids, 3)
        Forget row, retained row and mask of each hybrid, as positions.
    masks : tensor, broadcastable to (n_masks, *row_shape)
    limits : pair of float or None
        Range of the inputs, to which hybrids are clipped.
    stored : bool or None
        Whether hybrids are blended at once or batch by batch, with the same result. None stores
        them if they take at most 256 MiB.
    augment : callable or None
        Applied to the retained rows of a batch, never to hybrids: it would move the masks.
    """

    def __init__(self, request, index, masks, limits, *, stored=None, augment=None):
        self.request = request
        self.masks = masks
        self.limits = limits
        self.augment = augment
        forget, retained, mask = torch.as_tensor(index).T
        self.forget, self.retained, self.mask = (
            request.forget[forget],
            request.retain[retained],
            mask,
        )
        self.targets = request.codes[torch.cat([request.retain, self.retained])]
        row_bytes = request.X[0].numel() * request.X.element_size()
        if stored is None:
            stored = len(index) * row_bytes <= _MAX_STORED_BYTES
        self.hybrids = self._blend(torch.arange(len(index))) if stored else None

    def __len__(self):
        return len(self.targets)

    def batch(self, index):
        """Return inputs and targets, retained rows before hybrids."""
        n_retained = len(self.request.retain)
        plain = index[index < n_retained]
        mixed = index[index >= n_retained]
        rows = self.request.X[self.request.retain[plain]]
        if self.augment is not None and len(rows):
            rows = self.augment(rows)
        hybrids = mixed - n_retained
        blended = self._blend(hybrids) if self.hybrids is None else self.hybrids[hybrids]
        return torch.cat([rows, blended]), self.targets[torch.cat([plain, mixed])]

    def _blend(self, which):
        X = self.request.X
        rows = blend(X[self.forget[which]], X[self.retained[which]], self.masks[self.mask[which]])
        return rows if self.limits is None else rows.clamp(*self.limits)
