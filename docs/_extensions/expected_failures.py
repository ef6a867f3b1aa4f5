"""The directive ``expected-failures``: the package's table of written exceptions."""

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from sklearn_ext.utils._estimators import EXPECTED_FAILED_CHECKS


def lines():
    """Write the table as reStructuredText."""
    if not EXPECTED_FAILED_CHECKS:
        yield "None: every estimator passes every check."
        return
    yield from (".. list-table::", "   :header-rows: 1", "")
    for cells in [("Estimator", "Check", "Reason"), *rows()]:
        yield from (f"   {mark} - {cell}" for mark, cell in zip("*  ", cells, strict=True))


def rows():
    for name, checks in sorted(EXPECTED_FAILED_CHECKS.items()):
        for check, reason in sorted(checks.items()):
            yield f":class:`~sklearn_ext.{name}`", f"``{check}``", reason


class ExpectedFailures(SphinxDirective):
    def run(self):
        container = nodes.container()
        self.state.nested_parse(StringList(list(lines())), self.content_offset, container)
        return container.children


def setup(app):
    app.add_directive("expected-failures", ExpectedFailures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
