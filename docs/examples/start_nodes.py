"""
=====================================================
Start nodes that continue after the failure of others
=====================================================

``torchrun`` ends all processes as soon as one of them fails. This launcher starts one process per
node and leaves the others alone, so that they exclude a failed node and finish::

    python docs/examples/start_nodes.py --nodes 4 docs/examples/torchrun_dekrr.py

It sets the four variables from which the processes find each other. On several machines, set them
yourself: ``RANK`` is the index of the node, ``WORLD_SIZE`` the number of nodes, and ``MASTER_ADDR``
and ``MASTER_PORT`` the address at which the process of node 0 waits for the others. Node 0 must run
until all have joined; later, it may fail like any other.
"""

import argparse
import os
import socket
import subprocess
import sys


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, n_nodes):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **meeting, "RANK": str(rank), "WORLD_SIZE": str(n_nodes)},
        )
        for rank in range(n_nodes)
    ]


def main():
    parser = argparse.ArgumentParser(description="Start one process per node.")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="program and its arguments")
    arguments = parser.parse_args()
    codes = [process.wait() for process in start(arguments.command, arguments.nodes)]
    for rank, code in enumerate(codes):
        if code:
            print(f"node {rank} ended with code {code}", flush=True)
    return 0 if 0 in codes else 1


if __name__ == "__main__":
    sys.exit(main())
