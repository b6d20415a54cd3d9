"""Image folders: `<split>/<class>/<image>`. Torch-free."""

from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, Literal

from pipelines.base.links import walk
from pipelines.base.paths import IMAGE_SUFFIXES, RelativePath, below, is_ignored
from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.image_folder_recognition import recognize_image_folder
from pipelines.formats.layer import LabelKind, LabelLayer
from pipelines.formats.layer_content import FileImage, LayerContent
from pipelines.formats.source_split import SourceSplit


class ImageFolderLayer(LabelLayer):
    """`<split>/<class>/<image>`: the folder is the class. `path` is relative to the source's images."""

    GIVES: ClassVar[frozenset[LabelKind]] = frozenset({"classes"})
    RECOGNIZED_BY: ClassVar[str] = "folders of images by class, with or without folders by split"

    format: Literal["image_folder"]
    path: RelativePath = "{split}"

    @classmethod
    def recognize(cls, folder: FolderContents) -> list[FolderReading]:
        return recognize_image_folder(folder)

    def paths(self, images: str) -> dict[str, str]:
        """Return the folder of the class folders, which is inside the images folder."""
        return {"path": f"{images}/{self.path}"}

    def read(self, split: SourceSplit, identity_fields: Collection[str]) -> LayerContent | None:
        """Return the images below the split's folder; the first folder of an image's path is its class.

        Images outside of the class folders are listed without a label. Hidden files, and
        folders that archive tools add (`__MACOSX`), are ignored.
        """
        relative = split.fill(self.path)
        folder = below(below(split.root, split.fill(split.images)), relative)
        content = LayerContent(file=split.fill(self.listing(split.images)))
        if not folder.is_dir():
            return None
        for parent, folders, files in walk(folder):
            folders.sort()
            inside = Path(parent).relative_to(folder)
            if not inside.parts:
                content.category_ids = {name: set() for name in folders if not is_ignored(Path(name))}
            folders[:] = [name for name in folders if not is_ignored(Path(name))]
            for name in sorted(files):
                file_name = (Path(relative) / inside / name).as_posix()
                if is_ignored(Path(name)):
                    continue
                if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
                    message = f"is not an image; names of images end in {', '.join(sorted(IMAGE_SUFFIXES))}"
                    content.findings.append(split.finding("other_file", message, file=content.file, image=file_name))
                    continue
                classes = [inside.parts[0]] if inside.parts else None
                content.num_read += len(classes or [])
                content.images[file_name] = FileImage(file_name, classes=classes)
        return content
