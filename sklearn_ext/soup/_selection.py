"""Greedy choice of the ingredients of an average."""

import numpy as np

from ._combination import weighted_sum_


def by_quality(evaluations):
    """Order ingredients: better score first, then smaller loss, then smaller number.

    Few rows make equal scores the rule, so that ties must be broken by something.

    Parameters
    ----------
    evaluations : list of Evaluation

    Returns
    -------
    ndarray of int
    """
    scores = np.array([evaluation.score for evaluation in evaluations])
    losses = np.array([evaluation.loss for evaluation in evaluations])
    return np.lexsort((losses, -scores))


def select_greedily_(bench, order, best_score, tie):
    r"""Add ingredients in turn to an average, and keep those that improve its score.

    With k members so far, the candidate is :math:`\frac{k}{k+1} w + \frac{1}{k+1} w_i`. Memory:
    the average, the candidate in the network, and one tensor of an ingredient.

    Parameters
    ----------
    bench : Workbench
        Its network stands at the chosen average afterwards.
    order : sequence of int
        The first one is a member in any case.
    best_score : float
        Of the first one.
    tie : {"reject", "accept"}
        What happens to a candidate of the same score.

    Returns
    -------
    list of int
        The members, in the order of their choice.
    """
    members = [int(order[0])]
    bench.shelf.load_(members[0])
    average = {name: own.detach().clone() for name, own in bench.parameters.items()}
    for k in (int(k) for k in order[1:]):
        share = 1.0 / (len(members) + 1)
        for name, own in bench.parameters.items():
            pair = [average[name], bench.shelf.tensor(k, name)]
            weighted_sum_(own.detach(), pair, [1.0 - share, share])
        bench.finish_buffers_([*members, k])
        score = bench.score()
        if score > best_score or (tie == "accept" and score == best_score):
            best_score = score
            members.append(k)
            for name, own in bench.parameters.items():
                average[name].copy_(own.detach())
    for name, own in bench.parameters.items():
        own.detach().copy_(average[name])
    bench.finish_buffers_(members)
    return members
