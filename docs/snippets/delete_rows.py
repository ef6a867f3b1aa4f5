from sklearn.datasets import load_breast_cancer
from sklearn_ext import ForgettingScaler, RandomFeatureClassifier, make_forgetting_pipeline

X, y = load_breast_cancer(return_X_y=True)
model = make_forgetting_pipeline(ForgettingScaler(), RandomFeatureClassifier(random_state=0))
model.fit(X[:400], y[:400]).forget([3, 141])  # as if rows 3 and 141 had never been there
print(f"accuracy on new rows: {model.score(X[400:], y[400:]):.2f}")
