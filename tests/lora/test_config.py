"""Configurations of adapters and noise."""

import pytest

from sklearn_ext.lora import AdapterConfig, NoiseConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_qalora": True}, r"\['use_qalora'\]"),
        ({"layers_to_transform": [1], "lora_bias": True}, "layers_to_transform.*lora_bias"),
        ({"peft_type": "LOHA"}, "'LOHA'"),
        ({"init_lora_weights": "corda"}, "init_lora_weights must be one of .* got 'corda'"),
        ({"use_dora": 1}, "use_dora must be a bool, got 1"),
        ({"r": -1}, "r must be"),
    ],
)
def test_unsupported_fields_of_peft_are_rejected(fields, message):
    with pytest.raises(ValueError, match=message):
        AdapterConfig.from_peft(fields)


def test_fields_of_peft_keep_their_meaning():
    config = AdapterConfig.from_peft(
        {"r": 4, "target_modules": {"b", "a"}, "bias": "all", "task_type": "SEQ_CLS"}
    )
    assert (config.r, config.lora_alpha, config.target_modules) == (4, 8, ["a", "b"])
    assert config.train_bias == "all"


def test_missing_and_null_fields_of_peft_are_defaults():
    null = {"modules_to_save": None, "rank_pattern": None, "alpha_pattern": None}
    assert (
        AdapterConfig.from_peft(null) == AdapterConfig.from_peft({}) == AdapterConfig(lora_alpha=8)
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sigma": -0.1}, "sigma must be a non-negative number, got -0.1"),
        ({"sigma_schedule": "square"}, "sigma_schedule must be a callable or one of"),
        ({"perturbation": "bias"}, "perturbation must be one of"),
        ({"n_noise": 0}, "n_noise must be a positive integer, got 0"),
    ],
)
def test_noise_parameters_out_of_range_are_rejected(params, message):
    with pytest.raises(ValueError, match=message):
        NoiseConfig(**params)
