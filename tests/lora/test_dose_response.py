"""More noise in training gives flatter minima on digits under a shift, over three splits."""

import numpy as np
import pytest

from benchmarks import _digits_shift, flat_lora

SIGMAS = (0.0, 0.1, 0.2, 0.4)


@pytest.fixture(scope="module")
def responses():
    """Return the mean over splits of each measure, as an array over the four strengths."""
    rows = []
    for split in range(3):
        task = flat_lora.load_task("digits transformer", split)
        for sigma in SIGMAS:
            model = flat_lora.flat_lora(sigma=sigma)(task, 0, 1)
            model.fit(task.X_train, task.y_train)
            output = model.predict_proba(task.X_test)
            rows.append(flat_lora.metrics(model, output, task))
    names = ("accuracy", "noisy accuracy", "sharpness", "training loss")
    shape = (3, len(SIGMAS))
    return {name: np.reshape([row[name] for row in rows], shape).mean(axis=0) for name in names}


@pytest.mark.slow
def test_sharpness_falls_and_the_training_loss_rises(responses):
    assert (np.diff(responses["sharpness"]) < 0).all()
    assert (np.diff(responses["training loss"]) > 0).all()


@pytest.mark.slow
def test_noise_helps_on_noisy_samples_at_no_cost_on_clean_ones(responses):
    clean, noisy = responses["accuracy"], responses["noisy accuracy"]
    assert noisy[3] >= noisy[0] + 0.01
    assert (clean[1:3] >= clean[0] - 0.015).all()


def test_the_shift_rotates_digits_by_90_degrees():
    (X, y), (X_train, y_train), (X_test, y_test) = _digits_shift.digits(0)
    assert (len(y), len(y_train), len(y_test)) == (500, 200, 697)
    assert X.shape[1:] == X_train.shape[1:] == X_test.shape[1:] == (8, 8)
    upright = np.rot90(X_train, -1, axes=(1, 2))
    assert upright[:, :, [0, 7]].mean() < 0.1 < upright[:, :, 2:6].mean()
