"""Fits of a million rows that stay in a file, and of sites in separate processes.

The table has one million rows of ten numbers, in float32 (38 MiB), and is read through a memory
map. Each line is a process of its own. It shows the CPU seconds of all threads, and the peak memory
beyond that of the libraries and a small fit.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ._report import ROOT

N_ROWS, N_FEATURES = 1_000_000, 10
TABLE = f"""
import sys, time, warnings
import numpy as np
warnings.simplefilter("ignore")
X = np.load(sys.argv[1] + "/X.npy", mmap_mode="r")
y = np.load(sys.argv[1] + "/y.npy", mmap_mode="r")
new = np.random.default_rng(1).uniform(size=(2000, {N_FEATURES})).astype(np.float32)
expected = np.load(sys.argv[1] + "/expected.npy")

def memory(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

def report(fit):
    fit(X[:3000], y[:3000])  # loads libraries and compiles functions
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, start = memory("VmRSS"), time.process_time()
    model = fit(X, y)
    seconds = time.process_time() - start
    score = 1 - np.mean((model.predict(new) - expected) ** 2) / expected.var()
    print(f"{{seconds:8.1f}} {{memory('VmHWM') - before:8.0f}} {{score:8.4f}}")
"""
FITS = {
    "LABRidgelessRegressor, 200 support points": """
from sklearn_ext import LABRidgelessRegressor
report(lambda X, y: LABRidgelessRegressor(n_support=200, random_state=0).fit(X, y))
""",
    "RandomFeatureRegressor, blocks of 50,000 rows": """
from sklearn_ext import RandomFeatureRegressor
def fit(X, y, block=50_000):
    model = RandomFeatureRegressor(200, gamma=0.5, store=False, solver="primal", random_state=0)
    model.fit(X[:block], y[:block])
    for start in range(block, len(X), block):
        model.learn(X[start : start + block], y[start : start + block])
    return model
report(fit)
""",
}


def write_table(folder: Path) -> None:
    """Write a million rows of Friedman's first function, and its values at 2,000 new rows."""
    import numpy as np

    def function(X):
        return (
            10 * np.sin(np.pi * X[:, 0] * X[:, 1])
            + 20 * (X[:, 2] - 0.5) ** 2
            + 10 * X[:, 3]
            + 5 * X[:, 4]
        )

    rng = np.random.default_rng(0)
    X = rng.uniform(size=(N_ROWS, N_FEATURES)).astype(np.float32)
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", (function(X) + rng.normal(size=N_ROWS)).astype(np.float32))
    new = np.random.default_rng(1).uniform(size=(2000, N_FEATURES)).astype(np.float32)
    np.save(folder / "expected.npy", function(new))


def main() -> int:
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    print(f"{'a million rows in a file':48} {'CPU s':>8} {'MiB':>8} {'R2':>8}")
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder))
        for name, program in FITS.items():
            command = [sys.executable, "-c", TABLE + program, folder]
            run = subprocess.run(command, cwd=ROOT, env=one_thread, check=True,
                                 stdout=subprocess.PIPE, text=True)  # fmt: skip
            print(f"{name:48} {run.stdout.rstrip()}", flush=True)
    print("\nfour sites, one process each, started with torchrun")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "4"]
    command += ["docs/examples/torchrun_dekrr.py", "--compare"]
    run = subprocess.run(command, cwd=ROOT, env=one_thread, check=True, stdout=subprocess.PIPE,
                         text=True)  # fmt: skip
    # The processes write to one pipe, and their lines run into each other.
    print("\n".join(sorted(f"site {line.strip()}" for line in run.stdout.split("site ")[1:])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
