"""Cost and durability of requests to delete samples from a saved pipeline.

    python -m benchmarks.exact_pipeline_requests [--kills 1000]

First, a process that deletes samples and compacts the folder is killed at random moments, again and
again. After each kill, the folder is loaded and compared with a pipeline that is fitted to the
samples that are left. Then 10,000 of 20,000 samples with 500 features are deleted in 1,000
requests, on one thread. Milliseconds are processor time; synchronizing with the disk comes on top,
and takes as long as the disk needs. The scaler is fitted to pinned samples. Finally, a few requests
are made to a pipeline whose scaler follows the samples that are left.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

N_SAMPLES, N_FEATURES = 20_000, 500
N_REQUESTS, REQUEST_SIZE = 1_000, 10
N_FOLLOWED = 20  # requests that change the scaler, too
N_SMALL = 400
LATEST_KILL = 0.08  # seconds after the first request


def pipeline(pin="preprocessing"):
    from sklearn_ext import ForgettingScaler, RandomFeatureRegressor, make_forgetting_pipeline

    head = RandomFeatureRegressor(feature_map="identity", alpha=1.0)
    return make_forgetting_pipeline(
        ForgettingScaler(), head, pin=pin, pinned_fraction=0.2, random_state=0
    )


def samples(n, d, rng):
    X = rng.standard_normal((n, d)) + 3.0
    return X, X @ rng.standard_normal(d) + rng.standard_normal(n)


def memory_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def difference(model, X):
    expected = model.refitted().predict(X)
    return abs(model.predict(X) - expected).max() / abs(expected).max()


def requests(ids, n_requests):
    return ids[: n_requests * REQUEST_SIZE].reshape(n_requests, REQUEST_SIZE)


def seconds(model, ids):
    start = time.process_time()
    model.forget(ids)
    return time.process_time() - start


def throughput(folder):
    rng = np.random.RandomState(0)
    X, y = samples(N_SAMPLES, N_FEATURES, rng)
    model = pipeline().fit(X, y)
    model.save(folder)
    free = rng.permutation(np.setdiff1d(model.sample_id_, model.pinned_))
    times, before = [], 0.0
    for k, ids in enumerate(requests(free, N_REQUESTS)):
        times.append(seconds(model, ids))
        if k == N_REQUESTS // 10:
            before = memory_mib()
    growth = memory_mib() - before
    done = N_REQUESTS * REQUEST_SIZE
    batch = seconds(model, free[done : done + 1000])
    print(f"{N_REQUESTS} requests for {REQUEST_SIZE} of {N_SAMPLES} samples, {N_FEATURES} features")
    print(f"median of a request:                    {1e3 * np.median(times):.1f} ms")
    print(f"99th percentile:                        {1e3 * np.quantile(times, 0.99):.1f} ms")
    print(f"one request for 1,000 samples:          {1e3 * batch:.1f} ms")
    print(f"memory added by the last 900 requests:  {growth:.1f} MiB")
    print(f"difference from a refit at the end:     {difference(model, X[:2000]):.0e}")
    model.close()
    followed = pipeline(pin="features").fit(X, y)
    times = [seconds(followed, ids) for ids in requests(free, N_FOLLOWED)]
    print(f"median if the scaler follows:           {1e3 * np.median(times):.1f} ms")
    print(f"difference from a refit:                {difference(followed, X[:2000]):.0e}")


def delete_until_killed(folder, writer, rng):
    from sklearn_ext import ForgettingPipeline

    model = ForgettingPipeline.load(folder)
    os.write(writer, b"ready\n")
    for k, key in enumerate(rng.permutation(np.setdiff1d(model.sample_id_, model.pinned_)), 1):
        model.forget([int(key)])
        os.write(writer, f"{key}\n".encode())
        if k % 5 == 0:
            model.compact()


def one_kill(folder, rng):
    """Return the ids whose requests returned before the kill."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        try:
            delete_until_killed(folder, writer, rng)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "r") as file:
        ready = file.readline()
        time.sleep(rng.uniform(0.0, LATEST_KILL))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        lines = file.read().split("\n")[:-1]
    if ready != "ready\n":
        raise RuntimeError("The process ended before its first request.")
    return [int(line) for line in lines]


def kills(folder, n_kills):
    from sklearn_ext import ForgettingPipeline

    rng = np.random.RandomState(0)
    X, y = samples(N_SMALL, 10, rng)
    lost = mixed = n_requests = 0
    before = set()
    for _ in range(n_kills):
        if len(before) < N_SMALL // 2:
            shutil.rmtree(folder, ignore_errors=True)
            model = pipeline().fit(X, y)
            model.save(folder)
            model.close()
            before = set(model.sample_id_.tolist())
        returned = one_kill(folder, rng)
        model = ForgettingPipeline.load(folder)
        left = set(model.sample_id_.tolist())
        lost += bool(left.intersection(returned))
        extra = before - left - set(returned)  # a request on disk that had not returned
        mixed += len(extra) > 1 or bool(difference(model, X) > 1e-9)
        n_requests += len(returned)
        model.close()
        before = left
    print(
        f"{n_kills} kills during {n_requests} requests: {lost} lost requests, {mixed} mixed states",
        flush=True,
    )


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exact_pipeline_requests")
    parser.add_argument("--kills", type=int, default=1000, metavar="N")
    arguments = parser.parse_args(argv)
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        kills(Path(folder) / "small", arguments.kills)  # first, while a fork is cheap
        throughput(Path(folder) / "large")
    return 0


if __name__ == "__main__":
    sys.exit(main())
