import torch
from torch import nn

from ..neural import seeded


class ModuleStoredByArrays(nn.Module):
    """A module whose stored form is its constructor's arguments and arrays of weights.

    So it passes through skops, which takes no tensors, and opens on a machine without the device
    that it was on.

    Parameters
    ----------
    **arguments
        Those of the subclass's constructor.
    """

    def __init__(self, **arguments):
        super().__init__()
        self.arguments = arguments

    def __getstate__(self):
        tensors = self.state_dict()
        return {
            "arguments": self.arguments,
            "weights": {name: tensor.cpu().numpy() for name, tensor in tensors.items()},
            "frozen": [name for name, p in self.named_parameters() if not p.requires_grad],
            "device": str(next(iter(tensors.values())).device),
            "training": self.training,
        }

    def __setstate__(self, state):
        with seeded(0):  # any weights will do, they are replaced
            self.__init__(**state["arguments"])
        weights = {name: torch.from_numpy(w.copy()) for name, w in state["weights"].items()}
        self.load_state_dict(weights)
        for name in state["frozen"]:
            self.get_parameter(name).requires_grad_(False)
        self.train(state["training"])
        if state["device"] != "cpu" and _is_there(state["device"]):
            self.to(state["device"])


def _is_there(device):
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True
