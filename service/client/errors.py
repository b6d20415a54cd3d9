"""What goes wrong between a client and a service.

ServiceError              1  the service refuses, or has failed
├── ServiceUnreachable    1  nobody answers
└── Conflict              1  not in this state of the job (409)
"""

from pipelines.errors import PyramidionError


class ServiceError(PyramidionError):
    """The service refuses, or has failed; the message is its own."""


class ServiceUnreachable(ServiceError):
    """Nobody answers at the service's address."""


class Conflict(ServiceError):
    """What is asked for is not possible in the job's state."""
