"""Versions of registered models: origin, comparison, download, deletion, and the history of their aliases."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter

from pipelines.base.errors import ModelFilesUnavailable
from pipelines.tracking.deletion import AliasesPoint, delete_model, delete_version
from pipelines.tracking.model_archive import ArchiveFacts, ModelArchive
from pipelines.tracking.model_artifacts import local_folder
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.promotion import alias_moves
from pipelines.tracking.registry import Registry
from service.api.access import needs
from service.api.artifacts import repr_digest
from service.api.audited import audited
from service.api.deps import PoolsDep, SettingsDep, StoreDep
from service.api.download import BINARY, DIGEST, PARTS
from service.api.entity_tags import is_known
from service.api.file_response import content_response
from service.api.model_comparison import compare_versions
from service.api.registry_route import ModelName, RegistryDep, RegistryRoute, require_aliases, require_version
from service.api.thread_pools import Work
from service.api.views import model_version_view, moment
from service.rest.model_version_schemas import ModelComparison, ModelVersionDetails, PromotionList, PromotionView
from service.rest.problems import Problem, problems
from service.scopes import Scope

TAR = "application/x-tar"

VersionNumber = Annotated[int, PathParameter(ge=1, le=2**31 - 1, description="number of a version")]
ComparedNumber = Annotated[int, Query(ge=1, le=2**31 - 1, description="number of a version")]
router = APIRouter(prefix="/v1/models", tags=["models"], route_class=RegistryRoute)


@router.get("/{name}/versions/{version}", dependencies=[needs(Scope.MODELS_READ)], responses=problems(404, 410, 503))
def get_model_version(
    name: ModelName, version: VersionNumber, registry: RegistryDep, store: StoreDep
) -> ModelVersionDetails:
    """Return a version with its origin: job, data set, document, metrics, and the weights that it started from."""
    found = require_version(registry, name, version)
    document = _document_of(registry, found)
    job_id = store.job_of_run(found.run_id) if found.run_id else None
    dataset = document.get("data", {}).get("dataset")
    return ModelVersionDetails(
        **model_version_view(found, job_id).model_dump(),
        name=name,
        document=document,
        dataset=None if dataset is None else str(dataset),
        start_weights=_start_weights(document.get("model", {})),
    )


@router.get("/{name}/comparison", dependencies=[needs(Scope.MODELS_READ)], responses=problems(404, 410, 503))
def compare_model_versions(
    name: ModelName, first: ComparedNumber, second: ComparedNumber, registry: RegistryDep
) -> ModelComparison:
    """Return the metrics of two versions with their differences, and the fields of their documents that differ."""
    one, other = require_version(registry, name, first), require_version(registry, name, second)
    return compare_versions(one, other, _document_of(registry, one), _document_of(registry, other))


@router.get(
    "/{name}/versions/{version}/archive",
    dependencies=[needs(Scope.MODELS_READ)],
    response_class=Response,
    responses={
        200: {
            "description": "A tar archive of the exported model: `model.json` and `model.safetensors`, or with `Range` "
            "a part of it",
            "content": {"application/octet-stream": BINARY, TAR: BINARY},
            "headers": {
                "ETag": {"schema": {"type": "string"}, "description": "SHA-256 of the archive, hexadecimal"},
                **DIGEST,
            },
        },
        **PARTS,
        **problems(404, 410, 503),
    },
)
async def get_model_archive(
    name: ModelName,
    version: VersionNumber,
    request: Request,
    registry: RegistryDep,
    settings: SettingsDep,
    pools: PoolsDep,
) -> Response:
    """Return a version as one archive. It has the same bytes each time, so that a download can be resumed."""
    found = await pools[Work.REGISTRY].run(require_version, registry, name, version)
    if found.archive is not None and is_known(request, _tag(found.archive)):
        return Response(status_code=304, headers=_archive_headers(found, found.archive))
    archive, facts = await pools[Work.FILES].run(_open_archive, registry, found, settings.downloads_dir)
    return content_response(request, archive, _archive_headers(found, facts), TAR)


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    dependencies=[needs(Scope.MODELS_PROMOTE), audited("model_version.delete")],
    responses=problems(404, 409, 503),
)
def delete_model_version(name: ModelName, version: VersionNumber, registry: RegistryDep) -> None:
    """Delete a version with its files. This is refused while an alias points to it."""
    require_version(registry, name, version)
    try:
        delete_version(registry, name, version)
    except AliasesPoint as error:
        raise _in_use(error) from error
    except LookupError:
        pass  # another client has deleted it meanwhile


@router.delete(
    "/{name}",
    status_code=204,
    dependencies=[needs(Scope.MODELS_PROMOTE), audited("model.delete")],
    responses=problems(404, 409, 503),
)
def delete_registered_model(name: ModelName, registry: RegistryDep) -> None:
    """Delete a model with all versions and files. This is refused while an alias other than `candidate` exists."""
    require_aliases(registry, name)
    try:
        delete_model(registry, name)
    except AliasesPoint as error:
        raise _in_use(error) from error
    except LookupError:
        pass  # as above


@router.get("/{name}/promotions", dependencies=[needs(Scope.MODELS_READ)], responses=problems(404, 503))
def list_promotions(
    name: ModelName,
    registry: RegistryDep,
    alias: Annotated[str | None, Query(max_length=100, description="list only the moves of this alias")] = None,
) -> PromotionList:
    """List who moved the aliases of a model, when, from where to where, and why; newest first."""
    require_aliases(registry, name)
    return PromotionList(
        promotions=[
            PromotionView(
                alias=move.alias,
                from_version=move.from_version,
                to_version=move.to_version,
                by=move.by,
                at=moment(move.at),
                reason=move.reason,
            )
            for move in alias_moves(registry, name)
            if alias in (None, move.alias)
        ]
    )


def _document_of(registry: Registry, version: ModelVersion) -> dict[str, Any]:
    document = registry.read_description(version).get("job")
    if not isinstance(document, dict):
        raise ModelFilesUnavailable(f"{version.uri} has no document; it is not a model of this program")
    return document


def _start_weights(model: dict[str, Any]) -> str | None:
    start = model.get("init_from") or model.get("backbone", {}).get("weights")
    return None if start is None else str(start)


def _in_use(error: AliasesPoint) -> Problem:
    return Problem(409, "Aliases are in the way", str(error))


def _open_archive(registry: Registry, version: ModelVersion, downloads_dir: Path) -> tuple[ModelArchive, ArchiveFacts]:
    """Return the open archive of a version; files in other storage are copied first, and their copy is removed."""
    folder = local_folder(version.source)
    if folder is not None:
        return _checked_archive(folder, version)
    downloads_dir.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=downloads_dir))
    try:
        # The open files outlive their names.
        return _checked_archive(registry.download_exported(version, scratch), version)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _checked_archive(folder: Path, version: ModelVersion) -> tuple[ModelArchive, ArchiveFacts]:
    archive = ModelArchive(folder)
    facts = archive.facts()
    if version.archive is not None and facts != version.archive:
        archive.close()
        raise ModelFilesUnavailable(
            f"the files of {version.uri} have changed since it was registered (SHA-256 {facts.sha256} instead of "
            f"{version.archive.sha256}); restore them or delete it"
        )
    return archive, facts


def _archive_headers(version: ModelVersion, facts: ArchiveFacts) -> dict[str, str]:
    return {
        "ETag": _tag(facts),
        "Repr-Digest": repr_digest(bytes.fromhex(facts.sha256)),
        "Content-Disposition": f'attachment; filename="model-{version.version}.tar"',
    }


def _tag(facts: ArchiveFacts) -> str:
    return f'"{facts.sha256}"'
