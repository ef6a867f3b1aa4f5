"""What the noise of Flat-LoRA costs: CPU time of a training step, beside plain LoRA.

    python -m benchmarks.flat_lora_cost

One thread. CPU time is that of this process, so that neighbours on the machine disturb it little.
"""

import statistics
import time

import torch
from torch import nn

from sklearn_ext.lora import inject_lora, lora_layers
from sklearn_ext.lora._noise_process import NoiseProcess

CASES = ((512, 2048), (512, 32), (1536, 32), (1536, 256))  # width of the layers, rows of a batch
N_LAYERS = 6
VARIANTS = {
    "LoRA": {"sigma": 0.0},
    "weight": {},
    "weight, stored": {"store_noise": True},
    "local": {"local": True},
}


def trainer(width, sigma=0.1, **params):
    """Return a function that makes a training step, as the estimator does."""
    torch.manual_seed(0)
    module = inject_lora(
        nn.Sequential(*(nn.Linear(width, width) for _ in range(N_LAYERS))),
        target_modules="all",
        random_state=0,
    )
    process = NoiseProcess(
        lora_layers(module).values(), sigma=sigma, schedule="constant", seed=0, n_epochs=1, **params
    )
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad])
    optimizer.register_step_post_hook(process.on_step)

    def step(x):
        process.refresh()
        optimizer.zero_grad()
        with process.applied():
            module(x).square().mean().backward()
        optimizer.step()

    return step


def seconds(steps, x, repeats):
    """Median CPU time of a step of each variant, variants in turn."""
    times = {name: [] for name in steps}
    for k in range(repeats + 2):
        for name, step in steps.items():
            start = time.process_time()
            step(x)
            if k >= 2:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main(repeats=15):
    torch.set_num_threads(1)
    print(f"milliseconds a step, {N_LAYERS} layers, and the ratio to LoRA")
    print("width  rows  " + "".join(f"{name:>24}" for name in VARIANTS))
    for width, rows in CASES:
        steps = {name: trainer(width, **params) for name, params in VARIANTS.items()}
        x = torch.randn(rows, width)
        medians = seconds(steps, x, repeats)
        cells = (f"{1e3 * t:.1f} ({t / medians['LoRA']:.2f})" for t in medians.values())
        print(f"{width:5d} {rows:5d}  " + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
