"""OrthLoss: fine-tune a classifier so that features of outliers are orthogonal to all classes."""

from ._feature_geometry import row_space_score as row_space_score
from ._fine_tuning import (
    OrthLossConfig as OrthLossConfig,
    OrthLossResult as OrthLossResult,
    fine_tune_with_outliers as fine_tune_with_outliers,
)
from ._orthloss import OrthLossOODDetector as OrthLossOODDetector
from ._separation_losses import (
    clustering_loss as clustering_loss,
    fine_tuning_loss as fine_tuning_loss,
    outlier_exposure_loss as outlier_exposure_loss,
    separation_loss as separation_loss,
)
from ._separation_net import SeparationNet as SeparationNet
from ._synthetic_outliers import make_synthetic_outliers as make_synthetic_outliers
