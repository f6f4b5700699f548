from .base import Draws as Draws
from .base import Losses as Losses
from .base import Objective as Objective
from .base import StepKey as StepKey
from .distillation import DistillationDraws as DistillationDraws
from .distillation import ProgressiveDistillation as ProgressiveDistillation
from .distillation import RolloutDistillation as RolloutDistillation
from .flow_matching import ELFObjective as ELFObjective
