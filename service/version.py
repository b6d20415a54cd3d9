"""The version of this package."""

from importlib import metadata


def version() -> str:
    """Return the installed version, or a note that this is a source tree."""
    try:
        return metadata.version("pyramidion")
    except metadata.PackageNotFoundError:
        return "(a source tree that is not installed)"
