"""Text in the estimators: token ids, masks and datasets for models of transformers."""

import copy

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from sklearn_ext import FlatLoRAClassifier, FlatLoRARegressor
from sklearn_ext.lora import NextTokenLoss, load_adapter, lora_layers
from tests.lora import language_models

X, y = language_models.tokens()
LABELS = np.array(["even", "odd", "prime"])[y]
QUICK = {"r": 2, "lr": 1e-2, "max_epochs": 4, "batch_size": 8, "sigma": 0.2, "random_state": 0}
HEADS = {"bert": "classifier", "gpt2": "score", "llama": "score", "t5": "classification_head"}


class Encoded(Dataset):
    """A dataset of encoded texts, read one by one."""

    def __len__(self):
        return len(y)

    def __getitem__(self, k):
        return {name: part[k] for name, part in X.items()}, LABELS[k]


def classifier(kind="bert", **params):
    module = language_models.model(kind)
    return FlatLoRAClassifier(module, modules_to_save=[HEADS[kind]], **QUICK | params)


@pytest.mark.parametrize("kind", HEADS)
def test_models_of_text_learn_and_save_their_adapters(kind, tmp_path):
    net = classifier(kind).fit(X, LABELS)
    assert net.history_[-1, "train_loss"] < net.history_[0, "train_loss"]
    assert set(net.predict(X)) <= set(LABELS)
    net.save_adapter(tmp_path)
    # The names are those of the bare model, which loads the adapter without the estimator.
    bare = load_adapter(language_models.model(kind).eval(), tmp_path)
    with torch.no_grad():
        logits = bare(**{name: torch.as_tensor(part) for name, part in X.items()}).logits
    np.testing.assert_allclose(logits.softmax(dim=1), net.predict_proba(X), atol=1e-6)
    again = FlatLoRAClassifier(language_models.model(kind)).load_adapter(tmp_path)
    np.testing.assert_array_equal(again.predict(X), net.predict(X))
    assert list(again.classes_) == ["even", "odd", "prime"]


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_peft_reads_the_adapters_of_models_of_text(kind, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    net = classifier(kind).fit(X, LABELS)
    net.save_adapter(tmp_path)
    theirs = peft.PeftModel.from_pretrained(language_models.model(kind), str(tmp_path)).eval()
    with torch.no_grad():
        logits = theirs(**{name: torch.as_tensor(part) for name, part in X.items()}).logits
    np.testing.assert_allclose(logits.softmax(dim=1), net.predict_proba(X), atol=1e-5)


def test_a_dataset_gives_the_result_of_its_arrays_bit_for_bit(tmp_path):
    net, other = classifier().fit(X, LABELS), classifier().fit(Encoded())
    expected = net.predict_proba(X)
    np.testing.assert_array_equal(other.predict_proba(Encoded()), expected)
    sharpness = net.expected_sharpness(X, LABELS, n_draws=4)
    assert sharpness > 0
    assert other.expected_sharpness(Encoded(), n_draws=4) == pytest.approx(sharpness, abs=1e-7)
    net.save_adapter(tmp_path)
    for samples in ((Encoded(),), (X, LABELS)):
        loaded = classifier().load_adapter(tmp_path, *samples)
        np.testing.assert_array_equal(loaded.predict_proba(X), expected)


def test_token_ids_alone_are_samples():
    net = classifier().fit(X["input_ids"], LABELS)
    assert net.n_features_in_ == language_models.LENGTH
    assert net.expected_sharpness(X["input_ids"], LABELS, n_draws=2) > 0
    as_dict = {"input_ids": X["input_ids"]}
    np.testing.assert_array_equal(
        classifier().fit(as_dict, LABELS).predict_proba(as_dict), net.predict_proba(X["input_ids"])
    )


def test_regression_on_text(tmp_path):
    module = language_models.model("bert", num_labels=1)
    targets = X["input_ids"].mean(axis=1) / 10
    params = QUICK | {"max_epochs": 40, "modules_to_save": ["classifier"]}
    net = FlatLoRARegressor(module, **params).fit(X, targets)
    assert net.predict(X).shape == targets.shape
    assert net.score(X, targets) > 0.3
    net.save_adapter(tmp_path)
    loaded = FlatLoRARegressor(copy.deepcopy(module)).load_adapter(tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


@pytest.mark.parametrize("kind", ["gpt2 lm", "llama lm"])
def test_a_language_model_learns_to_predict_the_next_token(kind, tmp_path):
    ids = X["input_ids"]
    params = QUICK | {"sigma": 0.05, "criterion": NextTokenLoss}
    net = FlatLoRARegressor(language_models.model(kind), **params).fit(X, ids)
    assert net.history_[-1, "train_loss"] < net.history_[0, "train_loss"]
    net.save_adapter(tmp_path)
    bare = load_adapter(language_models.model(kind).eval(), tmp_path)
    tensors = {name: torch.as_tensor(part) for name, part in X.items()}
    with torch.no_grad():
        theirs = bare(**tensors, labels=tensors["input_ids"])
    np.testing.assert_allclose(net.predict(X), theirs.logits, atol=1e-5)
    own = NextTokenLoss()(theirs, tensors["input_ids"])
    torch.testing.assert_close(own, theirs.loss)


def test_the_loss_of_the_next_token_ignores_padding():
    logits = torch.randn(2, 5, 7)
    tokens = torch.randint(7, (2, 5))
    padded = tokens.clone()
    padded[:, 3:] = -100
    expected = NextTokenLoss()(logits[:, :3], tokens[:, :3])
    torch.testing.assert_close(NextTokenLoss()(logits, padded), expected)
    with pytest.raises(ValueError, match=r"tokens must have .* got shape \(2, 4\)"):
        NextTokenLoss()(logits, tokens[:, :4])


def test_embeddings_of_tokens_can_be_adapted():
    net = classifier(target_modules=["word_embeddings", "query", "value"]).fit(X, LABELS)
    layers = lora_layers(net.module_)
    assert layers["bert.embeddings.word_embeddings"].lora_A.weight.any()
    assert len(layers) == 5


def test_the_precision_of_training_can_be_reduced():
    net = classifier(precision="bf16", lr=1e-3).fit(X, LABELS)
    full = classifier(lr=1e-3).fit(X, LABELS)
    difference = np.abs(net.predict_proba(X) - full.predict_proba(X)).max()
    assert 0 < difference < 0.05
