"""One split of one source on disk. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.base.findings import Finding
from pipelines.base.paths import below, normalized
from pipelines.base.records import SPLITS, Split


@dataclass(frozen=True)
class SourceSplit:
    """The split of a source that is read, and where it is.

    Attributes:
        root: the data root of the job.
        source_name: the source's name in the document.
        images: the source's images folder, relative to the root; it may contain `{split}`.
        split_names: the names on disk of all splits of the source.
        split: the split that the images belong to.
        stored_as: the split under which they are on disk, where a split file assigns them to another one.
    """

    root: Path
    source_name: str
    images: str
    split_names: Mapping[Split, str]
    split: Split
    stored_as: Split | None = None

    @property
    def name_on_disk(self) -> str:
        """The split's name in paths and tables."""
        return self.split_names[self.stored_as or self.split]

    @property
    def images_dir(self) -> Path:
        """The folder that file names of images are relative to."""
        return self.root / self.fill(self.images)

    def shown_path(self, file_name: str) -> str:
        """Return the path of an image relative to the data root, as messages and split files spell it."""
        return normalized(f"{self.fill(self.images)}/{file_name}")

    def fill(self, pattern: str) -> str:
        """Return `pattern` with the split's name on disk in place of `{split}`."""
        return pattern.replace("{split}", self.name_on_disk)

    def path(self, pattern: str) -> Path:
        """Return the file or folder below the root that `pattern` names.

        Raises:
            ValueError: it leaves the root, by `..` or through a link.
        """
        return below(self.root, self.fill(pattern))

    def reads_undivided(self, pattern: str) -> bool:
        """Return whether this split gets the images of a file that does not divide them into splits.

        Every split gets those of its own file if `pattern` contains `{split}`; otherwise the source's first split gets
        all images, so that no image is in two splits.
        """
        first = next(split for split in SPLITS if split in self.split_names)
        return "{split}" in pattern or self.split == first

    def finding(
        self,
        kind: str,
        message: str,
        *,
        file: str = "",
        image: str | None = None,
        annotation_id: Any = None,
        cause: str = "",
    ) -> Finding:
        """Return a finding of this source and split."""
        return Finding(kind, message, self.source_name, self.split, file, image, annotation_id, cause)
