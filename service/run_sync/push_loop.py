"""The threads of a node that push the scratch folder while the attempt runs."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from service.run_sync.push import FolderPusher, Stored
from service.run_sync.scanning import Changes
from service.storage.base import StorageError

PUSH_EVERY_S = 0.5
MAX_PAUSE_S = 5.0
"""Maximum pause while the storage does not answer."""

log = logging.getLogger(__name__)


class PushLoop:
    """Pushes changes until the end, however often the storage fails meanwhile.

    Files that are replaced whole, such as checkpoints, are stored by a second thread, so that events do not wait for
    them.
    """

    def __init__(self, pusher: FolderPusher) -> None:
        self._pusher = pusher
        self._ends = threading.Event()
        self._upload: Future[Stored | None] | None = None
        self._stored: Stored | None = None
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self._problem: str | None = None

    def start(self) -> None:
        self._thread.start()

    def finish(self, timeout_s: float, last: tuple[str, bytes] | None = None) -> str | None:
        """Store everything that is not stored yet; the folder does not change any more.

        Args:
            timeout_s: time after which this method gives up.
            last: path and content of a file that is not in the folder, and is stored after everything else.

        Returns:
            None, or the reason why some files are still not stored after `timeout_s`.
        """
        deadline, pause_s = time.monotonic() + timeout_s, PUSH_EVERY_S
        self._ends.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        while not self._thread.is_alive():
            if self._succeeds(lambda: self._push_all(deadline, last)):
                return None
            if time.monotonic() + pause_s > deadline:
                break
            time.sleep(pause_s)
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)
        return self._problem or "a request did not end"

    def _run(self) -> None:
        wait_s = pause_s = PUSH_EVERY_S
        while not self._ends.wait(wait_s):
            started = time.monotonic()
            pause_s = PUSH_EVERY_S if self._succeeds(self._push_some) else min(MAX_PAUSE_S, 2 * pause_s)
            # Events wait for the whole round, so a slow storage makes the pause shorter.
            wait_s = max(pause_s - (time.monotonic() - started), pause_s / 5)

    def _succeeds(self, push: Callable[[], None]) -> bool:
        try:
            push()
        except (StorageError, OSError) as error:
            if self._problem is None:
                log.warning("files are not stored at the moment, and will be: %s", error)
            self._problem = str(error)
            return False
        if self._problem is not None:
            log.warning("files are stored again")
        self._problem = None
        return True

    def _push_some(self) -> None:
        """Store what was appended, with what the second thread has stored meanwhile; let it start again if it can."""
        if self._upload is not None and self._upload.done():
            upload, self._upload = self._upload, None
            self._stored = upload.result()
        self._commit_stored()
        if self._upload is None and (changes := self._pusher.find()):
            self._upload = self._in_thread(changes)

    def _push_all(self, deadline: float, last: tuple[str, bytes] | None) -> None:
        if self._upload is not None:
            upload, self._upload = self._upload, None
            self._stored = upload.result(max(0.0, deadline - time.monotonic()))
        self._commit_stored()
        while not self._pusher.push():
            pass
        if last is not None:
            self._pusher.push_last(*last)

    def _commit_stored(self) -> None:
        self._pusher.commit(self._stored)
        self._stored = None

    def _in_thread(self, changes: Changes) -> "Future[Stored | None]":
        future: Future[Stored | None] = Future()

        def upload() -> None:
            try:
                future.set_result(self._pusher.upload(changes))
            except BaseException as error:
                future.set_exception(error)

        # Not that of an executor, which would keep the process alive.
        threading.Thread(target=upload, name="upload", daemon=True).start()
        return future
