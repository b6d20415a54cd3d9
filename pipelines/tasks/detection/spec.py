"""Detection tasks in the document. Torch-free."""

from heads.detection_spec import DetectionHeadSpec
from pipelines.tasks.base import TaskSpec, add_head_settings


class DetectionSpec(DetectionHeadSpec, TaskSpec):
    """Settings of every detection task."""


DETECTION_SPECS = add_head_settings(DetectionSpec)
