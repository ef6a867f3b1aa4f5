r"""
========================================================
Flat-LoRA in your own loop and in Hugging Face's Trainer
========================================================

You do not need an estimator to train adapters under noise. :func:`~sklearn_ext.flat_lora` adds the
noise to a training loop of your own, and :class:`~sklearn_ext.FlatLoRATrainerCallback` adds it to
the Trainer of transformers. Both work with the adapters of this package and with those of peft.
This example trains one small model of text in both ways, and gets the same weights.
"""

# %%
# A model and a task
# ------------------
#
# The model is a BERT with random weights, so that nothing has to be downloaded. In your own work,
# load it with ``from_pretrained``. A sentence is a sequence of token numbers. It belongs to the
# second class if its frequent token is 2 instead of 3.

import tempfile

import numpy as np
import torch
import transformers

from sklearn_ext import FlatLoRATrainerCallback, flat_lora
from sklearn_ext.lora import inject_lora, lora_layers, merge_lora, save_adapter

N_SAMPLES, LENGTH, BATCH, EPOCHS, SIGMA = 256, 12, 16, 4, 0.05
rng = np.random.RandomState(0)
labels = torch.arange(N_SAMPLES) % 2
tokens = torch.as_tensor(rng.randint(4, 50, size=(N_SAMPLES, LENGTH)))
frequent = torch.as_tensor(rng.uniform(size=(N_SAMPLES, LENGTH)) < 0.3)
tokens = torch.where(frequent, 3 - labels[:, None], tokens)
n_steps = EPOCHS * N_SAMPLES // BATCH


def new_model():
    """Return the model with adapters in its linear layers, and a trainable head."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = transformers.BertForSequenceClassification(config)
    return inject_lora(model, r=4, modules_to_save=["classifier"], random_state=0)


def new_optimizer(model):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)


# %%
# A loop of your own
# ------------------
#
# Put the loop into a ``with`` block. The noise changes with each update of the optimizer and grows
# until the last of the ``total_steps`` updates. Everything else is an ordinary loop: you may clip
# gradients, accumulate them, or use automatic mixed precision.

in_loop = new_model()
optimizer = new_optimizer(in_loop)
losses, strengths = [], []
in_loop.train()
with flat_lora(in_loop, optimizer, sigma=SIGMA, total_steps=n_steps, random_state=0) as noise:
    for step in range(n_steps):
        batch = torch.arange(step * BATCH, (step + 1) * BATCH) % N_SAMPLES
        loss = in_loop(input_ids=tokens[batch], labels=labels[batch]).loss
        loss.backward()
        losses.append(loss.item())
        strengths.append(noise.strength)
        optimizer.step()
        optimizer.zero_grad()
print(
    f"loss of the first epoch {np.mean(losses[:16]):.3f}, of the last {np.mean(losses[-16:]):.3f}"
)

# %%
# The Trainer
# -----------
#
# Pass the callback to the Trainer. With the same settings and the same order of the batches, the
# weights are equal bit for bit.


class Sentences(torch.utils.data.Dataset):
    def __len__(self):
        return N_SAMPLES

    def __getitem__(self, k):
        return {"input_ids": tokens[k], "labels": labels[k]}


in_trainer = new_model()
optimizer = new_optimizer(in_trainer)
with tempfile.TemporaryDirectory() as folder:
    arguments = transformers.TrainingArguments(
        folder,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        train_sampling_strategy="sequential",
        max_grad_norm=0,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(
        in_trainer,
        arguments,
        train_dataset=Sentences(),
        callbacks=[FlatLoRATrainerCallback(SIGMA, random_state=0)],
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()

pairs = zip(in_loop.parameters(), in_trainer.parameters(), strict=True)
equal = all(torch.equal(first, second) for first, second in pairs)
print(f"equal bit for bit: {equal}")
assert equal

# %%
# Save and merge
# --------------
#
# The adapter is a small file that peft can read, and the merged model is an ordinary one.

import matplotlib.pyplot as plt

with tempfile.TemporaryDirectory() as folder:
    save_adapter(in_loop, folder)
print(f"{len(lora_layers(in_loop))} adapted layers")
plain = merge_lora(in_loop).eval()
with torch.no_grad():
    accuracy = (plain(input_ids=tokens).logits.argmax(dim=1) == labels).float().mean()
print(f"{type(plain).__name__}: training accuracy {accuracy:.3f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(losses)
left.set(xlabel="update", ylabel="training loss under noise")
right.plot(strengths, color="C1")
right.set(xlabel="update", ylabel="strength of the noise")
plt.show()
