"""The order of an attempt, which is also the permission to start it.

Whoever renames or removes the file first, the driver on a node or the executor, decides whether the attempt runs.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pipelines.run_folder.files import rename_synced
from service.executors.base import AttemptSpec
from service.executors.shim_contract import ORDER_PREFIX, order_of, order_path, write_order

TAKEN = f"{ORDER_PREFIX}taken.json"


@dataclass(frozen=True)
class OrderFile:
    """The order in the folder of an attempt.

    Attributes:
        folder: the attempt's folder.
    """

    folder: Path

    @property
    def is_waiting(self) -> bool:
        """True if a driver can still take the order."""
        return order_path(self.folder).exists()

    @property
    def is_taken(self) -> bool:
        """True if a driver has taken the order, and has not seen the attempt start yet."""
        return self._taken.exists()

    def write(self, spec: AttemptSpec) -> None:
        """Write the order of an attempt; raises OSError."""
        write_order(self.folder, order_of(spec, None))

    def mark(self, *, is_taken: bool) -> None:
        """Let the folder show the state of an order that nodes find elsewhere; raises OSError."""
        path = self._taken if is_taken else order_path(self.folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The file may be there with content, which remains.
        path.touch(mode=0o600)

    def take(self, devices: tuple[str, ...]) -> AttemptSpec | None:
        """Return the attempt, which nobody else can start any more; None if it was taken or withdrawn before.

        Args:
            devices: the devices that it gets.
        """
        try:
            rename_synced(order_path(self.folder), self._taken, content_is_synced=True)
        except FileNotFoundError:
            return None
        return self.read_taken(devices)

    def read_taken(self, devices: tuple[str, ...]) -> AttemptSpec:
        """Return the attempt of an order that was taken; raises OSError if it was removed since."""
        order = json.loads(self._taken.read_bytes())
        return AttemptSpec(
            self.folder,
            tuple(order["command"]),
            order["environment"],
            Path(order["cwd"]),
            order["grace_s"],
            {},
            devices,
        )

    def withdraw(self) -> None:
        """Remove an order that nobody has taken."""
        order_path(self.folder).unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove an order that was taken, once the attempt has started or cannot start."""
        self._taken.unlink(missing_ok=True)

    @property
    def _taken(self) -> Path:
        return self.folder / TAKEN
