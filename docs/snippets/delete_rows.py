from sklearn.datasets import load_wine
from sklearn_ext import ForgettingScaler, RandomFeatureRegressor, make_forgetting_pipeline

X = load_wine().data  # alcohol, and twelve other properties of 178 wines
model = make_forgetting_pipeline(ForgettingScaler(), RandomFeatureRegressor(gamma=0.01, alpha=0.1))
lower, upper = model.fit(X[:, 1:], X[:, 0]).predict_interval(X[:1, 1:], alpha=0.1)
print(model.forget([3, 141]).certificate(audit=True))  # rows 3 and 141 have left every step
