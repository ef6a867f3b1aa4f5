"""Read the figures in benchmarks/records, on which the documentation is based.

The folder ``quick`` has one report per benchmark, and the output of programs that print figures.
``make bench-report`` measures all of them again. The folder ``full`` has reports on larger data;
``python -m benchmarks METHOD --out benchmarks/records/full`` adds one. The latest report counts for
each contender on each data set. The folder also has the output of programs on larger data.
"""

import json
import subprocess
import sys
from collections.abc import Sequence

from ._report import ROOT, Report, Row, summarize

RECORDS = ROOT / "benchmarks" / "records"
QUICK, FULL = RECORDS / "quick", RECORDS / "full"
GPU = FULL / "gpu.txt"  # written by `python -m benchmarks.gpu --record` where there is a GPU
# Programs that print their figures, with their arguments to Python.
PROGRAMS = {
    "demo": ("docs/examples/quickstart.py",),
    "lab_rbf_cost": ("-m", "benchmarks.lab_rbf_cost"),
    "first_fit": ("-m", "benchmarks.first_fit"),
    "flat_lora_cost": ("-m", "benchmarks.flat_lora_cost"),
    "exact_pipeline_requests": ("-m", "benchmarks.exact_pipeline_requests"),
    "missing_accuracy": ("-m", "benchmarks.missing_accuracy"),
    "missingness": ("-m", "benchmarks.missingness"),
    "mixed_tables": ("-m", "benchmarks.mixed_tables"),
    "scaling": ("-m", "benchmarks.scaling"),
    "soup_memory": ("-m", "benchmarks.soup_memory", "--n", "16"),
    "soup_time": ("-m", "benchmarks.soup_time", "--n", "72"),
    "tabular_ood": ("-m", "benchmarks.tabular_ood"),
    "guide_figures": ("-m", "benchmarks.guide_figures"),
}


def output(name: str) -> str:
    """Run a program and return what it prints."""
    command = [sys.executable, *PROGRAMS[name]]
    run = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return run.stdout.strip() + "\n"


def quick_report(method: str) -> Report:
    """Read the quick report of a method."""
    return json.loads((QUICK / f"{method}.json").read_text())


def quick_output(name: str) -> str:
    """Read the recorded output of a program."""
    return (QUICK / f"{name}.txt").read_text().rstrip()


def full_output(name: str) -> str:
    """Read the recorded output of a program on larger data, which few programs have."""
    path = FULL / f"{name}.txt"
    return path.read_text().rstrip() if path.exists() else ""


def full_reports(method: str) -> list[Report]:
    """Read the reports of a method on larger data, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(FULL.glob(f"{method}_[0-9]*.json"))]


def merged(reports: Sequence[Report]) -> Report:
    """Merge reports: keep the latest results of each contender on each data set.

    Each row of the summary has the day of its measurement, and the order of the rows is fixed.
    """
    latest: dict[tuple[str, str], list[Row]] = {}
    dates: dict[tuple[str, str], str] = {}
    for report in reports:
        found: dict[tuple[str, str], list[Row]] = {}
        for row in report["rows"]:
            found.setdefault((row["data"], row["contender"]), []).append(row)
        latest |= found
        dates |= dict.fromkeys(found, report["environment"]["date"][:10])
    last = reports[-1]
    data = list(dict.fromkeys(name for name, _ in latest))
    names = dict.fromkeys([*last["ours"], *(contender for _, contender in latest)])
    order = [(place, name) for place in data for name in names if (place, name) in latest]
    rows = [row for key in order for row in latest[key]]
    summary = summarize(rows, last["ours"][0])
    return last | {
        "rows": rows,
        "failed": [row for row in rows if "failed" in row],
        "summary": [row | {"date": dates[row["data"], row["contender"]]} for row in summary],
    }
