"""The objects by which an attempt is handed over to a driver on a node that shares no disk with the service.

    jobs/JOB/ATTEMPT/handover/order         the order, with the credentials of the attempt
    jobs/JOB/ATTEMPT/handover/taker-TOKEN   a driver asks to run the attempt
    jobs/JOB/ATTEMPT/handover/withdrawn     the service asks that nobody runs it
    jobs/JOB/ATTEMPT/handover/ending        see `Ending`

Not every server can store an object only if its key is unused. So each party stores an object of its own first, and
then lists those of all. A driver runs the attempt only if it finds itself alone. Of two parties, the one that lists
last finds the other: two drivers never run the attempt, and none does once the service has found its own object alone.
If both find each other, nobody runs it. The storage must list every object that was stored before, as S3 does.
"""

import io
import json
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from pipelines.run_folder.attempt_files import AttemptExit
from service.executors.shim_contract import Order
from service.run_sync.commits import ORDER, CommitDamaged, JobObjects
from service.storage.objects import ObjectMissing

_TAKER, _WITHDRAWN, _ENDING = "taker-", "withdrawn", "ending"


class Decision(StrEnum):
    """The state of a handover.

    MISSING: there is no order yet. WAITING: a driver may take the order. TAKEN: at most one driver runs the attempt.
    WITHDRAWN: nobody will ever run it.
    """

    MISSING = "missing"
    WAITING = "waiting"
    TAKEN = "taken"
    WITHDRAWN = "withdrawn"


class Ending(BaseModel):
    """The end of an attempt on its node.

    Attributes:
        exit: of its shim.
        log: the last lines of the log, if they are not stored otherwise.
    """

    model_config = ConfigDict(frozen=True)

    exit: AttemptExit
    log: str = ""


class Handover:
    """The handover of one attempt. Its methods raise StorageError.

    Args:
        objects: of the job.
        attempt: number of the attempt.
    """

    def __init__(self, objects: JobObjects, attempt: int) -> None:
        self._objects, self._attempt = objects, attempt

    def publish(self, order: Order) -> None:
        """Store the order, so that a driver can take it."""
        self._put(ORDER, json.dumps(order).encode())

    def take(self, token: str) -> Order | None:
        """Return the order, which nobody else will run; None if the attempt is withdrawn, or another driver's.

        Args:
            token: of this driver, which may repeat its request.
        """
        taker = f"{_TAKER}{token}"
        self._put(taker)
        if self._names() - {ORDER} != {taker}:
            return None
        # Read last: decisions are deleted after their orders.
        content = self._read(ORDER)
        return None if content is None else json.loads(content)

    def withdraw(self) -> None:
        """Ask that nobody runs the attempt; `decision` shows whether a driver was earlier."""
        self._put(_WITHDRAWN)

    def decision(self) -> Decision:
        """Return the decision about the attempt; TAKEN and WITHDRAWN are final."""
        names = self._names()
        if any(name.startswith(_TAKER) for name in names):
            return Decision.TAKEN
        if _WITHDRAWN in names:
            return Decision.WITHDRAWN
        return Decision.WAITING if ORDER in names else Decision.MISSING

    def delete_order(self) -> None:
        """Delete the order, which nobody needs any more."""
        self._objects.store.delete([self._key(ORDER)])

    def report(self, ending: Ending) -> None:
        """Store the end of the attempt."""
        self._put(_ENDING, ending.model_dump_json().encode())

    def ending(self) -> Ending | None:
        """Return the end of the attempt, if it was reported."""
        content = self._read(_ENDING)
        try:
            return None if content is None else Ending.model_validate_json(content)
        except ValueError as error:
            label = self._objects.store.label
            raise CommitDamaged(f"{label}: {self._key(_ENDING)} is not the end of an attempt: {error}") from error

    def _key(self, name: str) -> str:
        return self._objects.handover_prefix(self._attempt) + name

    def _names(self) -> set[str]:
        prefix = self._key("")
        return {key.removeprefix(prefix) for key in self._objects.store.keys(prefix)}

    def _put(self, name: str, content: bytes = b"") -> None:
        self._objects.store.put(self._key(name), io.BytesIO(content))

    def _read(self, name: str) -> bytes | None:
        try:
            return b"".join(self._objects.store.read(self._key(name)))
        except ObjectMissing:
            return None
