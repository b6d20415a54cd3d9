"""The catalogs of backbones, heads and losses, and the schema of the job document."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from fastapi import APIRouter

from backbones.catalog.facts import Facts, facts_of, recorded_designs
from backbones.catalog.licenses import lack_of_weights, license_of, license_problem
from backbones.catalog.lookup import known_names
from backbones.catalog.row import LIBRARIES, BackboneRow
from backbones.catalog.rows import CATALOG
from backbones.spec.surgery import OPERATIONS, Operation
from heads.catalog import HEADS, LOSSES
from pipelines.spec.job import JobSpec
from pipelines.spec.sweep import SweepSpec
from service.api.access import needs
from service.api.thread_pools import FileRoute
from service.rest.catalog_schemas import (
    BackboneFacts,
    BackboneList,
    CatalogBackbone,
    CatalogHead,
    HeadList,
    Loss,
    LossList,
)

router = APIRouter(prefix="/v1/catalog", tags=["catalog"], route_class=FileRoute, dependencies=[needs()])


@router.get("/backbones")
def list_backbones() -> BackboneList:
    """List the backbones of the catalog with papers, sizes, weights, licenses and supported surgery."""
    return BackboneList(
        backbones=[_backbone(row) for row in CATALOG.values()],
        presets={name: _facts(facts) for name, facts in recorded_designs().presets.items()},
        others={LIBRARIES[source]: len(names) for source, names in known_names().items()},
    )


def _backbone(row: BackboneRow) -> CatalogBackbone:
    facts = facts_of(row)
    return CatalogBackbone(
        name=row.name,
        family=row.family,
        year=row.year,
        paper=row.paper,
        library=LIBRARIES[row.source],
        id=row.id,
        has_default_weights=lack_of_weights(row) is None,
        weights_license=license_of(row),
        weights_licence=license_of(row),
        accept_license_needed=license_problem(row) is not None,
        surgery=row.surgery.model_dump(mode="json", exclude_defaults=True),
        takes=[name for operation in OPERATIONS if operation in row.takes for name in _names_of(operation)],
        is_equivariant=row.is_equivariant,
        facts=None if facts is None else _facts(facts),
    )


def _names_of(operation: Operation) -> list[Operation | Literal["reparameterise"]]:
    """Return the name of an operation, and its old name for older clients of this API version."""
    return [operation, "reparameterise"] if operation == "reparameterize" else [operation]


def _facts(facts: Facts) -> BackboneFacts:
    return BackboneFacts(
        parameters=facts.parameters,
        channels=facts.channels,
        macs=facts.macs,
        trains_on_cpu=facts.trains_on_cpu,
        mean=facts.mean,
        std=facts.std,
    )


@router.get("/heads")
def list_heads() -> HeadList:
    """List the heads, which define what a task predicts."""
    return HeadList(
        heads=[
            CatalogHead(
                name=head.name,
                kind=head.kind,
                description=head.description,
                losses=list(head.losses),
                paper=head.paper,
            )
            for head in HEADS.values()
        ]
    )


@router.get("/losses")
def list_losses() -> LossList:
    """List the loss functions of heads."""
    return LossList(
        losses=[
            Loss(name=loss.name, kinds=list(loss.kinds), description=loss.description, paper=loss.paper)
            for loss in LOSSES.values()
        ]
    )


@router.get("/schema")
def get_schema() -> dict[str, Any]:
    """Return the JSON Schema of the job document, with defaults."""
    return dict(_schema())


@cache
def _schema() -> Mapping[str, Any]:
    return JobSpec.model_json_schema()


@router.get("/sweep-schema")
def get_sweep_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document of a sweep, with defaults."""
    return dict(_sweep_schema())


@cache
def _sweep_schema() -> Mapping[str, Any]:
    return SweepSpec.model_json_schema()
