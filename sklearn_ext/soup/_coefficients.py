"""Learning of coefficients: blocks of the hyperplane, or all ingredients on the simplex."""

import torch

from ..neural import draw_seed, log_probabilities, seeded
from ..utils._warnings import warn_caller
from ._groups import parameter_groups
from ._hyperplane import (
    HyperplaneCoordinates,
    SimplexCoordinates,
    direction_scales,
    recombine,
)
from ._mixing import MixedGroups, mix_block, open_span, permuted_blocks


def learning_groups(bench, layerwise):
    """Return all groups of parameters, and those tensors of them that are mixed.

    Parameters
    ----------
    bench : Workbench
    layerwise : bool, "module" or callable

    Returns
    -------
    groups : dict of str to list of str
    mixed : MixedGroups
    """
    groups = parameter_groups(bench.parameters, layerwise)
    mixed = MixedGroups.of(groups, bench.shelf.differing())
    n_coefficients = len(bench.shelf) * len(set(mixed.group_of.tolist()))
    if len(bench.mixing) < n_coefficients:
        warn_caller(
            f"{n_coefficients} coefficients are learned on {len(bench.mixing)} rows. Mix on more "
            "rows, or with fewer groups: layerwise='module' or False."
        )
    return groups, mixed


def directions_for(net, directions):
    """Resolve "auto": streaming from files is for the CPU, devices want their data near."""
    if directions != "auto":
        return directions
    return "streamed" if torch.device(net.device or "cpu").type == "cpu" else "stored"


def learn_on_hyperplane_(
    bench, groups, schedule, rng, *, block_size, n_outer, scale, start, directions
):
    r"""Block coordinate descent over the affine hull of the ingredients.

    Each block starts from the soup so far, as the origin c of its directions; its optimiser and
    schedule are fresh. A later block can shrink the earlier ones, through
    :math:`1 - \sum_i y_i`; on a convex problem the scheme reaches the optimum of the whole
    hyperplane for any size of the blocks.

    Parameters
    ----------
    bench : Workbench
        Its network stands at the mean of all ingredients, and at the soup afterwards.
    groups : MixedGroups
    schedule : Schedule
    rng : RandomState
    block_size, n_outer : int
        Ingredients in a block; passes over all ingredients.
    scale : {"mean", "unit", "raw"}
    start : {"mean", "first_block"}
    directions : {"streamed", "stored"}

    Returns
    -------
    coef : tensor of float64 of shape (G, N)
    history : list of dict
    """
    n = len(bench.shelf)
    coef = torch.full((groups.n_groups, n), 1.0 / n, dtype=torch.float64)
    blocks = [(k, block) for k in range(n_outer) for block in permuted_blocks(n, block_size, rng)]
    history = []
    if not groups.names:
        return coef, history
    if start == "first_block":
        first = blocks[0][1]
        bench.average_(first)
        coef = torch.zeros_like(coef)
        coef[:, first] = 1.0 / len(first)
    with bench.training_only(groups.names), seeded(draw_seed(rng), bench.net.device):
        for number, (outer, block) in enumerate(blocks):
            span = None  # free the block before, whose directions may be stored
            span = open_span(bench, groups, block, coef, directions)
            scales = direction_scales(groups.total(span.squared_norms()).sqrt(), scale)
            if not scales.any():
                continue  # one ingredient that is the origin itself leads nowhere
            coordinates = HyperplaneCoordinates(scales)
            y, records = mix_block(bench, groups, span, coordinates, schedule, seed=draw_seed(rng))
            coef = recombine(coef, block, y)
            history += [{"outer": outer, "block": number, **record} for record in records]
    bench.finish_buffers_(range(n))
    return coef, history


def learn_on_simplex_(bench, groups, schedule, rng, *, learn_temperature, directions):
    r"""Gradient descent on the logits of a softmax, and on a factor of the network's outputs.

    Parameters
    ----------
    bench, groups, schedule, rng, directions
        As for :func:`learn_on_hyperplane_`.
    learn_temperature : bool
        Whether the loss is that of outputs times :math:`e^\beta`, with :math:`\beta` learned too.

    Returns
    -------
    coef : tensor of float64 of shape (G, N)
    history : list of dict
    temperature : float
        :math:`e^{-\beta}`.
    loss_of : callable
        The loss at this temperature.
    """
    n = len(bench.shelf)
    coordinates = SimplexCoordinates((groups.n_groups, n))
    log_factor = torch.zeros((), requires_grad=learn_temperature, device=bench.net.device)
    loss_of = tempered_loss(bench, log_factor) if learn_temperature else bench.loss_of
    coef = coordinates.step(coordinates.start())
    history = []
    if groups.names:
        with bench.training_only(groups.names), seeded(draw_seed(rng), bench.net.device):
            coef, history = mix_block(
                bench,
                groups,
                open_span(bench, groups, list(range(n)), coef, directions),
                coordinates,
                schedule,
                seed=draw_seed(rng),
                loss_of=loss_of,
                extra=[log_factor] if learn_temperature else [],
            )
        bench.finish_buffers_(range(n))
    return coef, history, float(torch.exp(-log_factor.detach())), loss_of


def tempered_loss(bench, log_factor):
    """Return the loss of the net with the logarithms of its probabilities scaled.

    Parameters
    ----------
    bench : Workbench
        With a net that returns logits or probabilities of classes.
    log_factor : tensor of shape ()

    Returns
    -------
    callable of inputs and targets
    """
    net = bench.net
    returns_logits = isinstance(net.criterion_, torch.nn.CrossEntropyLoss)

    def loss_of(inputs, targets):
        scaled = log_probabilities(net, net.infer(inputs)) * log_factor.exp()
        return net.get_loss(scaled if returns_logits else scaled.softmax(dim=1), targets)

    return loss_of
