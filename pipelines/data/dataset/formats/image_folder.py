"""Image folders: `<split>/<class>/<image>`. Torch-free."""

import os
from pathlib import Path

from pipelines.data.dataset.formats.layer_content import IMAGE_SUFFIXES, FileImage, LayerContent, Place, below
from pipelines.spec.data import ImageFolderLayer


def read_image_folder(layer: ImageFolderLayer, place: Place) -> LayerContent | None:
    """Return the images below the split's folder; the first folder below it is the class. None without such a folder.

    Images beside the class folders are listed without a label. Hidden files are not looked at.
    """
    images_dir = below(place.root, place.fill(place.source.images))
    relative = place.fill(layer.path)
    folder = below(images_dir, relative)
    content = LayerContent(file=f"{place.fill(place.source.images)}/{relative}")
    if not folder.is_dir():
        return None
    for parent, folders, files in os.walk(folder):
        folders.sort()
        inside = Path(parent).relative_to(folder)
        if not inside.parts:
            content.category_ids = {name: set() for name in folders if not name.startswith(".")}
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(files):
            file_name = (Path(relative) / inside / name).as_posix()
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
                message = f"is no image; images end in {', '.join(sorted(IMAGE_SUFFIXES))}"
                content.findings.append(place.finding("other_file", message, file=content.file, image=file_name))
                continue
            classes = [inside.parts[0]] if inside.parts else None
            content.num_read += len(classes or [])
            content.images[file_name] = FileImage(file_name, classes=classes)
    return content
