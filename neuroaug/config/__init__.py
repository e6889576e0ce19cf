"""What is asked of each stage: frozen pydantic models, read from ``neuroaug.yaml``.

Every key has a default; an unknown key is refused with the nearest known one.
"""

from neuroaug.config.cell import CLASSIFIERS, OPTIMISED, Cell, Control
from neuroaug.config.generator_settings import FamilySettings, GeneratorConfig
from neuroaug.config.label_settings import CUSTOM, LabelRules
from neuroaug.config.law_settings import LawConfig
from neuroaug.config.section import PUBLISHED_LABELS, Resolution, Steps
from neuroaug.config.stage_settings import (
    ClassifierSpec,
    CurveConfig,
    EvaluationConfig,
    PhantomConfig,
    PreprocessingConfig,
    SearchConfig,
    SplitConfig,
    SynthesisConfig,
)
from neuroaug.config.study_config import (
    ExternalConfig,
    StudyConfig,
    parse_config,
    read_config,
    write_config,
)

__all__ = [
    "CLASSIFIERS",
    "CUSTOM",
    "OPTIMISED",
    "PUBLISHED_LABELS",
    "Cell",
    "ClassifierSpec",
    "Control",
    "CurveConfig",
    "EvaluationConfig",
    "ExternalConfig",
    "FamilySettings",
    "GeneratorConfig",
    "LabelRules",
    "LawConfig",
    "PhantomConfig",
    "PreprocessingConfig",
    "Resolution",
    "SearchConfig",
    "SplitConfig",
    "Steps",
    "StudyConfig",
    "SynthesisConfig",
    "parse_config",
    "read_config",
    "write_config",
]
