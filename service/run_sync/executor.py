"""An executor around another one: attempts work in scratch folders, whose content travels through object storage.

The inner executor knows the attempt by a folder on the node's disk, `SCRATCH/ATTEMPT/JOB/attempts/ATTEMPT`. Instead of
the command it runs `service.run_sync.node`, which runs the command there. Everything else of the service knows the
attempt by its folder in the run folder, to which the files come.
"""

import os
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from pipelines.run_folder.attempt_files import AttemptExit, AttemptFailure
from pipelines.run_folder.files import remove_folder
from pipelines.run_folder.layout import AttemptDir, RunDir
from pipelines.run_folder.log_text import log_tail
from service.child_process import python_command
from service.executors.base import AttemptSpec, Executor, ExecutorUnavailable, Observation
from service.executors.shim_contract import order_of
from service.resources import NODES, ResourceCounts
from service.run_sync.commits import JobObjects
from service.run_sync.handover import Handover
from service.run_sync.mirror import HandoverMirror
from service.run_sync.opening import run_objects, run_storage_url, scratch_root
from service.run_sync.order import KEPT, STORAGE_FAILED, NodeOrder, storage_variables
from service.run_sync.transfer import AttemptTransfer
from service.settings import Settings
from service.storage.objects import ObjectStore

FETCHING_DRIVER = "service.run_sync.ray_driver"


def with_run_storage(executor: Executor, settings: Settings) -> Executor:
    """Return an executor whose attempts need no shared disk if the settings say so, otherwise the same executor.

    Raises:
        ConfigError: the address of the storage is invalid, or boto3 is missing.
    """
    store = run_objects(settings)
    return executor if store is None else SyncedExecutor(executor, settings, store)


class SyncedExecutor:
    """The `Executor` of attempts that share no disk with the service.

    While the storage does not answer, nothing is known about the end of an attempt, so nothing is decided about it.
    """

    def __init__(self, inner: Executor, settings: Settings, store: ObjectStore) -> None:
        self._inner, self._settings, self._store = inner, settings, store
        self._scratch = scratch_root(settings)
        self.is_bound_to_host = getattr(inner, "is_bound_to_host", True)
        self._fetches_orders = getattr(inner, "fetches_orders", False)
        self._transfers: dict[Path, AttemptTransfer] = {}
        self._stopped_at: dict[Path, float] = {}

    @classmethod
    def check_requirements(cls, settings: Settings) -> None:
        raise NotImplementedError("the inner executor has requirements")

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        raise NotImplementedError("use with_run_storage")

    def capacity(self) -> ResourceCounts:
        """Return the resources of the inner executor, on one node: only one node pushes a run folder."""
        return {**self._inner.capacity(), NODES: 1}

    def assign(self, resources: ResourceCounts, in_use: Collection[str]) -> tuple[str, ...]:
        return self._inner.assign(resources, in_use)

    def start(self, spec: AttemptSpec) -> None:
        """Start an attempt, or let its start be prepared: then it is pending for a while, and absent again."""
        transfer, on_node = self._transfer(spec.folder), self._on_node(spec)
        if transfer.is_published:
            self._inner.start(on_node)
        else:
            transfer.publish(order_of(on_node, None))

    def poll(self, folder: Path) -> Observation:
        transfer = self._transfer(folder)
        if transfer.is_abandoned:
            return Observation("absent")
        if transfer.is_publishing:
            return Observation("pending")
        seen = self._inner.poll(self._node_folder(folder))
        if seen.kind in ("alive", "pending"):
            transfer.ended_at = None
            return seen
        transfer.end()
        if not transfer.has_everything:
            if transfer.problem is not None:
                raise ExecutorUnavailable(f"the files of its attempt do not arrive: {transfer.problem}")
            return Observation("pending" if seen.kind == "absent" else "alive")
        ending = AttemptExit.read_if_valid(AttemptDir(folder).exit_json)
        if ending is not None:
            return Observation("exited", ending.code, ending.ran_out_of_memory)
        if seen.exit_code == STORAGE_FAILED:
            self._write_failure(folder)
        if seen.kind == "absent" and transfer.is_withdrawn:
            return Observation("lost", reason="it was withdrawn before it ran")
        return seen

    def stop(self, folder: Path, *, kill: bool = False) -> None:
        """As the inner executor, but an attempt that was asked to exit has more time, in which its files are stored."""
        transfer = self._transfer(folder)
        if transfer.is_publishing:
            transfer.is_abandoned = True
            return
        transfer.withdraw()
        if kill and self._may_push(folder):
            return
        self._stopped_at.setdefault(folder, time.monotonic())
        self._inner.stop(self._node_folder(folder), kill=kill)

    def sweep(self, folder: Path) -> bool:
        node_folder = self._node_folder(folder)
        if self._may_push(folder) and self._inner.poll(node_folder).kind == "alive":
            return False
        if self._fetches_orders and not self._transfer(folder).withdraw():
            return False
        if not self._inner.sweep(node_folder):
            return False
        if (transfer := self._transfers.get(folder)) is not None and (transfer.has_everything or transfer.is_abandoned):
            transfer.stop()
            del self._transfers[folder]
            self._stopped_at.pop(folder, None)
        return True

    def sweep_orphans(self, known: Iterable[Path], below: Path) -> None:
        """As the inner executor; scratch folders of its machine that no attempt needs are removed."""
        found = list(self._scratch.glob("*/*/attempts/*")) if self._scratch.is_dir() else []
        wanted: list[Path] = []

        def on_nodes() -> Iterator[Path]:
            for folder in known:
                wanted.append(folder)
                yield self._node_folder(folder)

        folders = on_nodes()
        self._inner.sweep_orphans(folders, self._scratch)
        list(folders)  # the inner executor may not have read all
        for folder in [folder for folder in self._transfers if folder not in wanted]:
            self._transfers.pop(folder).stop()
        needed = {self._node_folder(folder) for folder in wanted}
        for node_folder in found:
            run_folder = node_folder.parent.parent
            if node_folder not in needed and not (run_folder / KEPT).exists():
                remove_folder(run_folder)

    def _may_push(self, folder: Path) -> bool:
        """Return whether an attempt that was asked to exit may still be storing its files."""
        stopped_at = self._stopped_at.get(folder)
        limit_s = self._settings.cancel_grace_s + self._settings.run_push_timeout_s
        return stopped_at is not None and time.monotonic() < stopped_at + limit_s

    def _transfer(self, folder: Path) -> AttemptTransfer:
        if folder not in self._transfers:
            run_folder, attempt = _parts(folder)
            objects, mirror = JobObjects(self._store, run_folder.name), None
            if self._fetches_orders:
                mirror = HandoverMirror(Handover(objects, attempt), self._node_folder(folder))
            self._transfers[folder] = AttemptTransfer(run_folder, objects, attempt, mirror)
        return self._transfers[folder]

    def _node_folder(self, folder: Path) -> Path:
        run_folder, attempt = _parts(folder)
        return RunDir.of(self._scratch / str(attempt) / run_folder.name).attempt(attempt)

    def _on_node(self, spec: AttemptSpec) -> AttemptSpec:
        """Return the specification of the same attempt on a node: other paths, and the command below another one."""
        run_folder, attempt = _parts(spec.folder)
        node_folder = self._node_folder(spec.folder)
        scratch = node_folder.parent.parent
        storage = run_storage_url(self._settings)
        assert storage is not None
        push_timeout_s = self._settings.run_push_timeout_s
        order = NodeOrder(
            storage, self._settings.storage_timeout_s, push_timeout_s, run_folder.name, attempt, spec.grace_s,
            str(scratch),
        )  # fmt: skip

        def moved(text: str) -> str:
            return text.replace(str(run_folder), str(scratch))

        # A driver that fetches its order reaches the storage already, so that the order needs no credentials of it.
        fetches = self._fetches_orders
        return replace(
            spec,
            folder=node_folder,
            command=(*python_command("service.run_sync.node"), *map(moved, spec.command)),
            environment={
                **{name: moved(text) for name, text in spec.environment.items()},
                **order.variables(),
                **({} if fetches else storage_variables(os.environ)),
            },
            cwd=node_folder,
            # The shim counts from the same moment, and the command itself has no more time than before.
            grace_s=spec.grace_s + push_timeout_s,
            fetching_driver=(FETCHING_DRIVER, order.to_json()) if fetches else (),
        )

    def _write_failure(self, folder: Path) -> None:
        """Record why the attempt has failed: its own log could not be stored."""
        limit_s = self._settings.run_push_timeout_s
        message = f"the storage of run folders could not be used for {limit_s:g} s (PYRAMIDION_RUN_PUSH_TIMEOUT_S)"
        lines = log_tail(AttemptDir(self._node_folder(folder)).log)
        AttemptFailure("internal", "; ".join([message, *lines[-1:]])).write(AttemptDir(folder).failure_json)


def _parts(folder: Path) -> tuple[Path, int]:
    """Return the run folder of an attempt's folder, and the number of the attempt."""
    return folder.parent.parent, int(folder.name)
