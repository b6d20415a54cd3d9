"""The processes of the service that can be started by themselves."""

from enum import StrEnum


class Part(StrEnum):
    """A process of the service, by the name of its command."""

    API = "api"
    SUPERVISOR = "supervisor"
    PREDICTOR = "predictor"


WHOLE = (Part.API, Part.SUPERVISOR)
"""The parts of `pyramidion serve`, where the API starts its own predictor."""
