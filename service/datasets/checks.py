"""Run the data checks of uploaded data sets, each in a process of its own.

The claims are in the database, so that any number of API processes share the work: a check whose API process was killed
is repeated by the next one that runs, because its claim expires.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

from pipelines.base.errors import ExitCode
from pipelines.base.links import LINKS_VARIABLE
from pipelines.run_folder.files import rename_synced
from pipelines.run_folder.layout import CACHE_VARIABLE
from service.child_process import child_environment, die_with_parent, python_command
from service.datasets.deletion import delete_content
from service.datasets.folder import CheckRequest, DatasetFolder, check_folder, check_folders, version_folder
from service.executors.process_tree import kill
from service.inherited_environment import inherited_environment
from service.settings import PREFIX, Settings
from service.storage.base import ArchiveStorage, StorageError
from service.store.dataset_records import CheckedDataset, DatasetVersion
from service.store.datasets import DatasetStore
from service.store.errors import StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")

LEASE_S = 15.0
"""A check is repeated by another process if its owner has not renewed its claim for this time."""
RENEW_EVERY_S = 4.0
LOOK_EVERY_S = 2.0
RETRY_DELAY_S = 10.0
MAX_RETRY_DELAY_S = 320.0
MAX_ATTEMPTS = 5
"""A check that ended unexpectedly this often makes the version invalid. Waiting for storage or space has no limit."""
NEEDED = ("ROOT", "DATA_ROOTS", "STORAGE_", "DATASET_", "MIN_FREE_")
"""Starts of the settings that the process of a check needs."""


class Threads(Protocol):
    """Runs blocking calls in threads; an error of its own ends a check, which another process repeats then."""

    async def run(self, function: Callable[[], T], /) -> T:
        """Return the result of a call."""


class DatasetChecks:
    """Starts checks that are due, as long as `run` runs."""

    def __init__(self, store: DatasetStore, storage: ArchiveStorage, settings: Settings, threads: Threads) -> None:
        self._store, self._storage, self._settings, self._threads = store, storage, settings, threads
        self._is_due = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look for checks that are due now."""
        self._is_due.set()

    async def run(self) -> None:
        """Start checks until this task is cancelled; then kill those that are running."""
        try:
            while True:
                self._is_due.clear()
                await self._try(self._finish_deletions)
                await self._try(self._start_due)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._is_due.wait(), LOOK_EVERY_S)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except StoreError as error:
            log.warning("data checks wait: %s", error)
        except Exception as error:  # one damaged row, for example, must not end all checks
            log.error("data checks: %s: %s", type(error).__name__, error)

    async def _start_due(self) -> None:
        while len(self._running) < self._settings.dataset_checks:
            # Each claim has an owner of its own: after a jump of the clock, this process may claim a version again.
            owner = uuid.uuid4().hex
            version = await self._call(partial(self._store.claim_check, owner, LEASE_S))
            if version is None:
                return
            task = asyncio.create_task(self._check(version, owner))
            self._running.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a data check failed unexpectedly", exc_info=error)

    async def _check(self, version: DatasetVersion, owner: str) -> None:
        folder = check_folder(self._settings.datasets_dir, version.id, owner)
        try:
            await self._call(partial(self._prepare, version, folder))
            code = await self._run_process(version, owner, folder)
            if code is not None:
                await self._call(partial(self._record, version, owner, folder, code))
        except TimeoutError:
            message = (
                f"the check was killed after {self._settings.dataset_check_timeout_s:g} s; divide the data set, or let "
                "the operator raise PYRAMIDION_DATASET_CHECK_TIMEOUT_S"
            )
            await self._call(partial(self._give_up, version, owner, message))
        except OSError as error:
            log.warning("data set %s: %s", version.reference, error)
            await self._call(partial(self._postpone, version, owner, f"the server cannot check it ({error.strerror})"))
        except StoreError as error:
            log.warning("data set %s: %s; its check is repeated", version.reference, error)
        except asyncio.CancelledError:
            # The next process need not wait until the claim expires.
            await asyncio.shield(self._call(partial(self._store.postpone_check, version.id, owner, 0.0)))
            raise
        finally:
            await asyncio.shield(self._call(partial(shutil.rmtree, folder.path, ignore_errors=True)))

    def _prepare(self, version: DatasetVersion, folder: DatasetFolder) -> None:
        for stale in check_folders(self._settings.datasets_dir, version.id):
            shutil.rmtree(stale, ignore_errors=True)
        folder.path.mkdir(parents=True)
        used = self._store.used_bytes(version.tenant) - version.files_bytes
        request = CheckRequest(
            id=version.id, name=version.name, reference=version.reference, content_sha256=version.content_sha256,
            folder=version.folder, sources=version.sources,
            max_bytes=max(0, self._settings.dataset_quota_bytes - used), is_for_jobs=version.of_jobs,
        )  # fmt: skip
        folder.request.write_text(request.model_dump_json(), "utf-8")

    async def _run_process(self, version: DatasetVersion, owner: str, folder: DatasetFolder) -> int | None:
        """Return the exit code of the check; None if another process has taken the claim.

        Raises:
            TimeoutError: the check was killed at its deadline.
        """
        with folder.log.open("wb") as output:
            child = await asyncio.create_subprocess_exec(
                *python_command("service.datasets.check_process", str(folder.path)),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment(folder),
                cwd=folder.path, start_new_session=True,
                preexec_fn=partial(die_with_parent, parent=os.getpid()),
            )  # fmt: skip
        ended = asyncio.create_task(child.wait())
        try:
            async with asyncio.timeout(self._settings.dataset_check_timeout_s):
                while not (await asyncio.wait({ended}, timeout=RENEW_EVERY_S))[0]:
                    if not await self._renew(version, owner):
                        return None
            return ended.result()
        finally:
            try:
                await asyncio.shield(self._call(partial(_kill_session, child.pid)))
            finally:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()  # also if no thread could find its descendants
                await asyncio.shield(ended)

    async def _renew(self, version: DatasetVersion, owner: str) -> bool:
        try:
            return await self._call(partial(self._store.renew_check, version.id, owner, LEASE_S))
        except StoreError as error:
            log.warning("data set %s: %s", version.reference, error)
            return True  # the database decides when it answers again

    def _environment(self, folder: DatasetFolder) -> dict[str, str]:
        """Return the environment of a check: it decodes untrusted files, so it gets no secret that it does not need."""
        own = {CACHE_VARIABLE: str(folder.cache), LINKS_VARIABLE: "refuse", "OMP_NUM_THREADS": "1"}
        settings = self._settings.environment()
        given = {name: text for name, text in settings.items() if name.removeprefix(PREFIX).startswith(NEEDED)}
        inherited = inherited_environment(os.environ, () if self._settings.storage_url is None else ("AWS_*",))
        return child_environment({**inherited, **given, **own})

    def _record(self, version: DatasetVersion, owner: str, folder: DatasetFolder, code: int) -> None:
        summary = folder.read_summary() if code == ExitCode.DONE else None
        if summary is None:
            self._record_failure(version, owner, folder, code)
            return
        checked = CheckedDataset(
            is_ready=summary.is_ready, message=summary.message, sources=summary.sources,
            files_bytes=summary.files_bytes, num_images=summary.num_images,
        )  # fmt: skip
        if not self._store.renew_check(version.id, owner, LEASE_S):
            return
        final = version_folder(self._settings.datasets_dir, version.id).path
        shutil.rmtree(final, ignore_errors=True)
        rename_synced(folder.path, final, content_is_synced=True)  # the check has done it
        if not self._store.finish_check(version.id, owner, checked):
            if not self._store.check_owners([version.id]):  # deleted meanwhile, before the folder had its name
                shutil.rmtree(final, ignore_errors=True)
            return
        log.info("data set %s: %s", version.reference, "ready" if checked.is_ready else f"invalid: {checked.message}")

    def _record_failure(self, version: DatasetVersion, owner: str, folder: DatasetFolder, code: int) -> None:
        output = folder.log.read_text("utf-8", "replace").strip() if folder.log.exists() else ""
        if code == ExitCode.STOPPED:  # the storage or the disk will have to be repaired, not the data set
            self._postpone(version, owner, output.rpartition("\n")[2])
            return
        log.error("the check of data set %s ended with code %d:\n%s", version.reference, code, output[-4000:])
        self._repeat(version, owner, "the check ended unexpectedly; see the log of the server")

    def _repeat(self, version: DatasetVersion, owner: str, message: str) -> None:
        if version.check_attempts >= MAX_ATTEMPTS:
            self._give_up(version, owner, message)
        else:
            self._postpone(version, owner, message)

    def _postpone(self, version: DatasetVersion, owner: str, message: str) -> None:
        delay_s = min(MAX_RETRY_DELAY_S, RETRY_DELAY_S * 2 ** min(version.check_attempts - 1, 10))
        self._store.postpone_check(version.id, owner, delay_s, f"{message}; the check is repeated")

    def _give_up(self, version: DatasetVersion, owner: str, message: str) -> None:
        self._store.finish_check(version.id, owner, CheckedDataset(is_ready=False, message=message))

    async def _finish_deletions(self) -> None:
        """Delete the content of versions whose deletion was interrupted, or was started by retention."""
        for version in await self._call(self._store.deleting):
            try:
                await self._call(partial(delete_content, version, self._storage, self._settings.datasets_dir))
                await self._call(partial(self._store.finish_deletion, version.id))
            except (StorageError, OSError) as error:
                log.warning("data set %s is not deleted yet: %s", version.reference, error)

    async def _call(self, work: Callable[[], T]) -> T:
        return await self._threads.run(work)


def _kill_session(leader: int) -> None:
    kill(lambda table: [process for process in table.values() if process.session == leader])
