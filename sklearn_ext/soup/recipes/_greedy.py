"""Greedy selection of the ingredients of an average."""

from collections.abc import Callable, Sequence

import numpy as np

from ...utils._typing import IntArray
from ..ingredients import Evaluation, IngredientStore, weighted_sum_


def by_quality(evaluations: Sequence[Evaluation]) -> IntArray:
    """Return the order of ingredients: higher score first, then lower loss, then lower index.

    With few mixing samples many scores are equal, so ties need a rule.
    """
    scores = np.array([evaluation.score for evaluation in evaluations])
    losses = np.array([evaluation.loss for evaluation in evaluations])
    return np.lexsort((losses, -scores))


def select_greedily(
    store: IngredientStore,
    order: Sequence[int] | IntArray,
    best_score: float,
    score_of: Callable[[Sequence[int]], float],
    *,
    tie: str,
) -> list[int]:
    r"""Add ingredients to an average one by one, and keep those that improve its score.

    With k members so far, the candidate is :math:`\frac{k}{k+1} w + \frac{1}{k+1} w_i`. Only the
    average, the candidate in the network and one tensor of an ingredient are in memory.

    Parameters
    ----------
    store : IngredientStore
        On return, its module has the parameters of the selected average.
    order : sequence of int
        Order in which the ingredients are tried. The first one is always a member.
    best_score : float
        Score of the first ingredient.
    score_of : callable
        Called with the members of a candidate when the module holds their average. Returns the
        candidate's score.
    tie : {"reject", "accept"}
        Whether to reject or accept a candidate whose score equals the best one.

    Returns
    -------
    list of int
        The members, in the order in which they were added.
    """
    members = [int(order[0])]
    store.load_(members[0])
    average = {name: own.detach().clone() for name, own in store.parameters.items()}
    for k in (int(k) for k in order[1:]):
        weight = 1.0 / (len(members) + 1)
        for name, own in store.parameters.items():
            pair = [average[name], store.tensor(k, name)]
            weighted_sum_(own.detach(), pair, [1.0 - weight, weight])
        score = score_of([*members, k])
        if score > best_score or (tie == "accept" and score == best_score):
            best_score = score
            members.append(k)
            for name, own in store.parameters.items():
                average[name].copy_(own.detach())
    for name, own in store.parameters.items():
        own.detach().copy_(average[name])
    return members
