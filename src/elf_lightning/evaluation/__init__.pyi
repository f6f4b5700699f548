from .in_trainer import ModelEvaluation as ModelEvaluation
from .references import ReferenceTexts as ReferenceTexts
from .references import shuffled as shuffled
from .settings import EvaluationSettings as EvaluationSettings
