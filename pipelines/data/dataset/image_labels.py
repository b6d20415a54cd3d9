"""What of an image's labels decides how often it is drawn. Torch-free."""

from pipelines.records import BoxLabel, ImageRecord


def classes_of(record: ImageRecord, task: str) -> set[str] | None:
    """Return the classes that an image has for a task, of crowd boxes none; None where it is not labeled for it."""
    labels = record.labels.get(task)
    if labels is None:
        return None
    return {
        label.category if isinstance(label, BoxLabel) else label
        for label in labels
        if not (isinstance(label, BoxLabel) and label.is_crowd)
    }


def identities_of(record: ImageRecord, task: str) -> set[str]:
    """Return the identities that an image shows for an embedding task, of crowd boxes and unknown ones none."""
    identities = {
        label.identity if isinstance(label, BoxLabel) else label
        for label in record.labels.get(task, ())
        if not (isinstance(label, BoxLabel) and label.is_crowd)
    }
    return {identity for identity in identities if identity is not None}
