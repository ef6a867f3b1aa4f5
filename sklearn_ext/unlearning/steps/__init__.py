"""Training steps that the unlearning methods share; names outside `__all__` are internal."""

from ._fast_slow import (
    SCHEDULES as SCHEDULES,
    FastSlowConfig,
    ascent_weights as ascent_weights,
    endless_batches as endless_batches,
    fast_slow,
    weighted_ascent as weighted_ascent,
)
from ._fine_tuning import (
    OPTIMIZERS as OPTIMIZERS,
    FineTuneConfig,
    FineTuning as FineTuning,
    Guard as Guard,
    Mask as Mask,
    Monitor as Monitor,
    Record as Record,
    fine_tune as fine_tune,
    forward as forward,
    has_running_statistics as has_running_statistics,
    make_optimizer as make_optimizer,
    private_randomness as private_randomness,
)
from ._masks import (
    balanced_mask,
    density as density,
    squared_batch_gradients as squared_batch_gradients,
    squared_sample_gradients as squared_sample_gradients,
    summed_gradients as summed_gradients,
    top_fraction_mask as top_fraction_mask,
)

__all__ = ["FastSlowConfig", "FineTuneConfig", "balanced_mask", "fast_slow"]
