from sklearn.datasets import load_digits
from sklearn_ext import FusedOODDetector, NetClassifier

X, y = load_digits(return_X_y=True)
net = NetClassifier(random_state=0).fit(X / 16, y)  # or a network that you already have
detector = FusedOODDetector(net).fit(X / 16, y)
print(detector.predict(1 - X[:5] / 16))  # inverted images: -1 means unfamiliar
