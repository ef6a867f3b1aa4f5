"""Every benchmark in quick mode, as one page of the documentation: `make bench-report`."""

import argparse
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from . import _report
from .__main__ import methods, parse, run

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "_static" / "benchmarks"
# Programs that print their figures, and what python is called with.
PROGRAMS = {
    "demo": ("docs/examples/quickstart.py",),
    "lab_rbf_cost": ("-m", "benchmarks.lab_rbf_cost"),
    "flat_lora_cost": ("-m", "benchmarks.flat_lora_cost"),
    "soup_memory": ("-m", "benchmarks.soup_memory", "--n", "16"),
}
HEADER = """(benchmarks)=
# Benchmarks

Every benchmark in quick mode, on data that need no download: `make bench-report` writes this
page. The full ones run with `make bench METHOD=...`; their figures are in the user guide. Ours
are marked with a star; the verdict compares each peer with our first row by the first metric.
At the end are the output of `make demo` and the figures of what methods cost.

- date: {date}
- machine: {cpu}, {n_cores} cores, {n_threads} threads for every library, load average {load}
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
            )


def section(report, plot):
    """Return a method's part of the page."""
    heads = ("data", "contender", "verdict", *metric_names(report), "fit s", "predict s")
    lines = [f"({anchor(report['method'])})=", f"## {report['method']}", ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads))]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows(report)]
    lines += ["", f"![Accuracy against fit time]({plot.relative_to(PAGE.parent)})", ""]
    lines += [f"- {note}" for note in report["notes"]]
    lines += [f"- skipped: {name}: {why}" for name, why in report["skipped"].items()]
    lines += [
        f"- failed: {row['contender']} on {row['data']}: {row['failed']}"
        for row in report["failed"]
    ]
    return "\n".join(lines).rstrip() + "\n"


def program_section(name):
    """Run a program that prints its figures; return its part of the page."""
    arguments = PROGRAMS[name]
    run = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    lines = [f"({anchor(name)})=", f"## {name}", "", f"`python {' '.join(arguments)}`", ""]
    return "\n".join([*lines, "```text", run.stdout.strip(), "```"]) + "\n"


def anchor(method):
    return f"bench-{method.replace('_', '-')}"


def header(environment):
    return HEADER.format(
        **environment | {
            "load": f"{environment['load_average'][0]:.1f}",
            "versions": ", ".join(f"{k} {v}" for k, v in environment["versions"].items()),
        }
    )  # fmt: skip


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks._page", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=methods(), choices=methods())
    parser.add_argument("--programs", nargs="*", default=list(PROGRAMS), choices=PROGRAMS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(argv)
    PLOTS.mkdir(parents=True, exist_ok=True)
    parts = [header(_report.environment(arguments.threads))]
    failed = False

    def add(part):
        parts.append(part)
        PAGE.write_text("\n".join(parts))  # a run that is broken off leaves what it has measured

    for method in arguments.methods:
        report = run(parse([method, "--quick", "--threads", str(arguments.threads)]))
        failed |= bool(report["failed"]) or not report["summary"]
        plot = PLOTS / f"{method}.png"
        _report.plot(report["summary"], report["ours"], report["higher_is_better"]).savefig(
            plot, dpi=80, bbox_inches="tight"
        )
        add(section(report, plot))
    for name in arguments.programs:
        add(program_section(name))
    print(f"written: {PAGE} (sklearn-ext {version('sklearn-ext')})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
