"""Write the benchmark page of the documentation from benchmarks/records: `make bench-report`."""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from . import _claims, _records, _report, _scoreboard
from .__main__ import methods, parse, run
from ._report import Report, Row

PAGE = _report.ROOT / "docs" / "benchmarks.md"
CLAIMS = _report.ROOT / "docs" / "paper_claims.md"
README = _report.ROOT / "README.md"
PART = r"(?<=<!-- {} -->\n).*?(?=\n<!-- end -->)"  # of the README
PLOTS = _report.ROOT / "docs" / "_static" / "benchmarks"
HEADER = """(benchmarks)=
# Benchmarks

This page has the figures behind the tables of the user guide and the README, and compares our
methods with their peers.

- `make bench-report` measures every benchmark in quick mode, on data that need no download, and
  writes this page.
- Sections on larger data have the latest figure of each contender and the day of its measurement;
  `python -m benchmarks METHOD --out benchmarks/records/full` adds to them.
- Some rows are older than the present defaults: the times of exact forgetting. The user guide says
  what has changed.
- A star marks our estimators. The verdict compares each peer with our first row by all metrics that
  the scoreboard states for the method, with its tolerances; "mixed" means better in one and worse
  in another.
- Metrics are means over splits and seeds. Seconds are medians, and so is the memory that a fit adds
  at its peak.
- The output of `make demo` and the costs of some methods are at the end of the page.
"""
ENVIRONMENT = """
The quick runs were measured in this environment:

- Date: {date}
- Machine: {cpu}, {n_cores} cores, {threads} for every library, load average {load}
- Versions: python {python}, {versions}
"""


def verdict(row: Row, ours: Sequence[Row], report: Report) -> str:
    """Compare a peer with our first contender by all metrics that the scoreboard states.

    In benchmarks without a line on the scoreboard, the peer's first metric decides.
    """
    name = next(iter(row["metrics"]))
    first = next((own for own in ours if name in own["metrics"]), None)
    if row in ours or first is None:
        return ""
    if found := _scoreboard.verdict(report["method"], row, first):
        return found
    reference, higher_is_better = first["metrics"][name], report["higher_is_better"]
    difference = row["metrics"][name] - reference
    if not higher_is_better:
        difference = -difference
    if abs(difference) < 1e-12:
        return "equal"
    return "better than ours" if difference > 0 else "worse than ours"


def metric_names(report: Report) -> list[str]:
    """Return the names of all metrics; a contender may lack some of them."""
    return list(dict.fromkeys(name for row in report["summary"] for name in row["metrics"]))


def rows(report: Report) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a method's table, one per data set and contender."""
    names = metric_names(report)
    for data in dict.fromkeys(row["data"] for row in report["summary"]):
        block = [row for row in report["summary"] if row["data"] == data]
        ours = [row for row in block if row["contender"] in report["ours"]]
        for row in block:
            found = row["metrics"]
            yield (
                data,
                ("★ " if row in ours else "") + row["contender"],
                verdict(row, ours, report),
                *(_report.number(found[name]) if name in found else "" for name in names),
                _report.number(row["fit_seconds"]),
                _report.number(row["predict_seconds"]),
                _report.number(row["peak_mib"]),
                *([f"{row['n_fits']}", row["date"]] if "date" in row else []),
            )


def table(report: Report) -> list[str]:
    """Format a report as a Markdown table, and return its lines."""
    heads = [
        "data",
        "contender",
        "verdict",
        *metric_names(report),
        "fit s",
        "predict s",
        "peak MiB",
    ]
    if "date" in report["summary"][0]:
        heads += ["fits", "day"]
    cells = [heads, ["---"] * len(heads), *rows(report)]
    return ["| " + " | ".join(line) + " |" for line in cells]


def section(report: Report) -> str:
    """Return the section of a method."""
    lines = [f"({anchor(report['method'])})=", f"## {report['method']}", "", *table(report), ""]
    lines += [picture(report["method"]), ""]
    lines += [f"- {note}" for note in report["notes"]]
    lines += [f"- skipped: {name}: {why}" for name, why in report["skipped"].items()]
    return "\n".join(lines + failures(report)).rstrip() + "\n"


def full_section(reports: Sequence[Report]) -> str:
    """Return the section of a method on larger data, from one or more reports."""
    report = _records.merged(reports)
    name = f"{report['method']}_full"
    lines = [f"({anchor(name)})=", f"### {report['method']}, larger data", "", *table(report), ""]
    lines += [picture(name), ""]
    environments = [one["environment"] for one in reports]
    lines += dict.fromkeys(  # several reports may come from one day and load
        f"- Measured on {found['date'][:10]}: {found['cpu']}, {threads(found)}, "
        f"load average {load(found)}"
        for found in environments
    )
    return "\n".join(lines + failures(report)).rstrip() + "\n"


def failures(report: Report) -> list[str]:
    return [
        f"- failed: {row['contender']} on {row['data']}: {row['failed']}"
        for row in report["failed"]
    ]


def picture(name: str) -> str:
    return f"![First metric against fit time]({(PLOTS / name).relative_to(PAGE.parent)}.png)"


def program_section(name: str, output: str, larger: str = "") -> str:
    """Return the section of a program that prints figures, with its output on larger data."""
    command = f"`python {' '.join(_records.PROGRAMS[name])}`"
    lines = [f"({anchor(name)})=", f"## {name}", "", command, "", "```text", output, "```"]
    if larger:
        lines += ["", "On larger data:", "", "```text", larger, "```"]
    return "\n".join(lines) + "\n"


def gpu_section() -> str:
    """Return the section with the comparison of CPU and GPU, if it was recorded."""
    command = "`python -m benchmarks.gpu --record`"
    lines = ["(bench-gpu)=", "## GPU", ""]
    if _records.GPU.exists():
        lines += [command, "", "```text", _records.GPU.read_text().rstrip(), "```"]
    else:
        lines += [
            "Not measured on a GPU. On a machine with one, this command compares the outputs, the "
            "time and the memory of",
            f"every estimator with those on the CPU, and adds them here: {command}",
        ]
    return "\n".join(lines) + "\n"


def anchor(method: str) -> str:
    return f"bench-{method.replace('_', '-')}"


def load(environment: dict[str, Any]) -> str:
    return f"{environment['load_average'][0]:.1f}"


def threads(environment: dict[str, Any]) -> str:
    n_threads = environment["n_threads"]
    return "1 thread" if n_threads == 1 else f"{n_threads} threads"


def header(environment: dict[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in environment["versions"].items())
    return HEADER + ENVIRONMENT.format(
        **environment
        | {"load": load(environment), "threads": threads(environment), "versions": versions}
    )


def text() -> str:
    """Return the page, rendered from the records."""
    quick = {method: _records.quick_report(method) for method in methods()}
    parts = [header(next(iter(quick.values()))["environment"]), _scoreboard.section()]
    for method, report in quick.items():
        parts.append(section(report))
        if reports := _records.full_reports(method):
            parts.append(full_section(reports))
    for name in _records.PROGRAMS:
        output, larger = _records.quick_output(name), _records.full_output(name)
        parts.append(program_section(name, output, larger))
    parts.append(gpu_section())
    return "\n".join(parts)


def readme() -> str:
    """Return the README with the table and the picture of the records."""
    found = README.read_text()
    for name, part in (
        ("scoreboard", _scoreboard.readme_table()),
        ("deletions", _scoreboard.readme_picture()),
    ):
        found = re.sub(PART.format(name), lambda _, part=part: part, found, flags=re.DOTALL)
    return found


def draw() -> None:
    """Draw the plots of all records."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    _scoreboard.draw_deletions().savefig(PLOTS / "deletions.png", dpi=110)
    for method in methods():
        reports = {method: _records.quick_report(method)}
        if full := _records.full_reports(method):
            reports[f"{method}_full"] = _records.merged(full)
        for name, report in reports.items():
            _report.plot(report["summary"], report["ours"], report["higher_is_better"]).savefig(
                PLOTS / f"{name}.png", dpi=80, bbox_inches="tight"
            )


def measure(names: Sequence[str], n_threads: int) -> list[str]:
    """Measure benchmarks and programs in quick mode; return the names of those with failures."""
    _records.QUICK.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in names:
        if name in _records.PROGRAMS:
            (_records.QUICK / f"{name}.txt").write_text(_records.output(name))
            continue
        report = run(parse([name, "--quick", "--threads", str(n_threads)]))
        (_records.QUICK / f"{name}.json").write_text(json.dumps(report, indent=1))
        if report["failed"] or not report["summary"]:
            failed.append(name)
    return failed


def main(argv: Sequence[str] | None = None) -> int:
    known = [*methods(), *_records.PROGRAMS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks._page", description=__doc__)
    parser.add_argument("--measure", nargs="*", default=known, choices=known, metavar="NAME",
                        help="what to measure again (default: everything)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(argv)
    failed = measure(arguments.measure, arguments.threads)
    draw()
    PAGE.write_text(text())
    CLAIMS.write_text(_claims.text())
    README.write_text(readme())
    print(f"written: {PAGE}, {CLAIMS}, {README}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
