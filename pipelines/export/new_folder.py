"""Folders of exports, which get their name when they are complete. Torch-free.

The caller has locked the run folder: only one export of a model is written at a time.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.run_folder.exports_layout import REPLACED, UNFINISHED, ExportsDir
from pipelines.run_folder.files import exchange_synced, remove_folder, rename_synced


@contextmanager
def new_folder(exports: ExportsDir) -> Iterator[Path]:
    """Yield a hidden folder, which is removed at the end if it was not renamed."""
    exports.path.mkdir(parents=True, exist_ok=True)
    _clean_up(exports)
    folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=exports.path))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        remove_folder(folder)


def replace_folder(target: Path, folder: Path) -> None:
    """Give a complete folder its name; an earlier folder of this name, which readers find until then, gets that of
    `folder`."""
    if target.exists():
        exchange_synced(folder, target, aside=target.with_name(f"{REPLACED}{target.name}"))
    else:
        rename_synced(folder, target)


def _clean_up(exports: ExportsDir) -> None:
    """Remove what killed exports have left, but give an export that was not replaced its name again."""
    for old in exports.path.glob(f"{REPLACED}*"):
        target = exports.path / old.name.removeprefix(REPLACED)
        if target.exists():
            remove_folder(old)
        else:
            rename_synced(old, target)
    for left in exports.path.glob(f"{UNFINISHED}*"):
        remove_folder(left)
