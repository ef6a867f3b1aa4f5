"""Test the tasks, contenders and averages of the imputation benchmark."""

import numpy as np
import pytest

from benchmarks import imputation


def row(data, contender, **metrics):
    return {"data": data, "split": 1, "seed": 0, "contender": contender,
            "metrics": metrics, "fit_seconds": 1.0}  # fmt: skip


def test_gains_are_paired_with_mean_imputation():
    rows = [
        row("a@50", "mean", **{"SVM A": 0.5}),
        row("b@50", "mean", **{"SVM A": 0.8}),
        row("a@50", "new", **{"SVM A": 0.6}),
        row("b@50", "new", **{"SVM A": 0.8}),
        row("b@50", "direct", **{"own A": 0.9}),
        row("a@50", "direct", **{"own A": 0.5}),
        {"data": "a@50", "split": 1, "seed": 0, "contender": "new", "failed": "no"},
    ]
    averages = imputation.average(rows)
    assert averages[50, "new"]["SVM A"] == pytest.approx(0.7)
    assert averages[50, "new"]["SVM A gain"] == pytest.approx((0.05, 0.05))
    assert averages[50, "direct"]["own A gain"] == pytest.approx((0.05, 0.05))
    lines = imputation.text(averages).splitlines()
    assert lines[0].startswith("50 % missing")
    assert "+0.050±0.050" in lines[2]


def test_a_task_has_the_stated_fraction_of_missing_values():
    task = imputation.load_task("breast_cancer@50", 1)
    holes = np.isnan(task.X_train)
    assert holes.mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(task.X_train[~holes], task.extra["complete"][~holes])
    assert not np.isnan(task.X_test).any()
    assert task.extra["hidden"].shape == task.X_test.shape


@pytest.mark.parametrize("contender", ["joint Gaussian", "mean", "HistGradientBoosting"])
def test_contenders_yield_metrics(contender):
    task = imputation.load_task("breast_cancer@50", 1)
    model = imputation.BENCHMARK.contenders[contender](task, 0, 1)
    output = model.fit(task.X_train, task.y_train).transform(task.X_test)
    metrics = imputation.metrics(model, output, task)
    assert next(iter(metrics.values())) > 0.8
    if contender != "HistGradientBoosting":
        assert metrics["NRMSE train"] < 1.0
