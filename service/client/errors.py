"""Errors of the client, with the exit code of each.

ServiceError              1  the service rejected the request, or failed
├── ServiceUnreachable    1  no service answers at the address
├── AccessDenied          1  the API key is missing or not usable, or it lacks a scope (401, 403)
└── Conflict              1  the state of the job does not allow it (409)
"""

from pipelines.base.errors import PyramidionError


class ServiceError(PyramidionError):
    """The service rejected the request, or failed; the message is the detail of its problem response."""


class ServiceUnreachable(ServiceError):
    """No service answers at the address."""


class AccessDenied(ServiceError):
    """The API key is missing or not usable, or it lacks a scope."""


class Conflict(ServiceError):
    """The state of the job does not allow the request."""
