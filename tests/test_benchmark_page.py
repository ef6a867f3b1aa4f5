"""Test the benchmark page of the documentation."""

import pytest

from benchmarks import _claims, _page, _records, _scoreboard
from benchmarks._scoreboard import Entry, Metric


def row(data, contender, score):
    cost = {"fit_seconds": 1.5, "predict_seconds": 0.25, "peak_mib": 1.0}
    return {"data": data, "contender": contender, "metrics": {"R2": score}} | cost


def report(**changes):
    return {
        "method": "my_method",
        "summary": [row("a", "ours", 0.5), row("a", "peer", 0.7), row("a", "other", 0.1)],
        "ours": ["ours"],
        "higher_is_better": True,
        "notes": ["a note"],
        "skipped": {"third": "not installed"},
        "failed": [],
    } | changes


def test_the_verdict_follows_the_direction_of_the_metric():
    def verdicts(**changes):
        return {contender: verdict for _, contender, verdict, *_ in _page.rows(report(**changes))}

    assert verdicts() == {"★ ours": "", "peer": "better than ours", "other": "worse than ours"}
    assert verdicts(higher_is_better=False)["peer"] == "worse than ours"


def test_contenders_may_have_different_metrics():
    summary = [row("a", "ours", 0.5), row("a", "peer", 0.7)]
    first = {**row("a", "first", 0.0), "metrics": {"error": 0.1}}
    last = {**row("a", "last", 0.0), "metrics": {"error": 0.2, "R2": 0.3}}
    cells = list(_page.rows(report(summary=[first, *summary, last], ours=["first", "ours"])))
    assert [row[2:5] for row in cells] == [
        ("", "0.1000", ""),
        ("", "", "0.5000"),
        ("better than ours", "", "0.7000"),
        ("better than ours", "0.2000", "0.3000"),
    ]


def test_a_section_has_table_plot_notes_and_skipped_contenders():
    text = _page.section(report())
    assert "(bench-my-method)=" in text
    assert "| a | peer | better than ours | 0.7000 | 1.5000 | 0.2500 | 1.0000 |" in text
    assert "(_static/benchmarks/my_method.png)" in text
    assert "- a note\n- skipped: third: not installed" in text


def measured(day, **scores):
    found = [row("a", name, score) | {"split": 0, "seed": 0} for name, score in scores.items()]
    environment = {"date": f"{day}T12:00:00", "cpu": "a", "n_threads": 1, "load_average": [0.5]}
    return report(rows=found, environment=environment)


def test_the_latest_figure_of_a_contender_counts_on_larger_data():
    reports = [measured("2026-01-01", peer=0.7, ours=0.5), measured("2026-01-02", ours=0.8)]
    text = _page.full_section(reports)
    assert "(bench-my-method-full)=" in text
    found = [line for line in text.splitlines() if line.startswith("| a")]
    assert found == [
        "| a | ★ ours |  | 0.8000 | 1.5000 | 0.2500 | 1.0000 | 1 | 2026-01-02 |",
        "| a | peer | worse than ours | 0.7000 | 1.5000 | 0.2500 | 1.0000 | 1 | 2026-01-01 |",
    ]


def test_a_program_section_has_the_command_and_its_output(monkeypatch):
    command = ("-m", "benchmarks.lab_rbf_defaults", "--help")
    monkeypatch.setitem(_records.PROGRAMS, "lab_rbf_defaults", command)
    text = _page.program_section("lab_rbf_defaults", _records.output("lab_rbf_defaults").rstrip())
    assert text.startswith("(bench-lab-rbf-defaults)=\n## lab_rbf_defaults\n")
    assert "`python -m benchmarks.lab_rbf_defaults --help`" in text
    assert "```text\nusage: " in text


def test_a_program_section_has_its_output_on_larger_data():
    text = _page.program_section("missing_accuracy", "few tables", "many tables")
    assert text.endswith("few tables\n```\n\nOn larger data:\n\n```text\nmany tables\n```\n")


ERROR = Metric("error", 0.1, higher_is_better=False)
ENTRY = Entry("my_method", "My method", "ours", {"score": Metric("score", 0.01), "error": ERROR})


def compared(**contenders):
    """Return the verdict and the best peer of contenders with (score, error)."""
    summary = [
        {"data": "a", "contender": name, "metrics": {"score": score, "error": error}}
        for name, (score, error) in contenders.items()
    ]
    (line,) = _scoreboard.entry_lines(ENTRY, {"summary": summary, "ours": ["ours", "other_form"]})
    return line.verdict, line.peer


def test_a_verdict_considers_every_stated_metric():
    assert compared(ours=(0.9, 1.0), peer=(0.8, 2.0)) == ("better", "peer")
    assert compared(ours=(0.9, 1.0), peer=(0.905, 2.0)) == ("better", "peer")
    assert compared(ours=(0.9, 1.0), peer=(0.95, 2.0)) == ("mixed", "peer")
    assert compared(ours=(0.9, 1.0), peer=(0.905, 0.95)) == ("level", "peer")
    assert compared(ours=(0.9, 1.0), peer=(0.95, 1.0), other_form=(1, 0)) == ("worse", "peer")


def test_of_two_useless_models_neither_is_better():
    metric = Metric("R2", 0.002, floor=0.0)
    assert metric.compare(-1.2, -1.8) == 0
    assert metric.compare(0.1, -1.8) == 1
    assert metric.compare(-1.2, 0.1) == -1


def test_a_peer_that_ruins_one_metric_is_not_the_best():
    rows = {"ours": (0.9, 1.0), "ruinous": (0.99, 50.0), "fair": (0.89, 1.2), "poor": (0.5, 3.0)}
    assert compared(**rows) == ("better", "fair")


def test_metrics_of_a_group_are_averaged_and_losses_come_first():
    entry = Entry("m", "t", "ours", {"score": Metric("score", 0)}, groups={"both": ("a", "b")})
    summary = [
        {"data": data, "contender": name, "metrics": {"score": score}}
        for data, name, score in [("a", "ours", 1), ("a", "p", 0), ("b", "ours", 0), ("b", "p", 2)]
    ]
    (line,) = _scoreboard.entry_lines(entry, {"summary": summary, "ours": ["ours"]})
    assert (line.data, line.ours["score"], line.theirs["score"]) == ("both", 0.5, 1.0)
    places = [_scoreboard.ORDER.index(line.verdict) for line in _scoreboard.lines()]
    assert places == sorted(places)


def test_every_method_is_on_the_scoreboard():
    found = {line.entry.title for line in _scoreboard.lines()}
    assert found == {entry.title for entry in _scoreboard.ENTRIES}
    assert len(_scoreboard.HEADLINES) == len(_scoreboard.readme_table().splitlines()) - 2


@pytest.mark.parametrize("paper", _claims.CLAIMS)
def test_a_claim_rests_on_lines_of_the_scoreboard(paper):
    lines = _scoreboard.lines()
    for claim, evidence in _claims.CLAIMS[paper]:
        for title, data in [] if isinstance(evidence, str) else evidence:
            assert any(title in each.entry.title and data in each.data for each in lines), claim


def test_the_pages_are_rendered_from_the_records():
    """If this test fails, run `python -m benchmarks._page --measure`."""
    assert _page.PAGE.read_text() == _page.text()
    assert _page.CLAIMS.read_text() == _claims.text()
    assert _page.README.read_text() == _page.readme()
