"""Test the benchmark runner: its data sets, its summary, and a complete run."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import _data, _report


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SKLEARN_EXT_DATA", str(tmp_path))
    return tmp_path


def test_a_missing_file_raises_with_folder_and_remedy(folder):
    with pytest.raises(
        _data.MissingDataError, match=r"does not contain nothing\.npz.*SKLEARN_EXT_DATA"
    ):
        _data.load("nothing")


def test_splits_in_a_file_are_used(folder):
    masks = np.random.RandomState(0).random_sample((21, 10)) < 0.3
    (folder / "below").mkdir()
    packed = np.packbits(masks, axis=0)
    np.savez(folder / "below" / "mine.npz", X=np.zeros((21, 2)), y=np.zeros(21), test_masks=packed)
    arrays = _data.load("mine")
    for split in range(10):
        np.testing.assert_array_equal(_data.split_mask(arrays, split), masks[:, split])
    with pytest.raises(ValueError, match=r"split must be below 10, .* got 10"):
        _data.split_mask(arrays, 10)


def test_drawn_splits_have_a_fifth_and_are_repeatable():
    arrays = _data.load("diabetes")
    masks = [_data.split_mask(arrays, split) for split in (0, 1, 0)]
    assert [mask.sum() for mask in masks] == [89, 89, 89]
    np.testing.assert_array_equal(masks[0], masks[2])
    assert (masks[0] != masks[1]).any()


def test_a_split_by_groups_keeps_groups_together():
    groups = np.repeat(np.arange(10), 5)
    mask = _data.split_mask({"X": np.zeros((50, 1))}, 0, groups=groups)
    assert mask.sum() == 10
    assert not set(groups[mask]) & set(groups[~mask])


def row(contender, r2, seconds):
    cost = {"fit_seconds": seconds, "predict_seconds": 1.0, "peak_mib": 1.0}
    return {"data": "a", "contender": contender, "metrics": {"R2": r2}} | cost


def test_the_summary_has_mean_metrics_and_median_costs():
    rows = [row("ours", 0.5, 1.0), row("peer", 0.3, 9.0), row("ours", 0.7, 3.0)]
    rows += [row("ours", 0.9, 100.0), {"data": "a", "contender": "peer", "failed": "no"}]
    ours, peer = _report.summarize(rows, "ours")
    assert ours["metrics"]["R2"] == pytest.approx(0.7)
    assert ours["range"] == (0.5, 0.9)
    assert (ours["fit_seconds"], ours["fit_ratio"]) == (3.0, 1.0)
    assert (peer["n_fits"], peer["fit_ratio"]) == (1, 3.0)


@pytest.mark.slow
def test_a_run_prints_a_table_and_writes_json_and_a_plot(folder, tmp_path):
    command = [sys.executable, "-m", "benchmarks", "lab_rbf", "--data", "diabetes", "yacht"]
    command += ["--only", "LAB", "KernelRidge rbf", "--splits", "0", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "missing data: yacht" in done.stdout
    assert "* LAB" in done.stdout
    (path,) = tmp_path.glob("*.json")
    assert path.with_suffix(".png").exists()
    report = json.loads(path.read_text())
    assert [entry["contender"] for entry in report["summary"]] == ["LAB", "KernelRidge rbf"]
    assert report["environment"]["versions"]["scikit-learn"]
