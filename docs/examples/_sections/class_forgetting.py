"""A diffusion model that draws digits and forgets one of them."""

from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from sklearn_ext import ConditionalDDPM, GeneratedSamplesDisplay, SFRonClassForgetter
from sklearn_ext.metrics import generation_report

from .shared import show, timed

FORGOTTEN = 3


def run(figure):
    """Train briefly, forget the 3 in fifty steps, and evaluate the samples in several ways."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    times = {}
    models = {"trained": ConditionalDDPM(max_iter=2000, width=128, random_state=0)}
    _, times["trained"] = timed(models["trained"].fit, X, y)
    for name, loss in (("* 3 redirected", "redirect"), ("3 by gradient ascent", "ascent")):
        forgetter = SFRonClassForgetter(models["trained"], forget_loss=loss, random_state=0)
        models[name], times[name] = timed(forgetter.fit, X, y, forget_class=FORGOTTEN)
    classifier = MLPClassifier((128,), learning_rate_init=5e-3, tol=1e-3, random_state=0).fit(X, y)
    report = generation_report(models, classifier, X, y, forgotten=FORGOTTEN, random_state=0)
    rows = [
        (
            name,
            scores["forget_accuracy"],
            scores["valid_forget_accuracy"],
            scores["other_accuracy"],
            scores["other_frechet_distance"],
            times[name],
        )
        for name, scores in report.scores.items()
    ]
    show(
        "Digits drawn on request, before and after the 3 is forgotten",
        ["", "3 for 3", "and valid", "others right", "Frechet distance", "seconds"],
        rows,
    )
    GeneratedSamplesDisplay.from_estimator(
        {name: models[name] for name in ("trained", "* 3 redirected")},
        image_shape=(8, 8),
        random_state=0,
        axes=figure.subplots(1, 2),
    )
