import pytest
import torch

from sklearn_ext.ood.orthloss._feature_geometry import separation_report


def test_it_knows_the_row_space_from_what_is_outside():
    weight = torch.eye(6, dtype=torch.float64)[:3] * torch.tensor([[1.0], [2.0], [30.0]])
    bias = torch.zeros(3, dtype=torch.float64)
    inside = torch.eye(6, dtype=torch.float64)[:3]
    halfway = torch.tensor([[3.0, 0.0, 0.0, 0.0, 4.0, 0.0]], dtype=torch.float64)
    outside = torch.eye(6, dtype=torch.float64)[3:]
    report = separation_report(inside, outside, weight, bias)
    assert report["id_cosine"] == pytest.approx(1 / 3)
    assert report["id_residual"] == pytest.approx(0.0, abs=1e-7)
    assert report["outlier_cosine"] == 0.0
    assert report["outlier_residual"] == 1.0
    assert report["outliers_like_id"] == 0.0
    report = separation_report(inside, halfway, weight, bias)
    assert report["outlier_cosine"] == pytest.approx(0.6 / 3)
    assert report["outlier_residual"] == pytest.approx(0.8)
    # Of the three, only the row of the third class is both aligned and sure.
    assert separation_report(inside, inside, weight, bias)["outliers_like_id"] == pytest.approx(
        1 / 3
    )
