import numpy as np
import pytest
from matplotlib.figure import Figure

from sklearn_ext import UnlearningReportDisplay
from sklearn_ext.metrics import UnlearningReport


@pytest.fixture
def report():
    return UnlearningReport(
        {
            "retrained": {"FA": 90.0, "RA": 99.0, "TA": 91.0, "MIA": 50.0},
            "original": {"FA": 100.0, "RA": 99.5, "TA": 92.0, "MIA": 80.0},
            "random label": {"FA": 85.0, "RA": 97.0, "TA": 88.0, "MIA": 5.0},
        }
    )


def test_a_line_marks_the_retrained_model(report):
    display = UnlearningReportDisplay.from_report(report)
    assert [ax.get_title() for ax in display.axes_] == ["FA", "RA", "TA", "MIA"]
    labels = [text.get_text() for text in display.axes_[0].get_yticklabels()]
    assert labels == ["original", "random label"]
    for ax, dots, name in zip(display.axes_, display.lines_, display.metrics, strict=True):
        values = [report.scores[model][name] for model in ("original", "random label")]
        np.testing.assert_array_equal(dots.get_xdata(), values)
        target = ax.lines[0].get_xdata()
        np.testing.assert_array_equal(target, [report.scores["retrained"][name]] * 2)


def test_a_report_without_a_retrained_model_has_no_line(report):
    del report.scores["retrained"]
    display = UnlearningReportDisplay.from_report(report, metrics=["FA"])
    (ax,) = display.axes_
    assert len(ax.lines) == 1
    assert not ax.collections


def test_given_axes_are_used(report):
    axes = Figure().subplots(2)
    display = UnlearningReportDisplay.from_report(report, metrics=["TA", "MIA"], axes=axes)
    assert display.figure_ is axes[0].figure
    with pytest.raises(ValueError, match="one entry per metric, 1, got 2"):
        UnlearningReportDisplay.from_report(report, metrics=["TA"], axes=axes)


def test_metrics_of_the_audit_are_plotted_uncut():
    scores = {"AUC": 60.0, "AUC_low": 55.0, "AUC_high": 65.0, "TPR": 5.0, "relearn": 400.0}
    report = UnlearningReport({"original": scores})
    display = UnlearningReportDisplay.from_report(report, metrics=report.names)
    assert list(display.metrics) == list(scores)
    assert display.axes_[-1].get_xlim()[1] > scores["relearn"]


def test_errors_name_a_metric_that_is_not_in_the_report(report):
    with pytest.raises(ValueError, match="got 'KL_f'"):
        UnlearningReportDisplay.from_report(report, metrics=["FA", "KL_f"])
