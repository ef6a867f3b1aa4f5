"""Compare every estimator on a GPU with itself on the CPU: outputs, seconds, memory, crossover.

    python -m benchmarks.gpu [--device cuda] [--only NAME ...] [--sizes N ...] [--record]

Each estimator that computes with torch is fitted twice on each device, with the same seed; the
second fit is timed. "Difference" is the largest difference between the outputs of the two devices,
relative to the largest output, and "agreement" is the fraction of equal predictions. Draws on a GPU
differ from those on the CPU, so models that draw there (``ConditionalDDPM``) agree in distribution
only. "Crossover" is the number of samples from which a fit takes less time on the GPU.

With ``--record``, the output becomes the section "GPU" of the benchmark page.
"""

import argparse
import contextlib
import io
import time
import warnings

import numpy as np

from ._records import GPU

N_SAMPLES = 1000
SIZES = (500, 2000, 8000, 32_000)
LONGEST = 20.0  # seconds of a fit on the CPU, after which larger sizes are left out
SCALED = ("ConditionalDDPM", "LABRidgelessRegressor", "NetClassifier", "RandomFeatureRegressor")
OUTPUTS = ("predict_proba", "decision_function", "score_samples", "transform", "predict")


def on_device(Estimator, device):
    """Build an estimator that computes on a device, or return None if it never uses torch."""
    import sklearn_ext
    from tests.instances import instance

    estimator = instance(Estimator)
    params = estimator.get_params()
    found = {name: device for name in params if name.split("__")[-1] == "device"}
    if params.get("estimator", "absent") is None and "unlearning.exact" not in Estimator.__module__:
        found["estimator"] = sklearn_ext.NetClassifier(random_state=0, device=device)
    if "network" in params or not found:  # nodes on a network, or nothing to move
        return None
    if "pretrained" in params:
        found |= pretrained()
    if Estimator.__name__ == "ConditionalDDPM":
        found["max_iter"] = 300
    return estimator.set_params(**found)


def pretrained():
    """Return the parameters of a Flat-LoRA estimator for images of 64 pixels in ten classes."""
    from sklearn_ext.neural import MLP, seeded

    with seeded(0):
        module = MLP(64, 10, hidden_sizes=(64, 64))
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    return {"pretrained": weights, "module__hidden_sizes": (64, 64)}


def samples(estimator, n):
    """Return n noisy digits, with the labels or numbers that suit the estimator."""
    from sklearn.base import is_regressor
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(X))[:n] if n <= len(X) else rng.integers(len(X), size=n)
    X = (X[rows] / 16 + rng.normal(scale=0.1, size=(n, 64))).astype(np.float32)
    return X, X[:, 20] + X[:, 43] ** 2 if is_regressor(estimator) else y[rows]


def request(estimator):
    """Return what `fit` takes besides X and y: some samples or a class to forget."""
    import inspect

    names = inspect.signature(estimator.fit).parameters
    known = {"forget": np.arange(20), "forget_class": 0}
    return {name: value for name, value in known.items() if name in names}


def timed_fit(estimator, X, y, device):
    """Return the seconds of a second fit, and the peak of the device's memory in MiB."""
    import torch

    on_gpu = torch.device(device).type == "cuda"
    seconds = 0.0
    for _ in range(2):
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        estimator.fit(X, y, **request(estimator))
        if on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated() / 2**20 if on_gpu else 0.0


def compared(first, second, X):
    """Return the largest relative difference of the outputs, and the agreement of predictions."""
    difference, agreement = 0.0, 1.0
    for name in (name for name in OUTPUTS if hasattr(first, name)):
        ours, theirs = getattr(first, name)(X), getattr(second, name)(X)
        if name == "predict":
            agreement = float(np.isclose(ours, theirs, rtol=1e-2, atol=1e-2).mean())
        else:
            scale = max(float(np.abs(ours).max()), 1e-12)
            difference = max(difference, float(np.abs(ours - theirs).max()) / scale)
    return difference, agreement


def check_all(device, names):
    """Print a line for each estimator, and yield the names of those that failed."""
    from sklearn_ext.utils import all_estimators

    print(f"{'':28s}difference  agreement   CPU s   GPU s  GPU MiB")
    for name, Estimator in all_estimators():
        if names and name not in names:
            continue
        cpu, gpu = on_device(Estimator, "cpu"), on_device(Estimator, device)
        if cpu is None:
            continue
        X, y = samples(cpu, N_SAMPLES)
        try:
            cpu_seconds, _ = timed_fit(cpu, X, y, "cpu")
            gpu_seconds, peak = timed_fit(gpu, X, y, device)
            difference, agreement = compared(cpu, gpu, X)
        except Exception as error:
            print(f"{name:28s}{type(error).__name__}: {str(error)[:120]}", flush=True)
            yield name
            continue
        print(
            f"{name:28s}{difference:10.1e}{agreement:11.3f}{cpu_seconds:8.2f}{gpu_seconds:8.2f}"
            f"{peak:9.1f}",
            flush=True,
        )


def crossover(device, name, sizes):
    """Print the seconds of fits of growing size on both devices, and where the GPU overtakes."""
    import sklearn_ext

    Estimator = getattr(sklearn_ext, name)
    faster = []
    for n in sizes:
        cpu, gpu = on_device(Estimator, "cpu"), on_device(Estimator, device)
        X, y = samples(cpu, n)
        on_cpu, _ = timed_fit(cpu, X, y, "cpu")
        on_gpu, _ = timed_fit(gpu, X, y, device)
        print(f"{name:28s}{n:8d} samples{on_cpu:10.2f}{on_gpu:10.2f}", flush=True)
        faster.append((n, on_gpu < on_cpu))
        if on_cpu > LONGEST:
            break
    slower = [k for k, (_, is_faster) in enumerate(faster) if not is_faster]
    first = slower[-1] + 1 if slower else 0
    where = f"from {faster[first][0]} samples on" if first < len(faster) else "never"
    print(f"{name:28s}crossover: {where}", flush=True)


def run(device, names, sizes):
    """Print all figures; return whether every estimator could be fitted on both devices."""
    from sklearn_ext.neural import resolve_device

    device = str(resolve_device(device))
    with warnings.catch_warnings(action="ignore"):
        failed = list(check_all(device, names))
        print()
        for name in (name for name in SCALED if not names or name in names):
            crossover(device, name, sizes)
    return not failed


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="estimators (default: all)")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N")
    parser.add_argument("--record", action="store_true", help="store the output in the records")
    arguments = parser.parse_args()
    printed = io.StringIO() if arguments.record else None
    with contextlib.redirect_stdout(printed) if printed else contextlib.nullcontext():
        succeeded = run(arguments.device, arguments.only, arguments.sizes)
    if printed:
        GPU.write_text(printed.getvalue())
    return 0 if succeeded else 1


if __name__ == "__main__":
    raise SystemExit(main())
