"""The directive ``expected-failures``, which shows the package's expected check failures."""

from collections.abc import Iterator

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

import sklearn_ext
from sklearn_ext.utils._estimators import EXPECTED_FAILED_CHECKS


def lines() -> Iterator[str]:
    """Write the table as reStructuredText."""
    if not EXPECTED_FAILED_CHECKS:
        yield "None: every estimator passes every check."
        return
    yield from (".. list-table::", "   :header-rows: 1", "")
    for cells in [("Estimator", "Check", "Reason"), *rows()]:
        yield from (f"   {mark} - {cell}" for mark, cell in zip("*  ", cells, strict=True))


def rows() -> Iterator[tuple[str, str, str]]:
    for name, checks in sorted(EXPECTED_FAILED_CHECKS.items()):
        for check, reason in sorted(checks.items()):
            path = name if name in sklearn_ext.__all__ else f"generative.{name}"
            yield f":class:`~sklearn_ext.{path}`", f"``{check}``", reason


class ExpectedFailures(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        container = nodes.container()
        self.state.nested_parse(StringList(list(lines())), self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("expected-failures", ExpectedFailures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
