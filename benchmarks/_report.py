"""Write the results of a run as JSON, as a table and as a plot."""

import json
import math
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from threadpoolctl import threadpool_info

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Read from JSON: the results of one fit, or their summary, and all results of a run.
Row: TypeAlias = dict[str, Any]
Report: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[1]
_RELEVANT = (
    *("numpy", "scipy", "scikit-learn", "numba", "torch", "skorch", "sklearn-ext"),
    *("xrfm", "xgboost", "catboost", "lightgbm"),
)
_MEASURED = ("fit_seconds", "predict_seconds", "peak_mib")


def environment(n_threads: int) -> dict[str, Any]:
    """Describe the machine and the libraries that influence the figures."""
    versions = {dist.name: dist.version for dist in distributions() if dist.name in _RELEVANT}
    pools = [{key: pool.get(key) for key in ("internal_api", "version", "architecture")}
             for pool in threadpool_info()]  # fmt: skip
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "n_cores": os.cpu_count(),
        "load_average": os.getloadavg(),  # timings on a busy machine are unreliable
        "n_threads": n_threads,
        "thread_pools": pools,
        "versions": dict(sorted(versions.items())),
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return (
                next(line for line in file if line.startswith("model name")).split(": ")[1].strip()
            )
    except (OSError, StopIteration):
        return platform.processor()


def summarize(rows: Sequence[Row], ours: str) -> list[Row]:
    """Summarize the results of each contender on each data set over splits and seeds.

    The summary has the mean of each metric, the range of the first metric, and the medians of
    seconds and memory. ``fit_ratio`` is the fit time of a contender divided by that of our first
    contender, so 2 means that ours is twice as fast.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if "metrics" in row:
            groups.setdefault((row["data"], row["contender"]), []).append(row)
    summary: list[Row] = []
    for (data, contender), group in groups.items():
        metrics = {
            name: statistics.fmean(row["metrics"][name] for row in group)
            for name in group[0]["metrics"]
        }
        measured = {key: statistics.median(row[key] for row in group) for key in _MEASURED}
        first = [row["metrics"][next(iter(metrics))] for row in group]
        summary.append(
            {"data": data, "contender": contender, "n_fits": len(group), "metrics": metrics}
            | {"range": (min(first), max(first))}
            | measured
        )
    reference = {row["data"]: row["fit_seconds"] for row in summary if row["contender"] == ours}
    for row in summary:
        if row["data"] in reference:
            row["fit_ratio"] = row["fit_seconds"] / reference[row["data"]]
    return summary


def table(summary: Sequence[Row], ours: Sequence[str]) -> str:
    """Format the summary as text, with one block per data set."""
    if not summary:
        return "No contender was measured."
    metrics = list(dict.fromkeys(name for row in summary for name in row["metrics"]))
    heads = [*metrics, f"{metrics[0]} min..max", "fit s", "predict s", "peak MiB", "fit/ours"]
    lines = []
    for data in dict.fromkeys(row["data"] for row in summary):
        block = [row for row in summary if row["data"] == data]
        names = [("* " if row["contender"] in ours else "  ") + row["contender"] for row in block]
        width = max(map(len, [data, *names]))
        lines += ["", f"{data:<{width}}" + "".join(f"{head:>20}" if ".." in head else f"{head:>13}"
                                                   for head in heads)]  # fmt: skip
        for name, row in zip(names, block, strict=True):
            cells = [f"{number(row['metrics'].get(metric)):>13}" for metric in metrics]
            cells.append(f"{'..'.join(map(number, row['range'])):>20}")
            cells += [f"{number(row.get(key)):>13}" for key in (*_MEASURED, "fit_ratio")]
            lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines).lstrip("\n")


def number(value: float | None) -> str:
    """Format a figure for the tables."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) >= 10:
        return f"{int(value):,}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def write(directory: Path, method: str, report: Report) -> tuple[Path, Path]:
    """Write the report as JSON and the plot as PNG, and return both paths."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{method}_{report['environment']['date'][:19].replace(':', '')}"
    json_path, plot_path = directory / f"{stem}.json", directory / f"{stem}.png"
    json_path.write_text(json.dumps(report, indent=1))
    if report["summary"]:
        plot(report["summary"], report["ours"], report["higher_is_better"]).savefig(
            plot_path, dpi=120, bbox_inches="tight"
        )
    return json_path, plot_path


def plot(summary: Sequence[Row], ours: Sequence[str], higher_is_better: bool) -> "Figure":
    """Draw the first metric against fit time, one panel per data set; up and left is better."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    names = list(dict.fromkeys(row["contender"] for row in summary))
    data_sets = list(dict.fromkeys(row["data"] for row in summary))
    n_columns = min(4, len(data_sets))
    n_rows = -(-len(data_sets) // n_columns)
    figure = Figure(figsize=(3.2 * n_columns, 2.8 * n_rows + 0.7), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    exponents = [math.log10(row["fit_seconds"]) for row in summary]
    decades = 10.0 ** math.floor(min(exponents)), 10.0 ** math.ceil(max(exponents))
    handles = {}
    for ax, data in zip(axes, data_sets, strict=False):
        for row in (row for row in summary if row["data"] == data):
            name = row["contender"]
            k = names.index(name)
            handles[name] = ax.scatter(
                row["fit_seconds"],
                next(iter(row["metrics"].values())),
                marker="*" if name in ours else "osD^vP"[k // 10 % 6],
                s=140 if name in ours else 40,
                color=f"C{k % 10}",
                label=name,
            )
        ax.set(title=data, xscale="log", xlim=decades)
        ax.xaxis.set_minor_formatter(NullFormatter())
        if not higher_is_better:
            ax.invert_yaxis()
    for ax in axes[len(data_sets) :]:
        ax.remove()
    figure.supxlabel("fit time in seconds")
    figure.supylabel(next(iter(summary[0]["metrics"])))
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=4, frameon=False
    )
    return figure
