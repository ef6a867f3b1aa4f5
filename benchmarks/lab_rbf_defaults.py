"""Compare the defaults of LABRidgelessRegressor with single changes to them, on public data sets.

    python -m benchmarks.lab_rbf_defaults [--only NAME ...] [--data NAME ...] [--out FILE]

The program prints the test R2 of the defaults and of every change, and the mean rank over the data
sets. R2 is a mean over three splits and three seeds for data sets of at most 3,000 samples, and
over one split and two seeds for larger ones. A single split or seed says little about a small data
set; even with the means, differences below 0.005 are noise there.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import rankdata
from sklearn.metrics import r2_score

from ._data import MissingDataError
from .lab_rbf import TWELVE, load_task

CHANGES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "kernel exponential": {"kernel": "exponential"},
    "kernel rbf": {"kernel": "rbf"},
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


def runs(name: str) -> list[tuple[int, int]]:
    """Return pairs of a split and a seed for a data set."""
    large = len(load_task(name, 0).y_train) > LARGE
    splits, seeds = ((0,), (0, 1)) if large else ((0, 1, 2), (0, 1, 2))
    return [(split, seed) for split in splits for seed in seeds]


def test_r2(name: str, split: int, seed: int, change: dict[str, Any]) -> float:
    from sklearn_ext import LABRidgelessRegressor

    task = load_task(name, split)
    model = LABRidgelessRegressor(random_state=seed).set_params(**change)
    return r2_score(task.y_test, model.fit(task.X_train, task.y_train).predict(task.X_test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--data", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    scores = {}
    print(" " * 30 + "".join(f"{name[:9]:>10}" for name in arguments.data))
    for label in arguments.only:
        jobs = [
            (name, split, seed, CHANGES[label])
            for name in arguments.data
            for split, seed in runs(name)
        ]
        results = Parallel(n_jobs=arguments.jobs)(delayed(test_r2)(*job) for job in jobs)
        scores[label] = {
            name: float(
                np.mean([r for job, r in zip(jobs, results, strict=True) if job[0] == name])
            )
            for name in arguments.data
        }
        print(f"{label:<30}" + "".join(f"{r:>10.4f}" for r in scores[label].values()), flush=True)

    table = np.array([list(row.values()) for row in scores.values()])
    ranks = rankdata(-table, axis=0).mean(axis=1)
    print("\nmean rank")
    for label, rank in sorted(zip(scores, ranks, strict=True), key=lambda pair: pair[1]):
        print(f"{label:<30}{rank:>10.2f}")
    if arguments.out:
        arguments.out.write_text(json.dumps(scores, indent=1))


if __name__ == "__main__":
    try:
        main()
    except MissingDataError as error:
        raise SystemExit(str(error)) from error
