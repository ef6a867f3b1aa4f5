"""The Trainer of transformers, a plain loop and skorch train equally under the noise."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext import FlatLoRACallback, FlatLoRATrainerCallback, NetClassifier, flat_lora
from sklearn_ext.lora import inject_lora, lora_layers
from tests.lora import language_models

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
peft = pytest.importorskip("peft", reason="peft is not installed")
X, y = language_models.tokens()
BATCH, EPOCHS = 8, 3
N_STEPS = EPOCHS * len(y) // BATCH
SIGMA = 0.5


class Tokens(torch.utils.data.Dataset):
    """Samples in the form that the Trainer expects."""

    def __len__(self):
        return len(y)

    def __getitem__(self, k):
        return {name: torch.as_tensor(part[k]) for name, part in X.items()} | {"labels": int(y[k])}


def adapted(kind="bert", library="own"):
    model = language_models.model(kind)
    if library == "own":
        return inject_lora(model, r=2, target_modules=r".*(query|value|dense)", random_state=0)
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return peft.get_peft_model(model, config)


def optimizer_of(model):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)


def trainer_for(model, folder, callback, **params):
    optimizer = optimizer_of(model)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    args = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=EPOCHS,
        max_grad_norm=0,
        train_sampling_strategy="sequential",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **{"save_strategy": "no", "logging_steps": 1, "per_device_train_batch_size": BATCH}
        | params,
    )
    return transformers.Trainer(
        model, args, train_dataset=Tokens(), callbacks=[callback], optimizers=(optimizer, constant)
    )


def plain_loop(model, accumulate=1, context=None, clip=None, sigma=SIGMA):
    """Train in a loop like those that users write, and return the strengths of the noise."""
    context = torch.enable_grad if context is None else context
    optimizer = optimizer_of(model)
    strengths = []
    with flat_lora(model, optimizer, sigma=sigma, total_steps=N_STEPS, random_state=0) as noise:
        model.train()
        batches = [slice(k, k + BATCH // accumulate) for k in range(0, len(y), BATCH // accumulate)]
        for k, rows in enumerate(EPOCHS * batches):
            inputs = {name: torch.as_tensor(part[rows]) for name, part in X.items()}
            with context():
                outputs = model(**inputs, labels=torch.as_tensor(y[rows]))
            (outputs.loss / accumulate).backward()
            if (k + 1) % accumulate == 0:
                strengths.append(noise.strength)
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
    return strengths


def trained(model):
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def assert_same(first, second):
    pairs = zip(trained(first).items(), trained(second).values(), strict=True)
    assert [name for (name, a), b in pairs if not torch.equal(a, b)] == []


@pytest.mark.parametrize("library", ["own", "peft"])
def test_trainer_and_plain_loop_agree_bit_for_bit(library, tmp_path):
    in_trainer, in_loop, without = (adapted(library=library) for _ in range(3))
    trainer = trainer_for(in_trainer, tmp_path, FlatLoRATrainerCallback(SIGMA, random_state=0))
    trainer.train()
    strengths = plain_loop(in_loop)
    assert_same(in_trainer, in_loop)
    logged = [entry["sigma"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == [*strengths[1:], SIGMA]  # the Trainer logs after the update
    plain_loop(without, sigma=0.0)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(trained(without).values(), trained(in_loop).values(), strict=True)
    )


def test_the_automatic_strength_is_that_of_the_epochs(tmp_path):
    callback = FlatLoRATrainerCallback(sigma_schedule="constant", random_state=0)
    trainer = trainer_for(adapted(), tmp_path, callback)
    trainer.train()
    assert trainer.state.log_history[0]["sigma"] == EPOCHS / 200


def test_skorch_and_plain_loop_agree_bit_for_bit():
    in_loop = adapted()
    strengths = plain_loop(in_loop)
    net = NetClassifier(
        adapted(),
        callbacks=[FlatLoRACallback(SIGMA, random_state=0)],
        optimizer=torch.optim.AdamW,
        lr=5e-3,
        batch_size=BATCH,
        max_epochs=EPOCHS,
        iterator_train__shuffle=False,
        random_state=0,
    ).fit(X, y)
    assert_same(net.module_, in_loop)
    assert np.ravel(net.history_[:, "batches", :, "sigma"]).tolist() == strengths


def test_accumulated_batches_share_their_noise(tmp_path):
    in_trainer, in_loop = adapted(), adapted()
    callback = FlatLoRATrainerCallback(SIGMA, random_state=0)
    halves = {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2}
    in_trainer.accepts_loss_kwargs = False  # the loss of each half is a mean
    trainer_for(in_trainer, tmp_path, callback, **halves).train()
    assert len(plain_loop(in_loop, accumulate=2)) == N_STEPS
    assert_same(in_trainer, in_loop)


def test_a_resumed_training_continues_the_noise(tmp_path):
    whole, resumed = adapted(), adapted()
    saving = {"save_strategy": "steps", "save_steps": 4}
    trainer_for(
        whole, tmp_path / "a", FlatLoRATrainerCallback(SIGMA, random_state=0), **saving
    ).train()
    assert (tmp_path / "a" / "checkpoint-4").is_dir()
    trainer = trainer_for(resumed, tmp_path / "b", FlatLoRATrainerCallback(SIGMA, random_state=0))
    trainer.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    assert_same(whole, resumed)


def test_evaluation_and_a_failed_training_leave_no_noise(tmp_path):
    model = adapted()
    inputs = {name: torch.as_tensor(part) for name, part in X.items()}
    callback = FlatLoRATrainerCallback(5.0, sigma_schedule="constant", random_state=0)

    class Failing(transformers.TrainerCallback):
        def on_substep_end(self, *args, **kwargs):
            raise RuntimeError("on purpose")

    trainer = trainer_for(model, tmp_path, callback, gradient_accumulation_steps=2)
    trainer.add_callback(Failing())
    expected = model.eval()(**inputs).logits
    with pytest.raises(RuntimeError, match="on purpose"):
        trainer.train()
    assert torch.equal(model.eval()(**inputs).logits, expected)
    assert (model.train()(**inputs).logits - expected).abs().max() > 1e-3
    callback.close()
    torch.testing.assert_close(model(**inputs).logits, expected)
    assert all(layer.noise is None for layer in lora_layers(model).values())
    assert not trainer.optimizer.optimizer._optimizer_step_post_hooks


def test_checkpointing_recomputes_with_the_same_noise():
    plain, saving = adapted(), adapted()
    saving.gradient_checkpointing_enable()
    plain_loop(plain)
    plain_loop(saving)
    assert_same(plain, saving)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5"])
@pytest.mark.parametrize("precision", ["autocast", "bfloat16"])
def test_backbones_keep_their_bits_in_half_precision(kind, precision):
    model = language_models.model(kind)
    if precision == "bfloat16":
        model = model.to(torch.bfloat16)
    n_parameters = len(list(model.parameters()))
    inject_lora(model, r=2, random_state=0)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    start = copy.deepcopy(trained(model))

    def autocast():
        return torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast")

    plain_loop(model, context=autocast, clip=1.0)
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], p) for name, p in frozen.items())
    assert len(frozen) == n_parameters
    assert all(not torch.equal(p, start[name]) for name, p in trained(model).items())
    assert all(p.dtype == torch.float32 for p in trained(model).values())
