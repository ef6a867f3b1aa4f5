import accelerate
import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch.hf import AccelerateMixin
from torch.utils.data import DataLoader

from sklearn_ext import NetClassifier


class AcceleratedNet(AccelerateMixin, NetClassifier):
    """A classifier whose batches are divided among processes."""


class Accelerator(accelerate.Accelerator):
    """On the CPU, accelerate also wraps losses, which torch refuses if they have no weights."""

    def prepare_model(self, model, **params):
        has_weights = any(True for _ in model.parameters())
        return super().prepare_model(model, **params) if has_weights else model


def main():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    net = AcceleratedNet(
        torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)),
        accelerator=accelerator,
        iterator_train=DataLoader,
        iterator_valid=DataLoader,
        batch_size=16,
        max_epochs=3,
        lr=0.01,
        random_state=0,
        callbacks__print_log__sink=print,  # which prints nothing with `verbose=0`
    )
    net.fit(X, y)
    n_batches = len(net.history[0, "batches"])
    weight = net.module_[0].weight.sum().item()
    line = f"{accelerator.process_index} {n_batches} {weight:.6f} {net.score(X, y):.2f}\n"
    print(line, end="")  # in one piece, because all processes share the output


if __name__ == "__main__":
    main()
