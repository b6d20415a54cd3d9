"""Data sets over HTTP: these routes translate requests and responses, `service.datasets` does the work."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response

from pipelines.base.errors import RegistryError
from pipelines.base.names import Name
from service.api.access import needs
from service.api.content_negotiation import media_type_of
from service.api.cursor import PageCursor, link_next, read_cursor
from service.api.dataset_requests import BODY, fields_of, folder_request_of, form_of
from service.api.dataset_views import dataset_summary, dataset_view
from service.api.deps import PoolsDep, PrincipalDep
from service.api.download import ANY_FILE, PARTS
from service.api.entity_tags import tagged
from service.api.file_response import file_response, open_file
from service.api.limits import JsonRoute
from service.api.thread_pools import NoAnswer, ThreadPool, ThreadPools, Work
from service.api.uploads import Uploads
from service.datasets.checks import DatasetChecks
from service.datasets.folder import ARCHIVES, INCOMING
from service.datasets.leftovers import CLEAN_EVERY_S, Leftovers
from service.datasets.use_cases import NEWEST, DatasetDetails, DatasetQuery, Datasets
from service.principal import Principal
from service.rest.dataset_schemas import DatasetPage, DatasetView
from service.rest.problems import Problem, problems
from service.scopes import Scope
from service.settings import Settings
from service.storage.opening import open_storage
from service.store.dataset_records import DatasetStatus
from service.store.datasets import DatasetStore

logger = logging.getLogger(__name__)

CURSOR = "datasets"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    storage = open_storage(settings.storage_url, settings.datasets_dir / ARCHIVES, settings.storage_timeout_s)
    store = DatasetStore(app.state.engine)
    pools: ThreadPools = app.state.pools
    app.state.uploads = Uploads(settings, settings.datasets_dir / INCOMING, pools)
    app.state.datasets = Datasets(store, storage, settings, partial(_models_of_runs, app))
    app.state.dataset_checks = DatasetChecks(store, storage, settings, pools[Work.DATASET_CHECKS])
    leftovers = _clean(Leftovers(store, storage, settings), pools[Work.DATASET_CHECKS])
    tasks = [asyncio.create_task(work) for work in (app.state.dataset_checks.run(), leftovers)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await app.state.uploads.close()


async def _clean(leftovers: Leftovers, threads: ThreadPool) -> None:
    while True:
        try:
            await threads.run(leftovers.remove)
        except NoAnswer as error:
            logger.warning("leftovers of killed processes are not deleted yet: %s", error.detail)
        await asyncio.sleep(CLEAN_EVERY_S)


def _models_of_runs(app: FastAPI, run_ids: Sequence[str]) -> list[str]:
    return [f"model {found.name} version {found.version}" for found in app.state.registry.versions_of_runs(run_ids)]


router = APIRouter(prefix="/v1/datasets", tags=["datasets"], lifespan=_lifespan, route_class=JsonRoute)


async def _datasets(request: Request) -> Datasets:
    return cast(Datasets, request.app.state.datasets)


DatasetsDep = Annotated[Datasets, Depends(_datasets)]
DatasetName = Annotated[Name, Path(description="name of a data set")]
Version = Annotated[
    str,
    Path(
        pattern=f"^([0-9a-f]{{8,64}}|{NEWEST})$",
        description=f"at least 8 digits of the version, or `{NEWEST}` for the newest version that is ready",
    ),
]
ExactVersion = Annotated[str, Path(pattern="^[0-9a-f]{8,64}$", description="at least 8 digits of the version")]
LOCATION = {"Location": {"schema": {"type": "string"}, "description": "the URL of the version"}}


@router.post(
    "",
    status_code=202,
    response_model=DatasetView,
    dependencies=[needs(Scope.DATASETS_WRITE)],
    openapi_extra={"requestBody": BODY},
    responses={
        200: {"model": DatasetView, "description": "A version with this content exists", "headers": LOCATION},
        202: {"description": "The version will be checked", "headers": LOCATION},
        **problems(400, 408, 409, 413, 415, 422, 499, 503, 507),
    },
)
async def add_dataset(
    request: Request, response: Response, datasets: DatasetsDep, principal: PrincipalDep, pools: PoolsDep
) -> DatasetView:
    """Upload an archive as a version of a data set, or register a folder below a data root.

    The version is named by its content: sending the same content again returns the same version. It is checked
    afterwards; poll the URL in `Location` until its status is not `checking`.
    """
    content_type = request.headers.get("content-type", "")
    media_type = media_type_of(content_type)
    if media_type == "application/json":
        details, is_new = await _add_folder(request, datasets, principal, pools)
    elif media_type == "multipart/form-data":
        details, is_new = await _add_archive(request, datasets, principal, pools)
    else:
        form = "multipart/form-data with the fields name and archive"
        detail = f"got the content type {content_type[:80]!r}; send {form}, or JSON for a folder"
        raise Problem(415, "Neither a form nor JSON", detail, headers={"Connection": "close"})
    if not is_new:
        response.status_code = 200
    request.app.state.dataset_checks.wake()
    response.headers["Location"] = f"{router.prefix}/{details.version.name}/versions/{details.version.version}"
    return dataset_view(details)


async def _add_archive(
    request: Request, datasets: Datasets, principal: Principal, pools: ThreadPools
) -> tuple[DatasetDetails, bool]:
    free_bytes = await pools[Work.READS].run(datasets.free_bytes, principal)
    form = form_of(request)
    uploads: Uploads = request.app.state.uploads
    async with uploads.receive(request, form, free_bytes) as archive:
        fields = fields_of(form, archive.sha256)
        add = partial(datasets.add_archive, principal, fields.name, archive, fields.sources)
        return await pools[Work.ARCHIVES].run(add)


async def _add_folder(
    request: Request, datasets: Datasets, principal: Principal, pools: ThreadPools
) -> tuple[DatasetDetails, bool]:
    given = await folder_request_of(request)
    add = partial(datasets.add_folder, principal, given.name, given.folder, given.sources)
    return await pools[Work.CHECKS].run(add)


@router.get("", dependencies=[needs(Scope.DATASETS_READ)])
def list_datasets(
    request: Request,
    response: Response,
    datasets: DatasetsDep,
    principal: PrincipalDep,
    status: Annotated[list[DatasetStatus], Query(description="versions with any of these; by default all")] = [],  # noqa: B006
    name: Annotated[str | None, Query(max_length=64, description="only versions of this data set")] = None,
    cursor: PageCursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="maximum number of versions of the page")] = 50,
) -> DatasetPage:
    """List the versions of all data sets, newest first."""
    before_number = None if cursor is None else read_cursor(cursor, CURSOR)
    found, has_more = datasets.page(principal, DatasetQuery(name, status, before_number, limit))
    next_cursor = link_next(request, response, found[-1].number, CURSOR) if has_more else None
    return DatasetPage(datasets=[dataset_summary(version) for version in found], next_cursor=next_cursor)


@router.get(
    "/{name}/versions/{version}",
    response_model=DatasetView,
    dependencies=[needs(Scope.DATASETS_READ)],
    responses={304: {"description": "Unchanged"}, **problems(404)},
)
def get_dataset(
    name: DatasetName, version: Version, request: Request, datasets: DatasetsDep, principal: PrincipalDep
) -> Response:
    """Return a version with the result of its check."""
    view = dataset_view(datasets.view(principal, name, version))
    return tagged(request, view.model_dump_json().encode())


@router.get(
    "/{name}/versions/{version}/report",
    response_model=dict[str, Any],
    dependencies=[needs(Scope.DATASETS_READ)],
    responses={304: {"description": "Unchanged"}, **problems(404)},
)
def get_dataset_report(
    name: DatasetName, version: Version, request: Request, datasets: DatasetsDep, principal: PrincipalDep
) -> Response:
    """Return the complete report of the data check, with all findings."""
    details = datasets.view(principal, name, version)
    try:
        content = details.folder.report.read_bytes()
    except FileNotFoundError:
        reason = f" ({details.version.message})" if details.version.message else ""
        detail = f"{details.version.reference} is {details.version.status} and has no report{reason}"
        raise Problem(404, "No report", detail) from None
    return tagged(request, content)


@router.get(
    "/{name}/versions/{version}/thumbnails/{index}",
    response_class=Response,
    dependencies=[needs(Scope.DATASETS_READ)],
    responses={
        200: {"description": "A small picture with its labels", "content": ANY_FILE},
        **PARTS,
        **problems(404),
    },
)
def get_thumbnail(
    name: DatasetName,
    version: Version,
    index: Annotated[int, Path(ge=0, le=9999, description="from 0 to `num_thumbnails` - 1")],
    request: Request,
    datasets: DatasetsDep,
    principal: PrincipalDep,
) -> Response:
    """Return a small picture of the data set with its labels."""
    details = datasets.view(principal, name, version)
    path = details.folder.thumbnail(index)
    if not path.is_file():
        count = 0 if details.summary is None else details.summary.num_thumbnails
        raise Problem(404, "No thumbnail", f"{details.version.reference} has {count} thumbnails, counted from 0")
    headers = {
        "ETag": f'"{details.version.version}-{details.version.checked_at or 0:.0f}-{index}"',
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    return file_response(request, open_file(path), headers, "image/jpeg")


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    dependencies=[needs(Scope.DATASETS_WRITE)],
    responses=problems(404, 409, 503),
)
async def delete_dataset(
    name: DatasetName, version: ExactVersion, datasets: DatasetsDep, principal: PrincipalDep, pools: PoolsDep
) -> None:
    """Delete a version with its files; refused while a job or a model needs it."""
    try:
        await pools[Work.DELETIONS].run(datasets.delete, principal, name, version)
    except RegistryError as error:
        detail = f"it is unknown whether models need the version: {error}"
        raise Problem(503, "The model registry does not answer", detail, headers={"Retry-After": "5"}) from error
