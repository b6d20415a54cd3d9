"""Recognize exports of CVAT. Torch-free."""

from pipelines.base.records import SPLITS, Split
from pipelines.formats.folder_contents import FolderContents, FolderReading, split_of
from pipelines.formats.label_files import LabelFile, read_label_files
from pipelines.formats.xml_files import parse_xml

SHAPES = ("box", "polygon", "mask", "ellipse")


def recognize_cvat(folder: FolderContents) -> list[FolderReading]:
    """Return the readings of all XML files with the root `annotations` and images."""

    def examine(file: str) -> LabelFile | None:
        if "<annotations" not in folder.read_start(file, 4096):
            return None
        try:
            tree = parse_xml((folder.root / file).read_bytes())
        except (OSError, ValueError):
            return None
        if tree.tag == "annotations" and tree.find("track") is not None:
            folder.notes.append(f"{file} is 'CVAT for video 1.1'; export the task as 'CVAT for images 1.1'")
            return None
        images = tree.findall("image") if tree.tag == "annotations" else []
        names = [name for image in images if (name := image.get("name"))]
        if not names:
            return None
        default = (tree.findtext("meta/task/subset") or "").strip()
        subsets = sorted({image.get("subset", default) for image in images}, reverse=True)
        by_split = {split: subset for subset in subsets if (split := split_of(subset)) is not None}
        splits: dict[Split, str] = {split: by_split[split] for split in SPLITS if split in by_split}
        return LabelFile(names, sum(len(image.findall(shape)) for image in images for shape in SHAPES), splits)

    return read_label_files(folder, "cvat", folder.with_suffix(".xml"), examine, "CVAT for images", own_names=True)
