import numpy as np
import torch
import torchvision

from sklearn_ext import KNNOODDetector, net_from_module

torch.manual_seed(0)
model = torchvision.models.resnet18(num_classes=3)  # or with `weights="DEFAULT"`

rng = np.random.default_rng(0)
y = np.array(["red", "green", "blue"]).repeat(20)
X = rng.normal(size=(60, 3, 32, 32)).astype(np.float32)
X[np.arange(60), np.arange(3).repeat(20)] += 2  # the channel of the color

net = net_from_module(
    model, classes=["red", "green", "blue"], lr=1e-3, max_epochs=3, random_state=0
)
net.partial_fit(X, y)  # a few steps of fine-tuning
accuracy = net.score(X, y)

detector = KNNOODDetector(net, random_state=0).fit(X, y)
