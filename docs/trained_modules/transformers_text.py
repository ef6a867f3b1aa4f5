import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from sklearn_ext import MSPOODDetector, SFRonUnlearner, net_from_module

torch.manual_seed(0)
config = BertConfig(
    vocab_size=100,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    num_labels=2,
)
model = BertForSequenceClassification(config)  # or `.from_pretrained(...)`

rng = np.random.default_rng(0)
names = np.array(["calm", "stormy"])
label = rng.integers(2, size=120)
words = rng.integers(2, 50, size=(120, 8)) + 49 * label[:, None]  # token ids
X = {"input_ids": words, "attention_mask": np.ones_like(words)}
y = names[label]

net = net_from_module(model, classes=names, lr=1e-3, max_epochs=5, random_state=0)
net.partial_fit(X, y)  # a few steps of fine-tuning
accuracy = net.score(X, y)

detector = MSPOODDetector(net, random_state=0).fit(X, y)
unlearned = SFRonUnlearner(net, random_state=0).fit(X, y, forget=np.arange(10))
