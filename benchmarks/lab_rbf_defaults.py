"""Compare the defaults of LABRidgelessRegressor with single changes to them, on held-out samples.

    python -m benchmarks.lab_rbf_defaults [--only NAME ...] [--data NAME ...] [--out FILE]

No sample takes part that a reported split tests on: the program divides the samples that are in the
training part of all these splits. It prints the R2 of the defaults on the held-out samples and, for
every change, the mean difference from it. A star marks differences that exceed twice their standard
error over the divisions and seeds; the others are noise. Data sets of at most 3,000 samples are
divided three times and fitted with two seeds, larger ones once.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from scipy.stats import rankdata
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from ._data import SHIPPED, MissingDataError, load, split_mask
from .lab_rbf import BENCHMARK, TWELVE

CHANGES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "kernel laplacian": {"kernel": "laplacian"},
    "kernel exponential": {"kernel": "exponential"},
    "kernel rbf": {"kernel": "rbf"},
    "200 support points": {"n_support": 200},
    "all samples": {"n_support": "all"},
    "free bandwidths": {"locality": 1.0},
    "locality 0.5": {"locality": 0.5},
    "no support dropout": {"support_dropout": 0.0},
    "support dropout 0.1": {"support_dropout": 0.1},
    "fixed targets": {"learn_targets": False},
    "targets as fast as bandwidths": {"target_learning_rate": 1e-2},
    "beta_2 0.999": {"beta_2": 0.999},
    "beta_2 0.9": {"beta_2": 0.9},
    "learning rate 0.005": {"learning_rate": 5e-3},
    "learning rate 0.02": {"learning_rate": 2e-2},
    "alpha 0.001": {"alpha": 1e-3},
    "alpha 0.1": {"alpha": 0.1},
    "alpha learned": {"alpha": "learn"},
    "growth by error": {"growth": "error_sampled"},
    "no growth": {"growth": None},
    "no warm-up": {"n_warmup": 0},
    "batches of 128": {"batch_size": 128},
    "batches of 512": {"batch_size": 512},
    "half the steps": {"max_iter": 1000},
    "twice the steps": {"max_iter": 4000},
}
SETS = (*TWELVE, "tecator", "diabetes")
LARGE = 3000
FloatArray = npt.NDArray[np.floating]


def training_samples(name: str) -> tuple[FloatArray, FloatArray]:
    """Return the samples on which no reported split tests."""
    arrays = load(name if name in SHIPPED else f"regression/{name}")
    tested = np.any([split_mask(arrays, split) for split in BENCHMARK.splits], axis=0)
    return arrays["X"][~tested].astype(np.float64), arrays["y"][~tested].astype(np.float64)


def runs(name: str) -> list[tuple[int, int]]:
    """Return pairs of a division and a seed for a data set."""
    is_large = len(training_samples(name)[0]) > LARGE
    return [(0, 0)] if is_large else [(k, seed) for k in (0, 1, 2) for seed in (0, 1)]


def held_out_r2(name: str, division: int, seed: int, change: dict[str, Any]) -> float:
    from sklearn_ext import LABRidgelessRegressor

    X, y = training_samples(name)
    X, X_held, y, y_held = train_test_split(X, y, test_size=0.2, random_state=division)
    model = LABRidgelessRegressor(random_state=seed).set_params(**change)
    return r2_score(y_held, model.fit(X, y).predict(X_held))


def cell(values: FloatArray, reference: FloatArray) -> str:
    """Format the mean difference of paired scores, with a star where it exceeds the noise."""
    gains = values - reference
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
    return f"{gains.mean():+.4f}" + ("*" if abs(gains.mean()) > 2 * error else " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--data", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    scores: dict[str, dict[str, list[float]]] = {}
    print(" " * 30 + "".join(f"{name[:9]:>10}" for name in arguments.data))
    for label in dict.fromkeys(["defaults", *arguments.only]):
        jobs = [
            (name, division, seed, CHANGES[label])
            for name in arguments.data
            for division, seed in runs(name)
        ]
        results = Parallel(n_jobs=arguments.jobs)(delayed(held_out_r2)(*job) for job in jobs)
        scores[label] = {
            name: [r for job, r in zip(jobs, results, strict=True) if job[0] == name]
            for name in arguments.data
        }
        row, reference = scores[label], scores["defaults"]
        cells = [
            f"{np.mean(row[name]):.4f} "
            if label == "defaults"
            else cell(np.array(row[name]), np.array(reference[name]))
            for name in arguments.data
        ]
        print(f"{label:<30}" + "".join(f"{text:>10}" for text in cells), flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(scores, indent=1))

    table = np.array([[np.mean(values) for values in row.values()] for row in scores.values()])
    ranks = rankdata(-table, axis=0).mean(axis=1)
    print("\nmean rank")
    for label, rank in sorted(zip(scores, ranks, strict=True), key=lambda pair: pair[1]):
        print(f"{label:<30}{rank:>10.2f}")


if __name__ == "__main__":
    try:
        main()
    except MissingDataError as error:
        raise SystemExit(str(error)) from error
