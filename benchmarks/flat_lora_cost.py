"""CPU time of a training step with the noise of Flat-LoRA, compared with plain LoRA.

    python -m benchmarks.flat_lora_cost

Everything runs in one thread. CPU time is that of this process, so that other processes on the
machine hardly affect it.
"""

import statistics
import time

import torch
from torch import nn

from sklearn_ext.lora import NoiseConfig, NoiseProcess, inject_lora, lora_layers

CASES = ((512, 2048), (512, 32), (1536, 32), (1536, 256))  # width of the layers, samples in a batch
N_LAYERS = 6
VARIANTS = {
    "LoRA": {"sigma": 0.0},
    "weight": {},
    "weight, stored": {"store_noise": True},
    "local": {"perturbation": "local"},
}


def trainer(width, sigma=0.1, **params):
    """Return a function that performs a training step like the estimator."""
    torch.manual_seed(0)
    module = inject_lora(
        nn.Sequential(*(nn.Linear(width, width) for _ in range(N_LAYERS))),
        target_modules="all",
        random_state=0,
    )
    config = NoiseConfig(sigma=sigma, sigma_schedule="constant", **params)
    process = NoiseProcess(lora_layers(module).values(), config, seed=0)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad])
    process.watch([optimizer])

    def step(x):
        process.refresh(progress=0.0)
        optimizer.zero_grad()
        with process.applied():
            module(x).square().mean().backward()
        optimizer.step()

    return step


def seconds(steps, x, repeats):
    """Return the median CPU time of a step of each variant; the variants take turns."""
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
    print(f"milliseconds per step with {N_LAYERS} layers, and the ratio to LoRA")
    print("width  batch " + "".join(f"{name:>24}" for name in VARIANTS))
    for width, rows in CASES:
        steps = {name: trainer(width, **params) for name, params in VARIANTS.items()}
        x = torch.randn(rows, width)
        medians = seconds(steps, x, repeats)
        cells = (f"{1e3 * t:.1f} ({t / medians['LoRA']:.2f})" for t in medians.values())
        print(f"{width:5d} {rows:5d}  " + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
