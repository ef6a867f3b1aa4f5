from collections.abc import Mapping

INPUT_FACTS = """
    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, when all are strings.
"""  # for the attributes of a class


def with_shared_docs(parts: Mapping[str, str]):
    """Decorate a class whose docstring names parts that it has in common with others.

    Classes of one family repeat the names of their parameters, as scikit-learn's contract for
    constructors asks; what the names mean is written once.

    Parameters
    ----------
    parts : mapping of str to str
        Text for each ``{name}`` in the docstring, indented as in a class. A name that is not used
        is no error; the docstring may hold other braces.

    Returns
    -------
    callable
        The decorator.
    """

    def decorate(cls):
        for name, part in parts.items():
            cls.__doc__ = cls.__doc__.replace(f"{{{name}}}", part.strip())
        return cls

    return decorate
