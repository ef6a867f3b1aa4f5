"""Rules that merge task vectors, which are differences between fine-tuned networks and a base."""

from ._dare import DARE as DARE
from ._task_arithmetic import TaskArithmetic as TaskArithmetic
from ._ties import TIES as TIES
from ._wise_ft import WiSEFT as WiSEFT
