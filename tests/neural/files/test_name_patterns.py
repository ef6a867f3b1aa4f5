"""Regular expressions for names, compared with Python's."""

import re

import numpy as np
import pytest

from sklearn_ext.neural.files import matches_name

ATOMS = ["a", "b", ".", r"\.", "[ab]", "[^a]", r"[\W1-3]", r"\w", r"\D", "^", "$", r"\b", r"\B"]
REPEATS = ["*", "+", "?", "{2}", "{1,3}", "*?", "{2,}"]


def random_pattern(rng, depth):
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(ATOMS)
    inner, other = random_pattern(rng, depth - 1), random_pattern(rng, depth - 1)
    return rng.choice(
        [
            inner + other,
            f"({inner}|{other})",
            f"(?:{inner}){rng.choice(REPEATS)}",
            f"(?={inner})",
            f"(?!{inner}){other}",
            f"(?i){inner}" if depth == 4 else inner,
            f"{other}(?<=a)",
        ]
    )


def test_patterns_match_as_in_python():
    rng, n_matches = np.random.default_rng(0), 0
    for _ in range(1500):
        pattern = str(random_pattern(rng, 4))
        name = "".join(rng.choice(list("abA.1_"), size=rng.integers(1, 7)))
        expected = re.fullmatch(pattern, name) is not None
        assert matches_name(pattern, name) == expected, (pattern, name)
        n_matches += expected
    assert 50 < n_matches < 1400


@pytest.mark.parametrize(
    "pattern",
    ["(.+)+!", "(a|a)*b", "(a?){50}a{50}b", ".*" * 20 + "!", "(" * 20 + "a" + "+)" * 20 + "!"],
)
def test_patterns_that_never_end_in_python_end(pattern):
    assert not matches_name(pattern, "a" * 100)


def test_counts_may_be_large():
    assert matches_name("(a?){1000000000}", "aaa")
    assert not matches_name("(a|b){1000000000}", "aaa")


@pytest.mark.parametrize(
    "pattern", [r"(a)\1", "(?>a)b", "(", "(" * 5000, "a" * 2_000_000, "(?i:a)"]
)
def test_unsupported_patterns_raise(pattern):
    with pytest.raises(ValueError, match="must be a regular expression for names"):
        matches_name(pattern, "a")
