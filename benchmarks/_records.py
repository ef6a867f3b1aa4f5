"""The figures that the documentation rests on, as files: benchmarks/records.

``quick`` has one report a benchmark, or the output of one program, and is measured anew by ``make
bench-report``. ``full`` has reports of larger data, which ``python -m benchmarks METHOD --out
benchmarks/records/full`` adds; of a contender on a data set the latest counts.
"""

import json
import subprocess
import sys

from ._report import ROOT, summarize

RECORDS = ROOT / "benchmarks" / "records"
QUICK, FULL = RECORDS / "quick", RECORDS / "full"
# Programs that print their figures, and what python is called with.
PROGRAMS = {
    "demo": ("docs/examples/quickstart.py",),
    "lab_rbf_cost": ("-m", "benchmarks.lab_rbf_cost"),
    "flat_lora_cost": ("-m", "benchmarks.flat_lora_cost"),
    "soup_memory": ("-m", "benchmarks.soup_memory", "--n", "16"),
    "guide_figures": ("-m", "benchmarks.guide_figures"),
}


def output(name):
    """Run a program and return what it prints."""
    command = [sys.executable, *PROGRAMS[name]]
    run = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return run.stdout.strip() + "\n"


def quick_report(method):
    """Read the last quick report of a method."""
    return json.loads((QUICK / f"{method}.json").read_text())


def quick_output(name):
    """Read the last output of a program."""
    return (QUICK / f"{name}.txt").read_text().rstrip()


def full_reports(method):
    """Read the reports of a method on larger data, the oldest first."""
    return [json.loads(path.read_text()) for path in sorted(FULL.glob(f"{method}_[0-9]*.json"))]


def merged(reports):
    """Return one report with the latest rows of each data set and contender, in a fixed order.

    Rows of the summary say on which day they were measured.
    """
    latest, dates = {}, {}
    for report in reports:
        found = {}
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
