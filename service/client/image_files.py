"""Image files that are sent to a service, and the errors about them."""

from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.printable import printable
from pipelines.tasks.thresholds import ClassUnknown, ThresholdUnusable

_OF_ALL_IMAGES: dict[str, type[ConfigError]] = {"threshold": ThresholdUnusable, "classes": ClassUnknown}
"""Errors about what is kept of the answers, which are the same for every image, by field."""


def read_image(path: Path) -> bytes:
    """Return the content of an image file; raises ConfigError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"cannot be read ({error.strerror}); pass an image file"
        raise ConfigError(FieldProblem(printable(str(path)), message)) from error


def is_about_all_images(error: ConfigError) -> bool:
    """Return whether an error of a request would be the same for any other image."""
    return isinstance(error, tuple(_OF_ALL_IMAGES.values()))


def error_of_image(path: Path, error: ConfigError) -> ConfigError:
    """Return the error of a predict request with one image: it names the file, unless it is about all images."""
    for field, kind in _OF_ALL_IMAGES.items():
        if any(problem.field == field for problem in error.problems):
            return kind(error.problems)
    return ConfigError([FieldProblem(printable(str(path)), problem.message) for problem in error.problems])
