"""Classes and identities of an image, which decide how often samplers draw it. Torch-free."""

from pipelines.base.records import BoxLabel, ImageRecord


def classes_of(record: ImageRecord, task: str) -> set[str] | None:
    """Return the classes of an image for a task, except those of crowd boxes; None if it is not labeled for it."""
    labels = record.labels.get(task)
    if labels is None:
        return None
    return {
        label.category if isinstance(label, BoxLabel) else label
        for label in labels
        if not (isinstance(label, BoxLabel) and label.is_crowd)
    }


def identities_of(record: ImageRecord, task: str) -> set[str]:
    """Return the known identities of an image for an embedding task, without those of crowd boxes."""
    identities = {
        label.identity if isinstance(label, BoxLabel) else label
        for label in record.labels.get(task, ())
        if not (isinstance(label, BoxLabel) and label.is_crowd)
    }
    return {identity for identity in identities if identity is not None}
