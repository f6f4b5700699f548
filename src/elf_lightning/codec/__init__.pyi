from .latents import Embedder as Embedder
from .latents import LatentStatistics as LatentStatistics
from .text_codec import TextCodec as TextCodec
from .vocabulary import PadMode as PadMode
from .vocabulary import RestrictedVocabulary as RestrictedVocabulary
from .vocabulary import SpecialIds as SpecialIds
from .vocabulary import Vocabulary as Vocabulary
