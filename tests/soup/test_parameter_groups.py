"""Groups of parameters that share their coefficients."""

from sklearn_ext.soup import parameter_groups


def test_grouping_rules_divide_the_parameters():
    names = ["a.weight", "a.bias", "scale"]
    assert parameter_groups(names, False) == {"all": names}
    assert parameter_groups(names, True) == {name: [name] for name in names}
    assert parameter_groups(names, "module") == {"a": names[:2], "scale": ["scale"]}
    by_end = parameter_groups(names, lambda name: "bias" if name.endswith("bias") else "rest")
    assert by_end == {"rest": ["a.weight", "scale"], "bias": ["a.bias"]}
