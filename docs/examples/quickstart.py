"""Run every method on real data that ship with the dependencies.

``make demo`` runs this script. Each method has one section, which is a module in ``_sections``. A
section prints a table with the figures of the method and of its baselines. All plots go to one
page, ``page.png``, in ``docs/_build/quickstart`` or in the folder given by ``--out``.
"""

import argparse
import importlib
import os
import time
import warnings
from pathlib import Path

from matplotlib.figure import Figure
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

OUT = Path(__file__).parents[1] / "_build" / "quickstart"
SECTIONS = (
    "lab_rbf",
    "imputation",
    "dekrr",
    "unlearning",
    "class_forgetting",
    "ood",
    "soup",
    "flat_lora",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"choose from {[*SECTIONS]}",
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the plots")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections).difference(SECTIONS):
        parser.error(f"unknown sections {sorted(unknown)}; choose from {[*SECTIONS]}")
    names = arguments.sections or SECTIONS
    arguments.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", ConvergenceWarning)  # from the iterative imputer
    n_rows = -(-len(names) // 2)
    page = Figure(figsize=(15, 3.8 * n_rows), layout="constrained")
    figures = page.subfigures(n_rows, 2, squeeze=False).ravel()
    start = time.perf_counter()
    with threadpool_limits(limits=1):  # makes fit times comparable
        for name, figure in zip(names, figures, strict=False):
            importlib.import_module(f"_sections.{name}").run(figure)
    print(f"\nours are marked *; one thread; {time.perf_counter() - start:.0f} seconds in all")
    page.savefig(arguments.out / "page.png", dpi=100)
    print(f"plots: {os.path.relpath(arguments.out / 'page.png')}")


if __name__ == "__main__":
    main()
