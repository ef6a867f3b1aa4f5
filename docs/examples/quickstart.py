"""Every method at work on real data that ships with the dependencies.

``make demo`` runs this: one section a method, each a module of ``_sections``, with a table on the
terminal that has the method's figures beside its baselines'. All plots go on one page,
``docs/_build/quickstart/page.png`` (or ``--out``).
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {[*SECTIONS]}")
    parser.add_argument("--out", type=Path, default=OUT, help="where the plots go")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections).difference(SECTIONS):
        parser.error(f"unknown sections {sorted(unknown)}; choose from {[*SECTIONS]}")
    names = arguments.sections or SECTIONS
    arguments.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", ConvergenceWarning)  # of the iterative imputer
    n_rows = -(-len(names) // 2)
    page = Figure(figsize=(15, 3.8 * n_rows), layout="constrained")
    figures = page.subfigures(n_rows, 2, squeeze=False).ravel()
    start = time.perf_counter()
    with threadpool_limits(limits=1):  # fit times then compare like with like
        for name, figure in zip(names, figures, strict=False):
            importlib.import_module(f"_sections.{name}").run(figure)
    print(f"\nours are marked *; one thread; {time.perf_counter() - start:.0f} seconds in all")
    page.savefig(arguments.out / "page.png", dpi=100)
    print(f"plots: {os.path.relpath(arguments.out / 'page.png')}")


if __name__ == "__main__":
    main()
