"""Labels that a retrained model would give; names outside `__all__` are internal."""

from ._label_model import (
    LabelModelSummary,
    UnseenOutputs as UnseenOutputs,
    draw_samples as draw_samples,
    fit_classifier as fit_classifier,
    fit_label_model as fit_label_model,
    held_out_samples as held_out_samples,
)
from ._muso_labels import (
    HeadLabels as HeadLabels,
    call_label_function as call_label_function,
    given_targets as given_targets,
    predicted_targets as predicted_targets,
    projected_scores,
)

__all__ = ["LabelModelSummary", "projected_scores"]
