from .evaluate import Evaluation as Evaluation
from .evaluate import evaluate as evaluate
from .references import ReferenceTexts as ReferenceTexts
from .references import shuffled as shuffled
from .settings import EvaluationSettings as EvaluationSettings
from .settings import PublishedScores as PublishedScores
