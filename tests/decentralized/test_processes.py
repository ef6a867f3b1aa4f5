"""Fits in separate processes: the gallery example under torchrun, and a killed process."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

distributed = pytest.importorskip("torch.distributed")
if not (distributed.is_available() and distributed.is_gloo_available()):
    pytest.skip("torch was built without gloo", allow_module_level=True)

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "torchrun_dekrr.py"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}

# The process of rank 2 is killed when it sends the 40th message of its rounds.
NODE_PROGRAM = """
import os, signal, sys
import numpy as np
from sklearn.datasets import make_friedman1
from sklearn_ext import DecentralizedRFKRR, TorchDistributedNetwork
from sklearn_ext.decentralized.network._torch_distributed import _GlooTransport

asynchronous, on_failure = sys.argv[1] == "True", sys.argv[2]
network = TorchDistributedNetwork(asynchronous=asynchronous, timeout=30)
(rank,) = network.ranks(1)
send, sent = _GlooTransport.send, []

def send_or_die(self, i, array, essential=True):
    sent.append(essential)
    if rank == 2 and sent.count(False) == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    send(self, i, array, essential)

_GlooTransport.send = send_or_die
X, y = make_friedman1(400, random_state=0)
krr = DecentralizedRFKRR(
    n_components=20, graph="ring", alpha=1e-4, tol=0.0, max_iter=150,
    network=network, on_failure=on_failure, aggregate="neighborhood", random_state=0,
)
krr.fit(X[rank::4], y[rank::4])
print("failed", *krr.failed_nodes_, "finite", np.isfinite(krr.predict(X)).all(), flush=True)
"""


@pytest.mark.slow
def test_four_processes_find_the_joint_solution():
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    done = subprocess.run(
        [sys.executable, *command, str(SCRIPT), "--compare"],
        capture_output=True,
        text=True,
        timeout=300,
        env=ONE_THREAD,
    )
    assert done.returncode == 0, done.stderr
    apart = [float(x) for x in re.findall(r"(\S+) from the joint solution", done.stdout)]
    assert len(apart) == 4
    assert max(apart) < 1e-8
    alone, together = re.findall(r"alone (\S+), with neighbors (\S+),", done.stdout)[0]
    assert float(together) > float(alone)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize(("asynchronous", "on_failure"), [(False, "drop"), (True, "freeze")])
def test_killed_process_does_not_block_the_others(asynchronous, on_failure):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "4"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", NODE_PROGRAM, str(asynchronous), on_failure],
            stdout=subprocess.PIPE,
            text=True,
            env={**ONE_THREAD, **meeting, "RANK": str(rank)},
        )
        for rank in range(4)
    ]
    try:
        outputs = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert processes[2].returncode == -signal.SIGKILL
    assert "finite True" in outputs[0]
    for neighbor in (1, 3):
        assert "failed 2 finite True" in outputs[neighbor]
