"""The scoreboard: each method against its best peer, on all stated metrics, from the records."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import _records, lab_rbf_classification
from ._report import Report, Row, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Metric:
    """A metric of the scoreboard: values that differ by less than `tolerance` are level.

    Values below `floor` count as `floor`, the value of a model that has learned nothing: of two
    useless models, neither is better.
    """

    name: str
    tolerance: float
    higher_is_better: bool = True
    floor: float = -math.inf

    def compare(self, ours: float, theirs: float) -> int:
        """Return 1 if ours is better, -1 if it is worse, and 0 if the two are level."""
        ours, theirs = max(ours, self.floor), max(theirs, self.floor)
        difference = ours - theirs if self.higher_is_better else theirs - ours
        return 0 if abs(difference) < self.tolerance else 1 if difference > 0 else -1


@dataclass(frozen=True)
class Entry:
    """The metrics by which a method is compared, and its peers.

    Parameters
    ----------
    method : str
        Name of the benchmark.
    title : str
        What the method does, in plain words.
    ours : str
        Name of the contender, as in the report.
    metrics : mapping of str to Metric
        Metrics of the verdict by their names in the report, the leading one first.
    not_peers : sequence of str
        Contenders that are not alternatives, because they see more than the method may, or do not
        do its task.
    peers : sequence of str
        Our own estimators that also count as peers: the methods of other papers, and other methods
        for the same task. The remaining ones are other forms of the method.
    groups : mapping of str to sequence of str
        Data sets whose metrics are averaged, by the name of their group. Each of the other data
        sets has its own line.
    """

    method: str
    title: str
    ours: str
    metrics: Mapping[str, Metric]
    not_peers: Sequence[str] = ()
    peers: Sequence[str] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """One comparison: the metrics of our contender and of all peers, and the best peer."""

    entry: Entry
    data: str
    peer: str
    ours: Mapping[str, float]
    peers: Mapping[str, Mapping[str, float]]

    @property
    def theirs(self) -> Mapping[str, float]:
        return self.peers[self.peer]

    def best_by(self, metric: str) -> str:
        """Return the peer that is best by one metric alone."""
        sign = -1.0 if self.entry.metrics[metric].higher_is_better else 1.0
        known = [peer for peer, row in self.peers.items() if metric in row]
        return min(known, key=lambda peer: sign * self.peers[peer][metric])

    @property
    def outcomes(self) -> dict[str, int]:
        """Return how each metric compares: 1 better, 0 level, -1 worse."""
        return {
            name: metric.compare(self.ours[name], self.theirs[name])
            for name, metric in self.entry.metrics.items()
            if name in self.ours and name in self.theirs
        }

    @property
    def verdict(self) -> str:
        found = set(self.outcomes.values())
        if {1, -1} <= found:
            return "mixed"
        return "worse" if -1 in found else "better" if 1 in found else "level"


ORDER = ("worse", "mixed", "level", "better")

R2 = {"R2": Metric("R2", 0.002, floor=0.0)}
ERROR = {"RSE": Metric("relative squared error", 0.002, higher_is_better=False)}
DETECTION = {
    "FPR95": Metric("outliers that pass when 95 % of inliers do, %", 0.5, higher_is_better=False),
    "AUROC": Metric("AUROC, %", 0.1),
}
CLASSIFICATION = {
    name: Metric(f"accuracy, {plain}", 0.005)
    for name, plain in (
        ("SVM A", "SVM, labels known"),
        ("SVM B", "SVM, labels unknown"),
        ("forest A", "forest, labels known"),
        ("forest B", "forest, labels unknown"),
    )
}
FORGETTING = {
    "gap": Metric("distance from retraining, points", 0.2, higher_is_better=False),
    "KL_f": Metric("divergence from retraining", 0.02, higher_is_better=False),
}
RANKING = {
    "AUC": Metric("area under the ROC curve", 0.005),
    "log loss": Metric("log loss", 0.01, higher_is_better=False),
}
TABLES = ("australian", "banknote", "breast", "heart", "ionosphere", "parkinsons", "pima")
IMAGES = ("digits", "fashion14", "fashion28")
UNLEARNERS = ("MUSO", "NatMU", "SFRon")
POST_HOC = (
    *("MSP", "MaxLogit", "Energy", "KNN", "Mahalanobis", "ReAct"),
    *("ViM", "GEN", "ASH", "SCALE", "NNGuide", "fDBD"),
)
ENTRIES = (
    Entry(
        "lab_rbf",
        "Regression (LAB)",
        "LAB",
        R2,
    ),
    Entry(
        "lab_rbf_classification",
        "Classification (LAB)",
        "LAB",
        RANKING,
        groups={"20 public tables": lab_rbf_classification.TABLES},
    ),
    Entry(
        "dekrr",
        "Regression at nodes of a network (DeKRR)",
        "DeKRR",
        ERROR,
        not_peers=("pooled random features", "pooled kernel ridge"),
        groups={
            "air quality": ("air_y_30", "air_y_70", "air_y_130"),
            "houses": ("houses_y_20", "houses_y_60"),
            "energy": ("energy_y_90", "energy_y_150"),
            "Tom's Hardware": ("toms_y_60", "toms_y_120"),
        },
    ),
    Entry(
        "imputation",
        "Missing values before a classifier (supervised kernel imputation)",
        "joint Gaussian",
        CLASSIFICATION,
        # Boosting does not impute, so that it has none of these metrics.
        not_peers=("HistGradientBoosting", "HistGradientBoosting, tuned"),
        groups={
            f"7 tables, {percent} % missing": tuple(f"{name}@{percent}" for name in TABLES)
            for percent in (20, 50, 80)
        },
    ),
    Entry(
        "exact_pipeline",
        "Table models that delete rows (ForgettingPipeline)",
        "pipeline",
        {
            "score": Metric("R2, or area under the ROC curve", 0.002),
            "ms/request": Metric("ms per request", 0.0, higher_is_better=False),
        },
    ),
    *(
        Entry(
            "unlearning",
            f"Networks that forget samples ({name})",
            name,
            FORGETTING,
            not_peers=("untouched", "retrained again"),
            peers=tuple(other for other in UNLEARNERS if other != name),
            groups={
                plain: tuple(f"{data}@{request}" for data in IMAGES)
                for plain, request in (
                    ("3 image sets, a class", "class"),
                    ("3 image sets, random samples", "random"),
                    ("3 image sets, a subclass", "subclass"),
                )
            },
        )
        for name in UNLEARNERS
    ),
    Entry(
        "class_forgetting",
        "Diffusion models that forget a class (SFRon)",
        "SFRon redirect",
        {
            "FA_in": Metric("forgotten class still drawn, fraction", 0.01, higher_is_better=False),
            "others": Metric("other classes drawn correctly, fraction", 0.01),
            "FD others": Metric("Fréchet distance of the others", 0.1, higher_is_better=False),
        },
        not_peers=("untouched", "repair only"),
    ),
    Entry(
        "ood",
        "Detection with examples of outliers (OrthLoss)",
        "OrthLoss",
        DETECTION,
        peers=("OE, msp", "fused", *POST_HOC),
    ),
    Entry(
        "ood",
        "Detection around a trained net (fused scores)",
        "fused",
        DETECTION,
        peers=POST_HOC,
    ),
    Entry(
        "diffusion_ood",
        "Detection by regeneration (diffusion disparity)",
        "regeneration",
        DETECTION,
    ),
    Entry(
        "soup",
        "One network from many (MEHL-Soup+)",
        "MEHL+",
        {
            "accuracy %": Metric("accuracy, %", 0.1),
            "NLL": Metric("log loss", 0.005, higher_is_better=False),
        },
        not_peers=("mean of the singles", "ensemble"),
        peers=(
            *("Learned+", "Learned", "greedy", "greedy, with ties", "uniform"),
            *("WiSE-FT", "TIES", "Model Stock", "RegMean"),
        ),
    ),
    Entry(
        "flat_lora",
        "Fine-tuning with small updates (Flat-LoRA)",
        "Flat-LoRA",
        {
            "accuracy": Metric("accuracy", 0.003),
            "NLL": Metric("log loss", 0.01, higher_is_better=False),
        },
        not_peers=("full fine-tuning",),
    ),
)
# Rows of the README's table: task, estimator, paper, and where the scoreboard has the figure, as
# part of the title, data and metric.
HEADLINES = (
    ("Delete rows from a fitted model, preprocessing included", "ForgettingPipeline", "2410.08557",
     "ForgettingPipeline", "sml", "ms/request"),
    ("Fill missing values before a classifier", "SupervisedKernelImputer", "2405.07800",
     "supervised kernel imputation", "7 tables, 20 % missing", "SVM B"),
    ("Regression with a small, smooth model", "LABRidgelessRegressor", "2310.05236",
     "LAB", "comp_activ", "R2"),
    ("Regression across sites that keep their rows", "DecentralizedRFKRR", "2405.07791",
     "DeKRR", "air quality", "RSE"),
    ("Make a network forget a class", "MUSOUnlearner", "2410.08557",
     "MUSO", "3 image sets, a class", "gap"),
    ("Make a network forget, with true labels only", "NatMUUnlearner", "2405.15495",
     "NatMU", "3 image sets, random samples", "gap"),
    ("Make a network forget, without new labels or inputs", "SFRonUnlearner", "2409.19732",
     "SFRon", "3 image sets, random samples", "gap"),
    ("Make a diffusion model forget a class", "SFRonClassForgetter", "2409.19732",
     "Diffusion models", "digits", "FD others"),
    ("Detect outliers, given examples of some", "OrthLossOODDetector", "2405.17816",
     "OrthLoss", "digits_rows", "FPR95"),
    ("Detect outliers around a trained network", "FusedOODDetector", "",
     "fused scores", "fashion_rows", "FPR95"),
    ("Detect outliers by regenerating them", "DiffusionOODDetector", "2409.10094",
     "diffusion disparity", "fashion_rows", "FPR95"),
    ("Merge fine-tuned networks into one", "MEHLSoup", "2407.03641",
     "MEHL", "fashion_mnist", "accuracy %"),
    ("Fine-tune a network with small updates", "FlatLoRAClassifier", "2409.14396",
     "Flat-LoRA", "CIFAR-10, last block", "accuracy"),
)  # fmt: skip
PICTURE = "docs/_static/benchmarks/deletions.png"
# Data sets in plain words.
DATA = {
    "ccpp": "power plant",
    "comp_activ": "computer activity",
    "parkinsons": "Parkinson's, known patients",
    "parkinsons_by_subject": "Parkinson's, new patients",
    "sml": "smart home",
    "california_housing": "California housing",
    "digits_rows": "digits, flat",
    "fashion_rows": "clothing, flat",
    "fashion_mnist": "clothing",
    "cifar": "CIFAR-10",
    "cifar_embedded": "CIFAR-10, embedded",
}


def lines() -> list[Line]:
    """Return all comparisons, losses first, and within a verdict in the order of the entries.

    If the records on larger data contain comparisons of an entry, they replace the quick ones.
    """
    every: list[Line] = []
    for entry in ENTRIES:
        full = _records.full_reports(entry.method)
        found = list(entry_lines(entry, _records.merged(full))) if full else []
        every += found or entry_lines(entry, _records.quick_report(entry.method))
    return sorted(every, key=lambda line: ORDER.index(line.verdict))


def verdict(method: str, row: Row, ours: Row) -> str | None:
    """Compare a contender with ours by all metrics of the scoreboard that both have.

    Returns
    -------
    str or None
        "better than ours", "mixed", "level" or "worse than ours". None if the scoreboard has no
        metrics of the method.
    """
    metrics: dict[str, Metric] = {}
    for entry in ENTRIES:
        metrics |= entry.metrics if entry.method == method else {}
    common = [name for name in metrics if name in row["metrics"] and name in ours["metrics"]]
    found = {metrics[name].compare(row["metrics"][name], ours["metrics"][name]) for name in common}
    if not common:
        return None
    if {1, -1} <= found:
        return "mixed"
    return "better than ours" if 1 in found else "worse than ours" if -1 in found else "level"


def entry_lines(entry: Entry, report: Report) -> Iterator[Line]:
    """Yield one line per group of data sets, and one per data set outside the groups."""
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for row in report["summary"]:
        measured.setdefault(row["data"], {})[row["contender"]] = row["metrics"]
    grouped = {data for members in entry.groups.values() for data in members}
    groups = {name: tuple(members) for name, members in entry.groups.items()}
    groups |= {data: (data,) for data in measured if data not in grouped}
    for name, members in groups.items():
        present = [measured[data] for data in members if data in measured]
        known = set.intersection(*(set(rows) for rows in present)) if present else set()
        peers = [peer for peer in ordered(present, known) if is_peer(entry, peer, report["ours"])]
        if entry.ours not in known or not peers:
            continue
        means = {who: mean([rows[who] for rows in present]) for who in (entry.ours, *peers)}
        ours = means.pop(entry.ours)
        yield Line(entry, name, best_peer(entry, means), ours, means)


def ordered(present: Sequence[Mapping[str, Any]], known: set[str]) -> list[str]:
    return [who for who in present[0] if who in known] if present else []


def is_peer(entry: Entry, contender: str, ours: Sequence[str]) -> bool:
    return contender in entry.peers or (contender not in ours and contender not in entry.not_peers)


def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average the metrics that all rows have."""
    names = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: sum(row[name] for row in rows) / len(rows) for name in names}


def best_peer(entry: Entry, peers: Mapping[str, Mapping[str, float]]) -> str:
    """Return the peer with the best mean rank over the stated metrics, then the leading metric.

    A peer that wins one metric and ruins another is therefore not the best.
    """
    ranks: dict[str, float] = dict.fromkeys(peers, 0.0)
    for name, metric in entry.metrics.items():
        sign = -1.0 if metric.higher_is_better else 1.0
        values = {who: sign * row.get(name, float("inf")) for who, row in peers.items()}
        for who, value in values.items():
            ranks[who] += sum(other < value for other in values.values())
    leading = next(iter(entry.metrics))
    sign = -1.0 if entry.metrics[leading].higher_is_better else 1.0
    return min(peers, key=lambda who: (ranks[who], sign * peers[who].get(leading, 0.0)))


def table(every: Sequence[Line]) -> list[str]:
    """Format the scoreboard as Markdown."""
    cells = [
        ["task (method)", "data", "best peer", "metric: ours / theirs", "verdict"],
        ["---"] * 5,
    ]
    for line in every:
        values = "; ".join(
            f"{line.entry.metrics[name].name}: {number(line.ours[name])} / "
            f"{number(line.theirs[name])}"
            for name in line.outcomes
        )
        cells.append([line.entry.title, plain(line.data), line.peer, values, line.verdict])
    return ["| " + " | ".join(row) + " |" for row in cells]


def readme_table() -> str:
    """Return the table of the README: one figure per method, and the peer best by this figure."""
    every = lines()
    cells = [["Your task", "Estimator", "Figure", "Ours", "Best peer", "Paper"], ["---"] * 6]
    for task, estimator, paper, title, data, metric in HEADLINES:
        (line,) = [line for line in every if title in line.entry.title and line.data == data]
        stated = line.entry.metrics[metric]
        direction = "" if stated.higher_is_better else ", lower is better"
        link = f"[{paper}](https://arxiv.org/abs/{paper})" if paper else ""
        peer = line.best_by(metric)
        theirs = line.peers[peer][metric]
        ours = f"{line.ours[metric]:.3g}"
        if stated.compare(line.ours[metric], theirs) > 0:
            ours = f"**{ours}**"
        what = f"{stated.name}{direction} ({plain(data)})"
        cells.append([task, f"`{estimator}`", what, ours, f"{theirs:.3g} ({peer})", link])
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def deletions() -> list[Line]:
    """Return the comparisons of pipelines that delete rows, by their score."""
    shown = [line for line in lines() if line.entry.method == "exact_pipeline"]
    return sorted(shown, key=lambda line: line.ours["score"])


def readme_picture() -> str:
    """Return the README's picture of deletions, and the sentences that sum it up."""
    shown = deletions()
    counts = {sign: sum(line.outcomes["score"] == sign for line in shown) for sign in (1, 0, -1)}
    ours, theirs = (
        [round(getattr(line, side)["ms/request"]) for line in shown] for side in ("ours", "theirs")
    )
    fast, slow = (f"{min(each):,} to {max(each):,} milliseconds" for each in (ours, theirs))
    return f"""![One line per table. Left: test scores of a pipeline that can delete rows, and of
gradient boosting. Right: milliseconds per request to delete rows.]({PICTURE})

On {len(shown)} tables, a pipeline that can delete rows is less accurate than gradient boosting on
{counts[-1]}, level on {counts[0]} and more accurate on {counts[1]}. A request to delete rows takes
{fast}. Fitting boosting again takes {slow}."""


def draw_deletions() -> "Figure":
    """Draw the README's picture: accuracy and cost of deletion of pipelines, table by table."""
    from matplotlib.figure import Figure

    shown = deletions()
    places = range(len(shown))
    figure = Figure(figsize=(8.4, 0.9 + 0.28 * len(shown)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for sides, color, label in (
        ("ours", "C0", "ForgettingPipeline: deletes the rows"),
        ("theirs", "0.6", f"{shown[0].peer}: fits again"),
    ):
        values = [getattr(line, sides) for line in shown]
        left.plot([row["score"] for row in values], places, "o", color=color, label=label)
        offset = 0.18 if sides == "ours" else -0.18
        right.barh([k + offset for k in places], [row["ms/request"] for row in values], 0.34,
                   color=color)  # fmt: skip
    left.set_yticks(places, [plain(line.data) for line in shown])
    left.set(xlabel="R2, or area under the ROC curve", xlim=(None, 1.01))
    right.set(xlabel="milliseconds per request", xscale="log")
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return figure


def plain(data: str) -> str:
    """Return the name of a data set in plain words."""
    return DATA.get(data, data)


def section() -> str:
    """Return the section of the benchmark page."""
    every = lines()
    counts = ", ".join(
        f"{sum(line.verdict == verdict for line in every)} {verdict}" for verdict in ORDER
    )
    head = f"""(scoreboard)=
## Scoreboard

Each line compares a method with its best peer. The losses come first: {counts}. The lines are
computed from the records of the tables below.

- *Best peer*: of the contenders for the same task, the one with the best mean rank over the stated
  metrics. Other forms of our method are not peers, and neither are references that see or train
  more (retraining, pooled samples, ensembles, full fine-tuning) or that forget nothing.
- *Ours / theirs*: means over splits and seeds, and over the data sets of a group.
- *Verdict*: "better" or "worse" if all metrics agree, apart from metrics that are level; "mixed" if
  one metric is better and another one worse; "level" if no metric differs by more than its
  tolerance, for example 0.002 of R2 or half a percent of accuracy. A negative R2 counts as zero,
  the score of a model that predicts the mean.
"""
    return "\n".join([head, *table(every)]) + "\n"
