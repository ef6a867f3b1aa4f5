"""An inventory of scikit-learn's pages, so that references link to them without a network.

The names come from the installed package, and the addresses follow the scheme of its website, which
has had one page per public object for many releases.
"""

import importlib
import inspect
import pkgutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import sklearn
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.typing import ExtensionMetadata

ADDRESS = "https://scikit-learn.org/stable/"


def public_modules() -> Iterator[str]:
    """Yield the names of the public modules down to the second level."""
    for level in (sklearn, importlib.import_module("sklearn.metrics"),
                  importlib.import_module("sklearn.utils")):  # fmt: skip
        for found in pkgutil.iter_modules(level.__path__, f"{level.__name__}."):
            last = found.name.rpartition(".")[2]
            if not last.startswith("_") and last not in ("conftest", "tests", "externals"):
                yield found.name


def entries() -> Iterator[str]:
    """Yield the lines of the inventory: one per class, function, and method of a class."""
    for module_name in sorted(public_modules()):
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            continue
        for name in getattr(module, "__all__", []):
            try:
                obj = getattr(module, name, None)
            except ImportError:  # experimental names must be enabled first
                continue
            path = f"{module_name}.{name}"
            page = f"modules/generated/{path}.html"
            if inspect.isclass(obj):
                yield f"{path} py:class 1 {page}#$ -"
                for method in dir(obj):
                    if not method.startswith("_"):
                        yield f"{path}.{method} py:method 1 {page}#$ -"
            elif callable(obj):
                yield f"{path} py:function 1 {page}#$ -"


def write(app: Sphinx, config: Config) -> None:
    """Write the inventory into the folder of the build, and point intersphinx to it."""
    path = Path(app.doctreedir) / "sklearn.inv"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = (
        "# Sphinx inventory version 2\n# Project: scikit-learn\n"
        f"# Version: {sklearn.__version__}\n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    path.write_bytes(head.encode() + zlib.compress("\n".join(entries()).encode()))
    config.intersphinx_mapping = {"sklearn": (ADDRESS, str(path))}


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("config-inited", write, priority=100)  # before intersphinx reads the mapping
    return {"parallel_read_safe": True, "parallel_write_safe": True}
