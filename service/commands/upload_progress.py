"""The progress bar of an upload."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipelines.base.console import SafeConsole
from service.client.archives import Progress


@contextmanager
def upload_progress(archive: Path) -> Iterator[Progress]:
    """Show the progress of an upload on a terminal."""
    console = SafeConsole(stderr=True)
    if not console.is_terminal or not archive.is_file():
        yield lambda _: None
        return
    columns = (TextColumn("uploading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("upload", total=archive.stat().st_size)
        yield lambda num_bytes: bar.update(task, completed=num_bytes)
