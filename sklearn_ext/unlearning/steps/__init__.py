"""Training steps that the unlearning methods share: fine-tuning, fast-slow steps and masks."""
