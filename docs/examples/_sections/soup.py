"""Model soups: one network from several fine-tuned ones."""

import tempfile

import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

from sklearn_ext import GreedySoup, LearnedSoup, MEHLSoup, NetClassifier, UniformSoup

from .shared import show, timed

N_INGREDIENTS = 8


def run(figure):
    """Fine-tune a network eight times, then average the weights in several ways."""
    X, y = load_digits(return_X_y=True)
    X_start, X_rest, y_start, y_rest = train_test_split(X / 16, y, train_size=500, random_state=0)
    X_tune, X_test, y_tune, y_test = train_test_split(
        X_rest, y_rest, train_size=600, random_state=0
    )
    noise = 0.35 * np.random.RandomState(0).normal(size=X_start.shape)
    start = NetClassifier(module__hidden_sizes=(64,), max_epochs=20, random_state=0)
    start.fit(X_start + noise, y_start)
    with tempfile.TemporaryDirectory() as folder:
        shared = {
            "param_grid": {"lr": loguniform(3e-4, 1e-2), "max_epochs": [8, 12, 16]},
            "n_ingredients": N_INGREDIENTS,
            "validation_fraction": 0.5,
            "cache_dir": folder,
            "random_state": 0,
        }
        recipes = {
            "uniform soup": UniformSoup(start, **shared),
            "greedy soup": GreedySoup(start, **shared),
            "learned soup": LearnedSoup(start, **shared),
            "* MEHL-Soup": MEHLSoup(start, layerwise=False, **shared),
            "* MEHL-Soup+": MEHLSoup(start, **shared),
        }
        recipes["uniform soup"].fit(X_tune, y_tune)  # trains the ingredients for all soups
        seconds = {name: timed(soup.fit, X_tune, y_tune)[1] for name, soup in recipes.items()}
        first = recipes["uniform soup"]
        best = np.lexsort((first.ingredient_losses_, -first.ingredient_scores_))[0]
        single = first.combine(np.eye(N_INGREDIENTS)[best]).predict_proba(X_test.astype(np.float32))
        predictions = {"best of 8 networks": single}
        predictions |= {name: soup.predict_proba(X_test) for name, soup in recipes.items()}
    rows = [
        (
            name,
            accuracy_score(y_test, proba.argmax(axis=1)),
            log_loss(y_test, proba),
            seconds.get(name, "-"),
        )
        for name, proba in predictions.items()
    ]
    show(
        f"Digits: {N_INGREDIENTS} fine-tuned networks become one",
        ["", "accuracy", "log loss", "mixing seconds"],
        rows,
    )
    ax = figure.subplots()
    colors = ["C3" if name.startswith("*") else "C0" for name in predictions]
    ax.barh(list(predictions), [row[2] for row in rows], color=colors)
    ax.invert_yaxis()
    ax.set(title="Model soups", xlabel="log loss on test samples")
