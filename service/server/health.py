"""The health of each part of the service, for the health checks of containers, which have no HTTP client."""

import http.client
import time

from pipelines.base.errors import ConfigError, FieldProblem
from service.predictor_address import PredictorAddress, health_problem
from service.server.parts import Part
from service.settings import Settings

TIMEOUT_S = 5.0
LOOK_S = 0.2
LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses by which this machine reaches a process that listens at all of its addresses."""


def find_problem(part: Part, settings: Settings) -> str | None:
    """Return why a part of the service is not healthy, or None if it is."""
    checks = {
        Part.API: _find_problem_of_api,
        Part.SUPERVISOR: _find_problem_of_supervisor,
        Part.PREDICTOR: _find_problem_of_predictor,
    }
    return checks[part](settings)


def _find_problem_of_api(settings: Settings) -> str | None:
    status, answer = get(settings, "/livez")
    if status == 200:
        return None
    if status == 0:
        return f"{settings.url_of_api}/livez does not answer; see the log of `pyramidion serve`"
    return f"{settings.url_of_api}/livez answers {status}: {answer[:1000].decode(errors='replace')}"


def _find_problem_of_supervisor(settings: Settings) -> str | None:
    """Wait for a heartbeat in the database: its time is that of another clock."""
    # SQLAlchemy takes a while to import, and `pyramidion serve` never needs it.
    from service.store.database import open_existing_database
    from service.store.engines import DatabaseLimits
    from service.store.errors import StoreError
    from service.store.jobs import JobStore

    deadline = time.monotonic() + settings.lease_s
    try:
        limits = DatabaseLimits(lock_s=TIMEOUT_S, statement_s=TIMEOUT_S, connections=1)
        store = JobStore(open_existing_database(settings.url_of_database, limits))
        first = lease = store.supervisor_lease()
        while lease is not None and first is not None and lease.owner is not None and lease.beat == first.beat:
            if time.monotonic() > deadline:
                return (
                    f"the supervisor (process {lease.pid} on host {lease.host}) has sent no heartbeat for "
                    f"{settings.lease_s:g} s; see its log"
                )
            time.sleep(LOOK_S)
            lease = store.supervisor_lease()
    except (StoreError, ValueError) as error:
        return f"the database cannot be used: {error}"
    if lease is None or lease.owner is None:
        return "no supervisor is running; start one with `pyramidion serve` or `pyramidion serve supervisor`"
    return None


def _find_problem_of_predictor(settings: Settings) -> str | None:
    return health_problem(find_predictor_address(settings), settings.predictor_check_timeout_s)


def find_predictor_address(settings: Settings) -> PredictorAddress:
    """Return the address of a predictor that runs by itself; raises ConfigError if it is missing."""
    address = settings.address_of_predictor
    if address is None:
        problem = "missing; write the address at which the API reaches the predictor, http://HOST:PORT or unix:/PATH"
        raise ConfigError(FieldProblem("--predictor-url or PYRAMIDION_PREDICTOR_URL", problem))
    return address


def get(settings: Settings, path: str, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
    """Return status and body of an answer of the API; the status is 0 if there is no answer."""
    host = LOOPBACK_OF.get(settings.host, settings.host)
    connection = http.client.HTTPConnection(host, settings.port, timeout=timeout_s)
    try:
        # A name that the API always accepts.
        connection.request("GET", path, headers={"Host": "localhost"})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
