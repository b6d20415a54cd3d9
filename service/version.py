"""Which version this is."""

from importlib import metadata


def version() -> str:
    """Return the installed version, or what says that this is a source tree."""
    try:
        return metadata.version("pyramidion")
    except metadata.PackageNotFoundError:
        return "(a source tree that is not installed)"
