"""Running statistics of batch normalisation, estimated anew for new weights."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm


def tracking_layers(module):
    """Return the batch normalisations of a module that keep running statistics."""
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]


@torch.no_grad()
def estimate_running_statistics(module, forward, batches):
    r"""Set running means and variances to their averages over batches.

    The statistics of a soup are no average of those of its ingredients, since activations depend
    on weights in a nonlinear way. Only the batch normalisations run in training mode, so that
    dropout, which is off when the network is used, has no part in what they see.

    Parameters
    ----------
    module : torch.nn.Module
        Comes back in evaluation mode.
    forward : callable
        Runs the module on a batch.
    batches : iterable
        Each of at least two rows.
    """
    layers = tracking_layers(module)
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average over batches
        layer.train()
    try:
        for batch in batches:
            forward(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
