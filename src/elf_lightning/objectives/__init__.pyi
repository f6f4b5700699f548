from .base import Objective as Objective
from .draws import Draws as Draws
from .draws import StepKey as StepKey
from .flow_matching import ELFObjective as ELFObjective
from .losses import Losses as Losses
