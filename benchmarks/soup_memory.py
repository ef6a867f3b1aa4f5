"""Cost of mixing: memory in units of one model and milliseconds per step, for each soup.

    python -m benchmarks.soup_memory [--n 16 64] [--samples 512] [--width 1200] [--json FILE]

Ingredients are files of a network of 3.4 million parameters. Every contender runs in a fresh
process on one thread. Memory is the peak of the process's anonymous pages above those before the
fit. Pages of mapped files are not counted, because the system can take them back at any time. The
time of a step is processor time, as the difference between a long and a short fit.

The naive learned soup works like the published code: all ingredients are in memory, the weights are
a sum of N scaled copies, and the graph of the gradients runs through all of them. "stacked" is the
same with one contraction per tensor. Both only mix, while our fits also evaluate each ingredient
and the soups.
"""

import argparse
import gc
import json
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

N_FEATURES, N_CLASSES = 784, 10
BATCH = 64
SHORT, LONG = 1, 6  # passes over the mixing samples
TARGETS = (
    ("streamed", 16, "models", "<", 6.0),
    ("streamed", 64, "models", "<", 8.0),
    ("stored, b=4", 16, "models", "<", 12.0),
    ("naive learned", 16, "models", ">", 35.0),
)


def network(width):
    from sklearn_ext.neural import MLP, NetClassifier, seeded

    with seeded(0):
        module = MLP(N_FEATURES, N_CLASSES, (width, width, 2 * width // 3))
    return NetClassifier(module, random_state=0)


def write_ingredients(folder, n, width):
    import torch

    from sklearn_ext.neural import save_tensors

    start = network(width).module.state_dict()
    generator = torch.Generator().manual_seed(1)
    for k in range(n):
        noisy = {
            name: tensor + 0.01 * torch.randn(tensor.shape, generator=generator)
            for name, tensor in start.items()
        }
        save_tensors(Path(folder) / f"{k:03d}.safetensors", noisy)
    return sum(tensor.numel() for tensor in start.values())


def mixing_samples(n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    return X, rng.integers(N_CLASSES, size=n)


def soup(paths, width, n_epochs, **parameters):
    from sklearn_ext import soup as soups

    kind = parameters.pop("kind", "MEHLSoup")
    if kind in ("MEHLSoup", "LearnedSoup"):
        parameters |= {"max_epochs": n_epochs, "min_iter": 0, "batch_size": BATCH}
    return getattr(soups, kind)(network(width), ingredients=paths, random_state=0, **parameters)


def read_versions(paths, *, stacked):
    """Return the ingredients' versions of each tensor, stacked or as a list."""
    import torch

    from sklearn_ext.neural import LazyTensors

    models = [
        {name: tensor.clone() for name, tensor in LazyTensors(path).items()} for path in paths
    ]
    versions = {name: [model[name] for model in models] for name in models[0]}
    if stacked:
        for name in versions:
            versions[name] = torch.stack(versions[name])
            for model in models:
                del model[name]
    return versions


def weighted(versions, coef, *, stacked):
    """Return the weighted sum of the versions of each tensor."""
    import torch

    if stacked:
        return {
            name: torch.tensordot(coef[t], tensors, dims=1)
            for t, (name, tensors) in enumerate(versions.items())
        }
    return {
        name: sum(a * w for a, w in zip(coef[t], tensors, strict=True))
        for t, (name, tensors) in enumerate(versions.items())
    }


class NaiveLearned:
    """Coefficients of each tensor, learned by autograd through a sum of all ingredients."""

    def __init__(self, paths, width, n_epochs, *, stacked=False):
        self.paths = paths
        self.n_epochs = n_epochs
        self.stacked = stacked
        self.module = network(width).module

    def fit(self, X, y):
        import torch

        from sklearn_ext.neural import minibatches

        versions = read_versions(self.paths, stacked=self.stacked)
        logits = torch.zeros(len(versions), len(self.paths), requires_grad=True)
        factor = torch.ones((), requires_grad=True)
        optimizer = torch.optim.AdamW([logits, factor], lr=0.05, weight_decay=0.0)
        X, y = torch.as_tensor(X), torch.as_tensor(y)
        generator = torch.Generator().manual_seed(0)
        for _ in range(self.n_epochs):
            for index in minibatches(len(X), BATCH, generator):
                weights = weighted(versions, logits.softmax(dim=1), stacked=self.stacked)
                output = torch.func.functional_call(self.module, weights, X[index])
                loss = torch.nn.functional.cross_entropy(factor * output, y[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return self


CONTENDERS = {
    "uniform": (soup, {"kind": "UniformSoup"}),
    "greedy": (soup, {"kind": "GreedySoup"}),
    "streamed": (soup, {}),
    "streamed, one group": (soup, {"layerwise": False}),
    "stored, b=2": (soup, {"directions": "stored", "block_size": 2}),
    "stored, b=4": (soup, {"directions": "stored", "block_size": 4}),
    "stored, b=16": (soup, {"directions": "stored", "block_size": 16}),
    "learned, streamed": (soup, {"kind": "LearnedSoup"}),
    "naive learned": (NaiveLearned, {}),
    "naive, stacked": (NaiveLearned, {"stacked": True}),
}
# The memory of these grows with the number of ingredients, so they only run with the smallest one.
GROWING = ("naive learned", "naive, stacked", "stored, b=16")
WITHOUT_STEPS = ("uniform", "greedy")


def anonymous_bytes():
    """Return the resident anonymous memory of this process (Linux only)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


class PeakMemory:
    """A context that samples the anonymous memory every millisecond."""

    def __enter__(self):
        gc.collect()
        self.base = self.peak = anonymous_bytes()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()
        return self

    def _sample(self):
        while not self.stopped.wait(1e-3):
            self.peak = max(self.peak, anonymous_bytes())

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        self.peak = max(self.peak, anonymous_bytes())


def measure(sender, name, folder, n_samples, width, n_parameters, n_blocks, timed=True):
    """Measure one contender in a fresh process, and send its figures."""
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    paths = sorted(str(path) for path in Path(folder).iterdir())
    X, y = mixing_samples(n_samples)
    build, parameters = CONTENDERS[name]
    # A tiny fit comes first, so that imports and workspaces are not counted.
    network(60).set_params(max_epochs=1).fit(X[:BATCH], y[:BATCH])
    start = time.process_time()
    with PeakMemory() as memory:
        build(paths, width, SHORT, **parameters).fit(X, y)
    seconds = time.process_time() - start
    row = {
        "models": (memory.peak - memory.base) / (4 * n_parameters),
        "fit_seconds": seconds,
    }
    if timed and name not in WITHOUT_STEPS:
        n_steps = (LONG - SHORT) * (n_samples // BATCH) * n_blocks
        times = []
        for n_epochs in (SHORT, LONG):
            start = time.process_time()
            build(paths, width, n_epochs, **parameters).fit(X, y)
            times.append(time.process_time() - start)
        row["ms_per_step"] = 1e3 * (times[1] - times[0]) / n_steps
    sender.send(row)


def run(sizes, n_samples, width, only):
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    context = multiprocessing.get_context("spawn")
    rows = []
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            n_parameters = write_ingredients(folder, n, width)
            for name in only:
                if n > min(sizes) and name in GROWING:
                    continue
                n_blocks = n // CONTENDERS[name][1].get("block_size", n)
                receiver, sender = context.Pipe(duplex=False)
                arguments = (sender, name, folder, n_samples, width, n_parameters, n_blocks)
                child = context.Process(target=measure, args=arguments)
                child.start()
                sender.close()
                row = {"contender": name, "n": n} | receiver.recv()
                child.join()
                rows.append(row)
                print(
                    f"{name:<22}N={n:<4}{row['models']:8.1f} models"
                    f"{row.get('ms_per_step', float('nan')):10.1f} ms per step"
                    f"{row['fit_seconds']:8.2f} s for the short fit",
                    flush=True,
                )
    return rows


def verdicts(rows):
    """Compare the figures with the targets of this benchmark."""
    found = {(row["contender"], row["n"]): row for row in rows}
    lines = []
    for name, n, key, sign, bound in TARGETS:
        if (name, n) in found:
            value = found[name, n][key]
            met = value < bound if sign == "<" else value > bound
            lines.append(
                f"{'met   ' if met else 'MISSED'} {name}, N={n}: {value:.1f} {key} {sign} {bound:g}"
            )
    if {("streamed", 16), ("naive learned", 16)} <= found.keys():
        ratio = found["naive learned", 16]["ms_per_step"] / found["streamed", 16]["ms_per_step"]
        met = "met   " if ratio >= 2.0 else "MISSED"
        lines.append(
            f"{met} a streamed step is {ratio:.1f} times as fast as a naive one, the target is 2"
        )
    return lines


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soup_memory")
    parser.add_argument("--n", nargs="+", type=int, default=[16, 64], help="ingredients")
    parser.add_argument("--samples", type=int, default=512, help="mixing samples")
    parser.add_argument("--width", type=int, default=1200, help="units of the hidden layers")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    rows = run(arguments.n, arguments.samples, arguments.width, arguments.only)
    lines = verdicts(rows)
    print(*lines, sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "verdicts": lines}, indent=1))


if __name__ == "__main__":
    main()
