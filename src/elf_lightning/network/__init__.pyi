from .config import PRESETS as PRESETS
from .config import NetworkConfig as NetworkConfig
from .projections import full_precision as full_precision
from .transformer import ELFNetwork as ELFNetwork
