"""The page of figures in the documentation, from benchmarks/records: `make bench-report`."""

import argparse
import json
import sys

from . import _records, _report
from .__main__ import methods, parse, run

PAGE = _report.ROOT / "docs" / "benchmarks.md"
PLOTS = _report.ROOT / "docs" / "_static" / "benchmarks"
HEADER = """(benchmarks)=
# Benchmarks

What the tables of the guide and the README rest on, beside the peers' figures. `make bench-report`
measures every benchmark in quick mode, on data that need no download, and writes this page. Tables
on larger data, the full runs, hold the latest figure of each contender, with its day; `python -m
benchmarks METHOD --out benchmarks/records/full` adds to them. Ours are marked with a star; the
verdict compares each peer with our first row by the first metric. Figures are means over splits and
seeds; seconds, and the memory that a fit adds at its peak, are medians. At the end are the output
of `make demo` and the figures of what methods cost.
"""
ENVIRONMENT = """
- date: {date}
- machine: {cpu}, {n_cores} cores, threads of every library: {n_threads}, load average {load}
- python {python}; {versions}
"""


def verdict(row, ours, higher_is_better):
    """Say which of a peer and our first contender is better, by the peer's first metric."""
    name = next(iter(row["metrics"]))
    reference = next((own["metrics"][name] for own in ours if name in own["metrics"]), None)
    if row in ours or reference is None:
        return ""
    difference = row["metrics"][name] - reference
    if not higher_is_better:
        difference = -difference
    if abs(difference) < 1e-12:
        return "equal"
    return "better than ours" if difference > 0 else "worse than ours"


def metric_names(report):
    """Names of all metrics; not every contender has each."""
    return list(dict.fromkeys(name for row in report["summary"] for name in row["metrics"]))


def rows(report):
    """Cells of a method's table: one row a data set and contender."""
    names = metric_names(report)
    for data in dict.fromkeys(row["data"] for row in report["summary"]):
        block = [row for row in report["summary"] if row["data"] == data]
        ours = [row for row in block if row["contender"] in report["ours"]]
        for row in block:
            found = row["metrics"]
            yield (
                data,
                ("★ " if row in ours else "") + row["contender"],
                verdict(row, ours, report["higher_is_better"]),
                *(_report.number(found[name]) if name in found else "" for name in names),
                _report.number(row["fit_seconds"]),
                _report.number(row["predict_seconds"]),
                _report.number(row["peak_mib"]),
                *([f"{row['n_fits']}", row["date"]] if "date" in row else []),
            )


def table(report):
    """Lay a report out as lines of Markdown."""
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


def section(report):
    """Return a method's part of the page."""
    lines = [f"({anchor(report['method'])})=", f"## {report['method']}", "", *table(report), ""]
    lines += [picture(report["method"]), ""]
    lines += [f"- {note}" for note in report["notes"]]
    lines += [f"- skipped: {name}: {why}" for name, why in report["skipped"].items()]
    return "\n".join(lines + failures(report)).rstrip() + "\n"


def full_section(reports):
    """Return what larger data say of a method, from one report or more."""
    report = _records.merged(reports)
    name = f"{report['method']}_full"
    lines = [f"({anchor(name)})=", f"### {report['method']}, larger data", "", *table(report), ""]
    lines += [picture(name), ""]
    lines += [
        f"- measured {one['environment']['date'][:10]}: {one['environment']['cpu']}, threads: "
        f"{one['environment']['n_threads']}, load average {load(one['environment'])}"
        for one in reports
    ]
    return "\n".join(lines + failures(report)).rstrip() + "\n"


def failures(report):
    return [
        f"- failed: {row['contender']} on {row['data']}: {row['failed']}"
        for row in report["failed"]
    ]


def picture(name):
    return f"![Accuracy against fit time]({(PLOTS / name).relative_to(PAGE.parent)}.png)"


def program_section(name, output):
    """Return the part of the page for a program that prints its figures."""
    command = f"`python {' '.join(_records.PROGRAMS[name])}`"
    lines = [f"({anchor(name)})=", f"## {name}", "", command, "", "```text", output, "```"]
    return "\n".join(lines) + "\n"


def anchor(method):
    return f"bench-{method.replace('_', '-')}"


def load(environment):
    return f"{environment['load_average'][0]:.1f}"


def header(environment):
    versions = ", ".join(f"{k} {v}" for k, v in environment["versions"].items())
    return HEADER + ENVIRONMENT.format(
        **environment | {"load": load(environment), "versions": versions}
    )


def text():
    """Return the page as the records have it."""
    quick = {method: _records.quick_report(method) for method in methods()}
    parts = [header(next(iter(quick.values()))["environment"])]
    for method, report in quick.items():
        parts.append(section(report))
        if reports := _records.full_reports(method):
            parts.append(full_section(reports))
    parts += [program_section(name, _records.quick_output(name)) for name in _records.PROGRAMS]
    return "\n".join(parts)


def draw():
    """Draw the plots of all records."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    for method in methods():
        reports = {method: _records.quick_report(method)}
        if full := _records.full_reports(method):
            reports[f"{method}_full"] = _records.merged(full)
        for name, report in reports.items():
            _report.plot(report["summary"], report["ours"], report["higher_is_better"]).savefig(
                PLOTS / f"{name}.png", dpi=80, bbox_inches="tight"
            )


def measure(names, n_threads):
    """Record benchmarks and programs in quick mode; return those in which something failed."""
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


def main(argv=None):
    known = [*methods(), *_records.PROGRAMS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks._page", description=__doc__)
    parser.add_argument("--measure", nargs="*", default=known, choices=known, metavar="NAME",
                        help="what is measured anew (default: everything)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(argv)
    failed = measure(arguments.measure, arguments.threads)
    draw()
    PAGE.write_text(text())
    print(f"written: {PAGE}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
