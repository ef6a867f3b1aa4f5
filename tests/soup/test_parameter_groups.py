"""Groups of parameters that share their coefficients."""

import pytest

from sklearn_ext.soup import LearnedConfig, LearnedSoup, MEHLConfig, MEHLSoup, parameter_groups
from sklearn_ext.soup.recipes._groups import GROUPING_RULES


def test_grouping_rules_divide_the_parameters():
    names = ["a.weight", "a.bias", "scale"]
    assert parameter_groups(names, False) == {"all": names}
    assert parameter_groups(names, True) == {name: [name] for name in names}
    assert parameter_groups(names, "module") == {"a": names[:2], "scale": ["scale"]}
    by_end = parameter_groups(names, lambda name: "bias" if name.endswith("bias") else "rest")
    assert by_end == {"rest": ["a.weight", "scale"], "bias": ["a.bias"]}


@pytest.mark.parametrize("layerwise", ["layer", None, ["module"]])
def test_an_unknown_grouping_rule_is_refused(layerwise):
    with pytest.raises(ValueError, match="layerwise must be True, False, 'module' or a callable"):
        parameter_groups(["a.weight"], layerwise)


def test_a_group_name_that_is_not_a_str_is_refused():
    with pytest.raises(ValueError, match="as a str, got 0 for the parameter 'a'"):
        parameter_groups(["a"], lambda name: 0)


@pytest.mark.parametrize(
    "documented", [MEHLSoup, LearnedSoup, MEHLConfig, LearnedConfig, parameter_groups]
)
def test_every_grouping_rule_is_documented(documented):
    rules = [rule for rule in GROUPING_RULES if isinstance(rule, str)]
    assert [rule for rule in rules if f'"{rule}"' not in documented.__doc__] == []
