"""Tiny language models with random weights, and token ids for them."""

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

N_TOKENS, LENGTH, N_CLASSES = 32, 8, 3
_COMMON = {"vocab_size": N_TOKENS, "num_labels": N_CLASSES, "pad_token_id": 0}
_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
_NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
_LLAMA = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
_T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
}


def model(kind, seed=0, **changes):
    """Return a classifier with random weights, or a language model if the kind ends in "lm"."""
    common = _COMMON | changes
    builders = {
        "bert": lambda: transformers.BertForSequenceClassification(
            transformers.BertConfig(**_BERT, **common)
        ),
        "gpt2": lambda: transformers.GPT2ForSequenceClassification(
            transformers.GPT2Config(**_GPT2, **_NO_DROPOUT, **common)
        ),
        "llama": lambda: transformers.LlamaForSequenceClassification(
            transformers.LlamaConfig(**_LLAMA, **common)
        ),
        "t5": lambda: transformers.T5ForSequenceClassification(
            transformers.T5Config(**_T5, **common, eos_token_id=1, classifier_dropout=0.0)
        ),
        "gpt2 lm": lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(**_GPT2, **_NO_DROPOUT, vocab_size=N_TOKENS)
        ),
        "llama lm": lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**_LLAMA, vocab_size=N_TOKENS)
        ),
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return builders[kind]()


def tokens(n_samples=24, seed=0):
    """Return token ids with an attention mask, and classes; each has a frequent token."""
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % N_CLASSES
    ids = rng.randint(2, N_TOKENS, size=(n_samples, LENGTH))
    marked = rng.uniform(size=ids.shape) < 0.5
    ids = np.where(marked, 2 + y[:, None], ids)
    lengths = rng.randint(LENGTH // 2, LENGTH + 1, size=n_samples)
    mask = (np.arange(LENGTH) < lengths[:, None]).astype(np.int64)
    ids = np.where(mask == 1, ids, 0)
    ids[np.arange(n_samples), lengths - 1] = 1  # T5 requires the token that ends a sequence
    return {"input_ids": ids.astype(np.int64), "attention_mask": mask}, y
