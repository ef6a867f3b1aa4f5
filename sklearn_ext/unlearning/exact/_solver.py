"""Which solution a fit has, and whether a change of rows updates it or factors anew."""

import warnings

from scipy.linalg import LinAlgWarning

from ._primal_solution import PrimalSolution
from ._ridge import IllConditionedError
from ._solutions import DualSolution

_TRUSTED_CONDITION = 1e7  # up to here, the form with the larger matrix is exact to 1e-9, too


def preferred_solver(solver, n_rows, n_columns):
    """Return the solver itself or, for "auto", that with the smaller matrix."""
    if solver == "auto":
        return "dual" if n_rows < n_columns else "primal"
    return solver


def what_to_keep(store, solver, n_rows, n_columns):
    """Whether training rows are kept, or their features.

    Parameters
    ----------
    store : bool, "features" or "auto"
        "auto" keeps what the dual solver needs, and features if they take at most twice the memory
        of its inverse matrix.
    solver : {"dual", "primal"}
    n_rows, n_columns : int

    Returns
    -------
    {"rows", "features"} or None

    Raises
    ------
    ValueError
        If the dual solver may keep nothing.
    """
    if store == "features":
        return store
    if solver == "primal":
        return "rows" if store is True else None
    if store == "auto":
        return "features" if n_columns <= 2 * n_rows else "rows"
    if not store:
        raise ValueError(
            "store=False needs solver='primal': the dual solver works with the training rows; it "
            f"is the choice for {n_rows} rows and {n_columns} features."
        )
    return "rows"


def fit_solution(features, rows, *, solver, alpha):
    """Fit the dual or the primal solution.

    Parameters
    ----------
    features : RowFeatures
    rows : TrainingRows
    solver : {"auto", "dual", "primal"}
    alpha : float

    Returns
    -------
    DualSolution or PrimalSolution

    Raises
    ------
    ValueError
        If alpha is too small for float64.
    """
    solver = preferred_solver(solver, len(rows), features.n_columns)
    solution = DualSolution if solver == "dual" else PrimalSolution
    try:
        return solution.fit(features, rows, alpha)
    except IllConditionedError as error:
        raise ValueError(
            f"alpha={alpha} is too small for the rows: their matrix is singular in float64."
        ) from error


def changed_solution(now, update, features, changed, rows, sign, *, n_rows, solver, alpha, refresh):
    """Update a solution or, where much has changed or digits would be lost, factor anew.

    Parameters
    ----------
    now : DualSolution or PrimalSolution
    update : callable
        Returns the updated solution, or raises IllConditionedError.
    features : RowFeatures
    changed : TrainingRows
        Rows that come or go.
    rows : callable or None
        Returns the TrainingRows after the change, if they are kept.
    sign : {1.0, -1.0}
        Whether rows come or go.
    n_rows : int
        Rows after the change.
    solver, alpha
        As for :func:`fit_solution`.
    refresh : float
        Share of the rows of the last factorisation that updates may change in all.

    Returns
    -------
    DualSolution or PrimalSolution

    Raises
    ------
    ValueError
        If no factorisation is possible.
    """
    if now.n_changed + len(changed) <= refresh * now.n_factored:
        try:
            solution = update()
        except IllConditionedError:
            pass  # what follows does without the inverse
        else:
            if rows is None or solver != "auto" or is_trusted(solution, n_rows):
                return solution
    if rows is not None:
        return fit_solution(features, rows(), solver=solver, alpha=alpha)
    try:
        return now.refactored(features, changed, sign)
    except IllConditionedError as error:
        raise ValueError(
            "the rows cannot be taken out of the model; check that X, y and sample_weight are "
            "those of rows that it has learned and not yet forgotten."
        ) from error


def is_trusted(solution, n_rows):
    """Whether a solution is exact to 1e-9 as far as its form is to blame.

    The form with the larger matrix has eigenvalues that are nothing but ridge, which costs digits
    as the ridge becomes small.
    """
    n_features = len(solution.coef)
    larger = n_rows > n_features if solution.name == "dual" else n_rows < n_features
    return not larger or solution.condition < _TRUSTED_CONDITION


def warn_if_imprecise(solution, n_rows, *, alpha, stacklevel):
    """Warn of the form with the larger matrix and hardly any ridge."""
    if not is_trusted(solution, n_rows):
        warnings.warn(
            f"The {solution.name} solver has {n_rows} rows for {len(solution.coef)} features, and "
            f"alpha={alpha} is too small for it to be exact to 1e-9. The other solver is: use "
            "solver='auto' and store=True.",
            LinAlgWarning,
            stacklevel=stacklevel + 1,
        )
