"""What a document may name, and its schema."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from fastapi import APIRouter

from backbones.catalog.lookup import known_names
from backbones.catalog.row import LIBRARIES
from backbones.catalog.rows import CATALOG
from heads.catalog import HEADS, LOSSES
from pipelines.spec.job import JobSpec
from service.rest.schemas import Backbone, BackboneList, Head, HeadList, Loss, LossList

router = APIRouter(prefix="/v1/catalog", tags=["catalog"])


@router.get("/backbones")
def list_backbones() -> BackboneList:
    """List the networks that are vouched for, with their papers and the licences of their weights."""
    rows = [
        Backbone(
            name=row.name,
            family=row.family,
            year=row.year,
            paper=row.paper,
            library=LIBRARIES[row.source],
            id=row.id,
            weights_licence=row.weights_licence,
            has_default_weights=not row.kwargs,
        )
        for row in CATALOG.values()
    ]
    return BackboneList(
        backbones=rows, others={LIBRARIES[source]: len(names) for source, names in known_names().items()}
    )


@router.get("/heads")
def list_heads() -> HeadList:
    """List what a task can be."""
    return HeadList(
        heads=[
            Head(
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
    """List what heads learn by."""
    return LossList(
        losses=[
            Loss(name=loss.name, kinds=list(loss.kinds), description=loss.description, paper=loss.paper)
            for loss in LOSSES.values()
        ]
    )


@router.get("/schema")
def get_schema() -> dict[str, Any]:
    """Return the JSON Schema of the job document, with its defaults."""
    return dict(_schema())


@cache
def _schema() -> Mapping[str, Any]:
    return JobSpec.model_json_schema()
