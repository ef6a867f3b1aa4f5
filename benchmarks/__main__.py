"""Run one method's benchmark: our estimators and their peers, in turn, on the same splits."""

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import _report
from ._contract import Benchmark, Task
from ._data import MissingDataError
from ._measure import measure

HERE = Path(__file__).parent


def methods() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(
        path.stem for path in HERE.glob("[a-z]*.py") if "\nBENCHMARK = " in path.read_text()
    )


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("method", choices=methods())
    parser.add_argument("--data", nargs="+", metavar="NAME", help="data sets (default: all)")
    parser.add_argument("--quick", action="store_true", help="use only data that need no download")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these contenders")
    parser.add_argument("--splits", nargs="+", type=int, metavar="K", help="indices of the splits")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="S")
    parser.add_argument(
        "--threads", type=int, default=2, help="number of threads of every library (default: 2)"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR")
    return parser.parse_args(argv)


def selected(
    benchmark: Benchmark, arguments: argparse.Namespace
) -> tuple[Sequence[str], Sequence[str]]:
    """Check the names given by the user, and return the data sets and the contenders."""
    data = arguments.data or (benchmark.quick if arguments.quick else benchmark.datasets)
    contenders = arguments.only or list(benchmark.contenders)
    for asked, known in ((data, benchmark.datasets), (contenders, benchmark.contenders)):
        if unknown := set(asked).difference(known):
            raise SystemExit(
                f"Unknown names: {', '.join(sorted(unknown))}. Choose from {', '.join(known)}."
            )
    return data, contenders


def tasks(
    benchmark: Benchmark, data: Sequence[str], splits: Sequence[int], missing: dict[str, str]
) -> Iterator[Task]:
    """Yield the splits of the data sets; add the data sets that are not installed to `missing`."""
    for name in data:
        try:
            for split in splits:
                yield benchmark.load(name, split)
        except MissingDataError as error:
            missing[name] = str(error)


def run(arguments: argparse.Namespace) -> _report.Report:
    """Fit every contender on every split, contenders in turn, and return the report."""
    benchmark = importlib.import_module(f"benchmarks.{arguments.method}").BENCHMARK
    data, contenders = selected(benchmark, arguments)
    rows: list[_report.Row] = []
    skipped: dict[str, str] = {}
    missing: dict[str, str] = {}
    for task in tasks(benchmark, data, arguments.splits or benchmark.splits, missing):
        # Each round fits every contender once, so that changes in the machine's speed affect all.
        for seed in arguments.seeds:
            for contender in (name for name in contenders if name not in skipped):
                print(f"{task.data}, split {task.split}, seed {seed}: {contender}", file=sys.stderr)
                result = measure(arguments.method, contender, task, seed, arguments.threads)
                if "skipped" in result:
                    skipped[contender] = result["skipped"]
                    continue
                place = {"data": task.data, "split": task.split, "seed": seed}
                rows.append(place | {"contender": contender} | result)
    ours = list(benchmark.ours)
    return {
        "method": arguments.method,
        "arguments": {key: str(value) for key, value in vars(arguments).items() if key != "out"},
        "environment": _report.environment(arguments.threads),
        "notes": list(benchmark.notes),
        "ours": ours,
        "higher_is_better": benchmark.higher_is_better,
        "skipped": skipped,
        "missing_data": missing,
        "failed": [row for row in rows if "failed" in row],
        "summary": _report.summarize(rows, ours[0]),
        "rows": rows,
    }


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    report = run(arguments)
    print(_report.table(report["summary"], report["ours"]))
    print()
    for note in report["notes"]:
        print(f"note: {note}")
    for name, reason in report["skipped"].items():
        print(f"skipped: {name}: {reason}")
    for name, reason in report["missing_data"].items():
        print(f"missing data: {name}: {reason}")
    for row in report["failed"]:
        print(f"failed: {row['contender']} on {row['data']}: {row['failed']}")
    for path in _report.write(arguments.out, arguments.method, report):
        print(f"written: {path}")
    return 0 if report["summary"] and not report["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
