"""
===========================================
One process per node, started with torchrun
===========================================

Every process holds the samples of one site and exchanges messages with its two neighbors on a ring.
No process reads the samples of another process or has a special role, and each process obtains its
own model. Start the program with::

    torchrun --nproc-per-node 4 docs/examples/torchrun_dekrr.py

On several machines, only the rendezvous options of ``torchrun`` change. With ``--compare``, every
process also solves the whole problem directly, for which it reads the samples of all sites, and
prints the difference between the two solutions.
"""

import argparse

import numpy as np
from sklearn.datasets import make_friedman1
from torch import distributed

from sklearn_ext import DecentralizedRFKRR, TorchDistributedNetwork
from sklearn_ext.decentralized import network_minmax

PARAMETERS = {
    "n_components": 60,
    "alpha": 1e-4,
    "consensus_weight": 1.0,
    "graph": "ring",
    "tol": 1e-10,
    "random_state": 0,
}


def read_samples(site):
    """Draw the samples of a site; sites cover different parts of the input space."""
    X, y = make_friedman1(1600, noise=0.5, random_state=0)
    order = np.argsort(X[:, 3] + np.random.default_rng(0).normal(scale=0.3, size=len(X)))
    rows = np.array_split(order, 4)[site]
    return X[rows[::2]], y[rows[::2]], X[rows[1::2]], y[rows[1::2]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("--compare", action="store_true", help="also solve the whole problem")
    compare = parser.parse_args().compare

    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    network = TorchDistributedNetwork(timeout=60)
    X, y, X_test, y_test = read_samples(rank)

    # All sites must scale in the same way, with the extremes over the network.
    minimum, maximum = network_minmax(X, network=network, graph="ring")
    X, X_test = (X - minimum) / (maximum - minimum), (X_test - minimum) / (maximum - minimum)

    krr = DecentralizedRFKRR(network=network, **PARAMETERS).fit(X, y)
    alone = DecentralizedRFKRR(n_nodes=1, **PARAMETERS).fit(X, y)
    print(
        f"site {rank}: R2 alone {alone.score(X_test, y_test):.3f}, "
        f"with neighbors {krr.score(X_test, y_test, node=rank):.3f}, "
        f"after {krr.n_iter_} rounds and {krr.n_floats_sent_['total']} floats sent",
        flush=True,
    )
    if compare:
        parts = [read_samples(site) for site in range(4)]
        X_all = (np.vstack([part[0] for part in parts]) - minimum) / (maximum - minimum)
        site = np.repeat(np.arange(4), [len(part[0]) for part in parts])
        joint = DecentralizedRFKRR(**PARAMETERS)
        joint.fit(X_all, np.concatenate([part[1] for part in parts]), node=site)
        apart = abs(joint.predict(X_test, node=rank) - krr.predict(X_test, node=rank)).max()
        print(f"site {rank}: {apart:.1e} from the joint solution", flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
