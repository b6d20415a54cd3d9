"""Images that a split file assigns to splits, whatever their split on disk. Torch-free."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines.base.findings import Finding
from pipelines.base.records import SPLITS, Split
from pipelines.base.suggested_commands import suggested
from pipelines.formats.layer_content import FileImage, LayerContent
from pipelines.formats.source_split import SourceSplit
from pipelines.formats.split_file import SplitFile, read_split_file


@dataclass
class AssignedSplits:
    """The split files of a job: each is read once, and rows that no image uses are reported.

    `read_from` holds the split on disk from which each layer of a source has read an image, so that layers whose files
    do not depend on the split are used once.
    """

    root: Path
    files: dict[str, SplitFile] = field(default_factory=dict)
    used: dict[str, set[str]] = field(default_factory=dict)
    unassigned: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    read_from: dict[tuple[str, int, str], Split] = field(default_factory=dict)

    def repeats(self, content: LayerContent, split: SourceSplit, position: int) -> Split | None:
        """Return the split on disk for which a layer has listed all these images before, or None if some are new."""
        keys = [(split.source_name, position, split.shown_path(name)) for name in content.images]
        first = {self.read_from.setdefault(key, split.split) for key in keys}
        return first.pop() if len(first) == 1 and split.split not in first else None

    def divide(
        self, content: LayerContent, split: SourceSplit, position: int, split_file: str | None
    ) -> Iterator[tuple[SourceSplit, LayerContent]]:
        """Yield the parts of a layer's content by the split that its images are assigned to.

        Without a split file this is the content itself. Problems of label files are in the first part.

        Args:
            content: everything that the layer has for one split on disk.
            split: the split on disk.
            position: of the layer in its source.
            split_file: the split file of the source.
        """
        if split_file is None:
            yield split, content
            return
        content = self._without_repeated(content, split, position)
        parts: dict[Split, dict[str, FileImage]] = {}
        for image in content.images.values():
            if assigned := self._split_of(image.file_name, split, split_file):
                parts.setdefault(assigned, {})[image.file_name] = image
        is_first = True
        for assigned in SPLITS:
            if images := parts.get(assigned):
                num_read = sum(len(image.boxes or []) + len(image.classes or []) for image in images.values())
                part = replace(content, images=images, num_read=num_read, num_refused={}, findings=[])
                if is_first:
                    part.num_refused, part.findings = content.num_refused, content.findings
                    part.num_read += sum(content.num_refused.values())
                is_first = False
                yield replace(split, split=assigned, stored_as=split.split), part
        if is_first:
            yield split, replace(content, images={}, num_read=sum(content.num_refused.values()))

    def findings(self) -> Iterator[Finding]:
        """Yield the problems of the split files: their own, images without a row, and rows without an image."""
        for name, split_file in sorted(self.files.items()):
            yield from split_file.findings
            if unused := sorted(set(split_file.splits) - self.used.get(name, set())):
                message = f"{_count(unused, 'row names', 'rows name')} an image that no label file lists"
                yield Finding("unused_split", f"{message}, such as {unused[0]!r}", file=name)
        for (source, name), images in sorted(self.unassigned.items()):
            if not any(finding.severity == "error" for finding in self.files[name].findings):
                message = (
                    f"{_count(images, 'listed image is', 'listed images are')} not in the split file, such as "
                    f"{images[0]!r}; to add them, run `{suggested('data split', '--keep')}`"
                )
                yield Finding("unassigned_image", message, source, file=name)

    def _split_of(self, file_name: str, split: SourceSplit, split_file: str) -> Split | None:
        if split_file not in self.files:
            self.files[split_file] = read_split_file(self.root, split_file)
        path = split.shown_path(file_name)
        assigned = self.files[split_file].splits.get(path)
        if assigned is None:
            self.unassigned.setdefault((split.source_name, split_file), []).append(path)
        else:
            self.used.setdefault(split_file, set()).add(path)
        return assigned

    def _without_repeated(self, content: LayerContent, split: SourceSplit, position: int) -> LayerContent:
        """Return the content without images that the layer has read from another split on disk."""
        keys = {name: (split.source_name, position, split.shown_path(name)) for name in content.images}
        repeated = [name for name, key in keys.items() if self.read_from[key] != split.split]
        if not repeated:
            return content
        first = self.read_from[keys[repeated[0]]]
        message = f"is also listed for {split.split_names[first]!r}, whose labels are used"
        content.findings += [
            split.finding("repeated_image", message, file=content.file, image=name) for name in repeated
        ]
        for name in repeated:
            del content.images[name]
        return content


def _count(names: Sequence[str], one: str, many: str) -> str:
    return f"{len(names)} {one if len(names) == 1 else many}"
