"""The handover of one attempt beside the service: its executor sees files as on a disk that it shares with the node."""

from pathlib import Path

from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import AttemptDir
from service.executors.ray.order import OrderFile
from service.executors.shim_contract import Order
from service.run_sync.handover import Decision, Handover


class HandoverMirror:
    """Writes what the storage says about an attempt into its folder. Its methods raise StorageError and OSError.

    The folder may be that of the node, if both are one machine.

    Args:
        handover: of the attempt.
        folder: by which the inner executor knows the attempt, on the disk of the service.

    Attributes:
        withdraws: whether nobody may take the order any more.
        decision: as the storage was when `follow` last asked it.
    """

    def __init__(self, handover: Handover, folder: Path) -> None:
        self._handover, self._folder = handover, folder
        self.withdraws = False
        self.decision = Decision.MISSING
        self._has_ending = False

    @property
    def is_decided(self) -> bool:
        """True once it is known whether a driver may run the attempt; its folder shows it then."""
        return self.decision in (Decision.TAKEN, Decision.WITHDRAWN)

    def publish(self, order: Order) -> None:
        """Store the order of the attempt."""
        self._handover.publish(order)

    def follow(self) -> None:
        """Let the folder show whether the order waits, was taken or was withdrawn."""
        if self.is_decided:
            return
        if self.withdraws:
            self._handover.withdraw()
        found, file = self._handover.decision(), OrderFile(self._folder)
        if found is Decision.WITHDRAWN:
            self._handover.delete_order()
            file.withdraw()
        elif found is not Decision.MISSING:
            file.mark(is_taken=found is Decision.TAKEN)
        self.decision = found

    def find_ending(self) -> None:
        """Let the folder show the end of the attempt, if it was reported."""
        if self._has_ending or (ending := self._handover.ending()) is None:
            return
        files = AttemptDir(self._folder)
        if ending.log and not files.log.exists():
            write_atomic(files.log, ending.log)
        ending.exit.write(files.exit_json)
        self._has_ending = True
