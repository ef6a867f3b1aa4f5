"""OrthLoss: fine-tune a classifier so that features of outliers are orthogonal to all classes."""

from ._orthloss import OrthLossOODDetector as OrthLossOODDetector
from ._separation_net import SeparationNet as SeparationNet
