"""Measure one fit in its own process.

A new process for every fit makes the peak memory meaningful, because a fit cannot reuse memory that
another fit allocated. The measurement starts after the data and the libraries are loaded and the
warm-up is done. The reported memory is the peak of the resident set during the fit, minus the
resident set before the fit. On Linux, the kernel's high-water mark is reset before the fit. On
other systems it cannot be reset, so the peak includes the warm-up.
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
from multiprocessing.connection import Connection
from pathlib import Path

from joblib.externals.loky import get_reusable_executor

from ._contract import Task
from ._report import Row

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
_LINUX = platform.system() == "Linux"


def measure(method: str, contender: str, task: Task, seed: int, n_threads: int) -> Row:
    """Return the results of one contender on one task, or the reason why there are none."""
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
        return {"failed": f"The process ended with code {child.exitcode}."}
    finally:
        child.join()


def _child(
    sender: Connection, method: str, contender: str, task: Task, seed: int, n_threads: int
) -> None:
    sender.send(_row(method, contender, task, seed, n_threads))
    # Idle joblib workers would keep this process alive.
    get_reusable_executor().shutdown(wait=True)


def _row(method: str, contender: str, task: Task, seed: int, n_threads: int) -> Row:
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


def _start_of_memory() -> int:
    gc.collect()
    if not _LINUX:
        return _peak_of_memory()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak_of_memory() -> int:
    if _LINUX:
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024
