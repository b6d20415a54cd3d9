"""A storage of objects in a folder, which fails when a test says so."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from service.storage.base import StorageUnavailable
from service.storage.objects import ObjectMissing, ObjectStore


class FolderObjects(ObjectStore):
    """Stores objects as files.

    Attributes:
        before, after: are called before and after each request, and may raise `StorageUnavailable`: the request was not
            carried out, or it was and the client does not know.
    """

    def __init__(self, folder: Path) -> None:
        self.label, self.folder = str(folder), folder
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def put(self, key: str, content: BinaryIO) -> None:
        self.before()
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder.with_name(f"{self.folder.name}.{threading.get_ident()}")
        unfinished.write_bytes(content.read())
        unfinished.replace(path)
        self.after()

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        self.before()
        if not (self.folder / key).is_file():
            raise ObjectMissing(key)
        content = (self.folder / key).read_bytes()[start:]
        half = (len(content) + 1) // 2
        yield content[:half]
        self.after()
        yield content[half:]

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        self.before()
        files = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        yield from sorted(key for key in files if key.startswith(prefix) and key > after)

    def delete(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self.before()
            (self.folder / key).unlink(missing_ok=True)
        self.after()


def unavailable() -> None:
    raise StorageUnavailable("the storage does not answer")
