"""One frozen specification a step: the single source of every knob.

Command-line flags, the keys of ``pipelines.yaml``, the arguments of the functions in ``relope`` and
what a pipeline knows of a step's inputs are all made from these classes. A field's description is
its ``--help``; markers beside its type say what it is (`relope.fields`).
"""

from relope.fields import SPECS, Spec, build

# In the order in which `relope --help` shows the steps.
# ruff: noqa: I001
from relope.spec.extraction import ExtractSpec, PlanSpec, CaptionSpec, GradeSpec, ImportSpec
from relope.spec.routers import FitSpec, SweepSpec, ExplainSpec, ExportSpec, PredictSpec
from relope.spec.serving import CalibrateSpec, RouteSpec, ServeSpec, VllmCommandSpec
from relope.spec.reports import RecommendSpec, EvaluateSpec, ViewSpec, StudySpec, CompareSpec
from relope.spec.sharing import (
    StoreInfoSpec,
    StoreVerifySpec,
    StoreConvertSpec,
    StorePushSpec,
    StorePullSpec,
    RouterPushSpec,
    RouterPullSpec,
    StoreLsSpec,
    StoreMergeSpec,
    StoreGcSpec,
)
from relope.spec.machine import DoctorSpec

__all__ = [
    "SPECS",
    "CalibrateSpec",
    "CaptionSpec",
    "CompareSpec",
    "DoctorSpec",
    "EvaluateSpec",
    "ExplainSpec",
    "ExportSpec",
    "ExtractSpec",
    "FitSpec",
    "GradeSpec",
    "ImportSpec",
    "PlanSpec",
    "PredictSpec",
    "RecommendSpec",
    "RouteSpec",
    "RouterPullSpec",
    "RouterPushSpec",
    "ServeSpec",
    "Spec",
    "StoreConvertSpec",
    "StoreGcSpec",
    "StoreInfoSpec",
    "StoreLsSpec",
    "StoreMergeSpec",
    "StorePullSpec",
    "StorePushSpec",
    "StoreVerifySpec",
    "StudySpec",
    "SweepSpec",
    "ViewSpec",
    "VllmCommandSpec",
    "build",
]
