"""Processor seconds until a soup reaches the final loss of a naive learned soup.

    python -m benchmarks.soup_time [--n 16 72]

A network of 3.4 million parameters is trained on noisy digits, enlarged to 28 x 28 pixels, and
fine-tuned N times with randomly drawn settings. The naive learned soup is like the published code:
all ingredients are in memory, the weights are a sum of N scaled copies, and the graph of the
gradients runs through all of them. It makes five passes over 600 mixing samples in batches of 64,
and its final loss on them is the target of the others. The temperature of the published soup is
left out, since it does not change the network. "stacked" is the same with one contraction per
tensor. Our soups run the plain function `learn_mehl_coefficients` on files.

Every contender runs in a fresh process on one thread. Seconds include reading the ingredients, but
not the evaluation of the loss after each step. Memory is the peak of the process's anonymous pages
above those before the fit, in units of one network.
"""

import argparse
import functools
import multiprocessing
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from .soup_memory import BATCH, PeakMemory, network, read_versions, weighted

WIDTH = 1200
N_PASSES = 5
N_PARTS = (700, 300, 600)  # samples for pretraining, fine-tuning and mixing
GOAL, LARGEST = 5.0, 6.0  # times as fast as the naive soup; models of memory


def samples():
    """Return the enlarged digits in three parts."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = zoom(X.reshape(-1, 8, 8) / 16, (1, 3.5, 3.5), order=1).reshape(len(X), -1)
    order = np.random.RandomState(0).permutation(len(X))[: sum(N_PARTS)]
    parts = np.split(order, np.cumsum(N_PARTS)[:-1])
    return [(X[part].astype(np.float32), y[part].astype(np.int64)) for part in parts]


def write_ingredients(folder, n):
    """Fine-tune a network n times, and write the weights."""
    import torch

    from sklearn_ext.neural import save_tensors

    pretraining, tuning, _ = samples()
    generator = torch.Generator().manual_seed(0)
    module = network(WIDTH).module

    def train(X, y, n_steps, lr, weight_decay, noise, smoothing):
        X, y = torch.as_tensor(X), torch.as_tensor(y)
        optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        for _ in range(n_steps):
            index = torch.randint(len(X), (BATCH,), generator=generator)
            inputs = X[index]
            inputs = inputs + noise * torch.randn(inputs.shape, generator=generator)
            output = module(inputs)
            loss = torch.nn.functional.cross_entropy(output, y[index], label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    train(*pretraining, 40, 1e-3, 0.0, 0.5, 0.0)
    start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    rng = np.random.default_rng(0)
    for k in range(n):
        module.load_state_dict(start)
        lr, weight_decay = np.exp(rng.uniform(np.log((2e-4, 1e-4)), np.log((3e-3, 0.3))))
        smoothing = rng.choice([0.0, rng.uniform(0.0, 0.2)])
        train(*tuning, int(rng.integers(8, 21)), lr, weight_decay, rng.uniform(0, 0.5), smoothing)
        save_tensors(Path(folder) / f"{k:03d}.safetensors", module.state_dict())
    return sum(tensor.numel() for tensor in start.values())


class Clock:
    """Processor seconds and losses after each step, without the time of the evaluation."""

    def __init__(self, loss):
        self.loss = loss
        self.start = time.process_time()
        self.curve = []

    def tick(self):
        seconds = time.process_time() - self.start
        self.curve.append((seconds, self.loss()))
        self.start = time.process_time() - seconds


def naive(paths, X, y, *, stacked):
    """Learn positive coefficients of each tensor by autograd through all ingredients."""
    import torch

    from sklearn_ext.neural import minibatches

    module = network(WIDTH).module
    coef = None

    def loss_on(inputs, targets):
        weights = weighted(versions, coef, stacked=stacked)
        outputs = torch.func.functional_call(module, weights, inputs)
        return torch.nn.functional.cross_entropy(outputs, targets)

    @torch.no_grad()
    def loss():
        return float(loss_on(X, y))

    clock = Clock(loss)
    versions = read_versions(paths, stacked=stacked)
    logits = torch.zeros(len(versions), len(paths), requires_grad=True)
    optimizer = torch.optim.AdamW([logits], lr=0.05, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(N_PASSES):
        for index in minibatches(len(X), BATCH, generator):
            coef = logits.softmax(dim=1)
            value = loss_on(X[index], y[index])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            coef = logits.detach().softmax(dim=1)
            clock.tick()
    return clock.curve


def ours(paths, X, y, **settings):
    """Learn coefficients on the hyperplane."""
    import torch

    from sklearn_ext.neural import LazyTensors
    from sklearn_ext.soup import MEHLConfig, learn_mehl_coefficients

    module = network(WIDTH).module

    def loss_on(inputs, targets):
        return torch.nn.functional.cross_entropy(module(inputs), targets)

    @torch.no_grad()
    def loss():
        return float(loss_on(X, y))

    clock = Clock(loss)
    optimizer = functools.partial(torch.optim.AdamW, betas=(0.8, 0.95))
    config = MEHLConfig(min_iter=0, batch_size=BATCH, optimizer=optimizer, **settings)
    learn_mehl_coefficients(
        module,
        [LazyTensors(path) for path in paths],
        X,
        y,
        loss_on,
        config=config,
        rng=np.random.RandomState(0),
        after_step=clock.tick,
    )
    return clock.curve


CONTENDERS = {
    "naive learned": (naive, {"stacked": False}),
    "naive, stacked": (naive, {"stacked": True}),
    "MEHL+": (ours, {"learning_rate": 0.003}),
    "MEHL+, 6 directions": (ours, {"n_directions": 6, "max_epochs": 3}),
}


def measure(sender, name, folder, n_parameters):
    """Measure one contender in a fresh process, and send its memory and its curve."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    paths = sorted(str(path) for path in Path(folder).iterdir())
    X, y = (torch.as_tensor(part) for part in samples()[-1])
    function, settings = CONTENDERS[name]
    network(60).set_params(max_epochs=1).fit(X[:BATCH].numpy(), y[:BATCH].numpy())
    with PeakMemory() as memory:
        curve = function(paths, X, y, **settings)
    sender.send(((memory.peak - memory.base) / (4 * n_parameters), curve))


def run(n, only):
    context = multiprocessing.get_context("spawn")
    target = seconds_of_naive = None
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        n_parameters = write_ingredients(folder, n)
        for name in only:
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=measure, args=(sender, name, folder, n_parameters))
            child.start()
            sender.close()
            models, curve = receiver.recv()
            child.join()
            if target is None:
                target, seconds_of_naive = curve[-1][1], curve[-1][0]
            reached = [(k, s) for k, (s, loss) in enumerate(curve, 1) if loss <= target]
            step, seconds = reached[0] if reached else (len(curve), float("nan"))
            print(
                f"{name:<20} N={n:<3} loss {target:.4f} after {seconds:6.2f} s ({step} steps), "
                f"{seconds_of_naive / seconds:5.1f} times as fast; final loss {curve[-1][1]:.4f}; "
                f"{models:6.1f} models",
                flush=True,
            )
            if CONTENDERS[name][0] is ours:
                fast, small = seconds_of_naive / seconds >= GOAL, models <= LARGEST
                lines += [
                    f"{'met   ' if fast else 'MISSED'} {name}: {GOAL:g} times as fast as naive",
                    f"{'met   ' if small else 'MISSED'} {name}: at most {LARGEST:g} models",
                ]
    print(*lines, sep="\n", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soup_time")
    parser.add_argument("--n", nargs="+", type=int, default=[16, 72], help="ingredients")
    arguments = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    for n in arguments.n:
        run(n, list(CONTENDERS))


if __name__ == "__main__":
    main()
