"""Exports of a registered version to other runtimes, as its tags and in its folder in MLflow. Torch-free.

tag `pyramidion.export.<name>`          a `StoredExport` as JSON: all that is known without reading files
`<source>/artifacts/exports/<folder>/`  the files; an export that is repeated gets another folder, so that readers
                                        never see files of two exports
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from pipelines.run_folder.exports_layout import EXPORTS, VariantDir
from pipelines.spec.exported_variant import ExportRecord, VariantResult

EXPORT_TAG = "pyramidion.export."
"""Start of the tags of a version with its exports; the name of the export follows."""


class StoredExport(ExportRecord):
    """An export of a version.

    Attributes:
        folder: name of the folder with its files.
        result: its entry in the report.
    """

    folder: str
    result: VariantResult

    @property
    def path(self) -> str:
        """Its folder among the artifacts of the version."""
        return f"{EXPORTS}/{self.folder}"


def stored_exports(tags: Mapping[str, str]) -> dict[str, StoredExport]:
    """Return the exports of a version by name; those of other programs are skipped, since anyone may write tags."""
    found = {}
    for key, text in sorted(tags.items()):
        if key.startswith(EXPORT_TAG):
            try:
                stored = StoredExport.model_validate_json(text)
            except ValidationError:
                continue
            if stored.folder == Path(stored.folder).name and key == EXPORT_TAG + stored.result.name:
                found[stored.result.name] = stored
    return found


def stored_export(folder: Path, result: VariantResult) -> StoredExport:
    """Return what will be stored of the export in a folder; equal files have the same name in the store."""
    digest = hashlib.sha256(VariantDir(folder).description.read_bytes()).hexdigest()
    return StoredExport(folder=f"{result.name}-{digest[:12]}", result=result)
