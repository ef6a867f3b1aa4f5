"""One fit, measured in a process of its own.

A fresh process a fit makes peak memory honest: nothing that another fit allocated is there to be
used again. Data and libraries are loaded and the warm-up is done before the measurement starts;
memory is the peak of the resident set during the fit above the resident set before it. On Linux
the kernel's high-water mark is reset first; elsewhere the mark cannot be reset, and the peak of
the whole process stands in (it then includes the warm-up).
"""

import gc
import importlib
import multiprocessing
import os
import platform
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path

from joblib.externals.loky import get_reusable_executor

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
_LINUX = platform.system() == "Linux"


def measure(method, contender, task, seed, n_threads):
    """Return the row of results of one contender on one task, or why there is none."""
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(n_threads)))
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender, method, contender, task, seed, n_threads))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        child.join()
        return {"failed": f"the process ended with code {child.exitcode}"}
    finally:
        child.join()


def _child(sender, method, contender, task, seed, n_threads):
    sender.send(_row(method, contender, task, seed, n_threads))
    # Idle workers of joblib would keep this process from ending.
    get_reusable_executor().shutdown(wait=True)


def _row(method, contender, task, seed, n_threads):
    from sklearn.base import clone

    benchmark = importlib.import_module(f"benchmarks.{method}").BENCHMARK
    try:
        model = benchmark.contenders[contender](task, seed, n_threads)
    except ImportError as error:
        return {"skipped": str(error)}
    try:
        with warnings.catch_warnings(action="ignore"):
            benchmark.warm_up(clone(model), task)
        before = _start_of_memory()
        start = time.perf_counter()
        model.fit(task.X_train, task.y_train, **task.fit_params)
        fit_seconds = time.perf_counter() - start
        peak = _peak_of_memory() - before
        start = time.perf_counter()
        output = getattr(model, benchmark.response)(task.X_test)
        predict_seconds = time.perf_counter() - start
        metrics = benchmark.metrics(model, output, task)
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}
    return {
        "metrics": {name: float(value) for name, value in metrics.items()},
        "fit_seconds": fit_seconds,
        "predict_seconds": predict_seconds,
        "peak_mib": max(peak, 0) / 2**20,
    }


def _start_of_memory():
    gc.collect()
    if not _LINUX:
        return _peak_of_memory()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak_of_memory():
    if _LINUX:
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024
