from .pretrained import ELF as ELF
from .samples import Sample as Sample
from .samples import Stage as Stage
