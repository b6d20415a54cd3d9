"""Errors of data sets, in addition to those of `service.store.errors` and `service.storage.base`.

DatasetError
├── ArchiveInvalid    the archive is not supported, damaged, unsafe, or exceeds a limit
└── FolderInvalid     the folder below a data root does not exist, or is not allowed
"""


class DatasetError(Exception):
    """Base of the errors of data sets; the message is for the client."""


class ArchiveInvalid(DatasetError):
    """The archive is not supported, damaged, unsafe, or exceeds a limit."""


class FolderInvalid(DatasetError):
    """The folder below a data root does not exist, or is not allowed."""
