from .known_latents import KnownLatents as KnownLatents
from .path import GuidanceScale as GuidanceScale
from .path import LogitNormal as LogitNormal
from .path import RectifiedPath as RectifiedPath
from .path import expand_like as expand_like
from .path import mix as mix
from .path import seeded_generator as seeded_generator
