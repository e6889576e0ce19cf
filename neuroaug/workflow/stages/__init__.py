"""The stages of the protocol, in order. A new stage is one file here and its place in the list."""

from __future__ import annotations

from neuroaug.workflow.stage import Stage
from neuroaug.workflow.stages.augment_stage import AugmentStage
from neuroaug.workflow.stages.evaluate_stage import EvaluateStage
from neuroaug.workflow.stages.phantom_stage import PhantomStage
from neuroaug.workflow.stages.preprocess_stage import PreprocessStage
from neuroaug.workflow.stages.report_stage import ReportStage
from neuroaug.workflow.stages.search_stage import SearchStage
from neuroaug.workflow.stages.split_stage import SplitStage
from neuroaug.workflow.stages.summarise_stage import SummariseStage
from neuroaug.workflow.stages.train_stage import TrainStage

STAGES: tuple[Stage, ...] = (
    PhantomStage(),
    PreprocessStage(),
    SplitStage(),
    TrainStage(),
    AugmentStage(),
    SearchStage(),
    EvaluateStage(),
    SummariseStage(),
    ReportStage(),
)
