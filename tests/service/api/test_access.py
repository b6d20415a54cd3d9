"""Every route states the scope that it requires."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from service.api.access import OPEN_PATHS, SCHEME, require_scopes
from service.api.app import create_app
from service.api.audited import audited
from service.scopes import MEANINGS, Scope
from service.settings import Settings
from service.web.router import router as web_router

READING = {"GET", "HEAD"}


def scopes_of(dependant: Dependant) -> Iterator[list[str]]:
    """Yield the scopes of each call of `needs` in the dependencies of a route."""
    for dependency in dependant.dependencies:
        if dependency.call is require_scopes:
            yield [*(dependency.parent_oauth_scopes or ()), *(dependency.own_oauth_scopes or ())]
        yield from scopes_of(dependency)


@pytest.fixture
def routes(tmp_path: Path) -> dict[str, list[list[str]]]:
    """The scopes of every route, by method and path; pages call these routes on behalf of their reader."""
    app = create_app(Settings(root=tmp_path / "root", gpus=0))
    pages = {context.path for context in iter_route_contexts(web_router.routes)}
    return {
        f"{method} {context.path}": list(scopes_of(getattr(context, "dependant", Dependant())))
        for context in iter_route_contexts(app.routes)
        for method in context.methods or ()
        if context.path not in pages
    }


def test_every_route_states_its_scope_or_is_open(routes: dict[str, list[list[str]]]) -> None:
    assert len(routes) >= 25
    without = {route for route, scopes in routes.items() if not scopes}
    open_paths = OPEN_PATHS - {"/login", "/docs"}  # pages
    assert {route.split()[1] for route in without} == open_paths, "add dependencies=[needs(Scope....)] to these routes"


def test_routes_that_change_something_need_a_scope_that_writes(routes: dict[str, list[list[str]]]) -> None:
    changing = {
        route: set().union(*scopes)
        for route, scopes in routes.items()
        if route.split()[0] not in READING and not route.endswith(("/predict", "/explain", "/neighbors"))
    }
    assert len(changing) >= 7
    reading = {scope.value for scope in Scope if scope.endswith(":read")}
    assert [route for route, scopes in changing.items() if not scopes - reading] == []


def test_document_has_the_scheme_and_the_scopes(tmp_path: Path) -> None:
    document = create_app(Settings(root=tmp_path / "root", gpus=0)).openapi()
    assert document["components"]["securitySchemes"][SCHEME]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert ("security" in operation) == (path not in OPEN_PATHS), (method, path)
            if path not in OPEN_PATHS:
                assert {"401", "403", "429", "503"} <= set(operation["responses"]), (method, path)
    assert document["paths"]["/v1/jobs"]["post"]["security"] == [{SCHEME: ["jobs:write"]}]


def test_every_scope_is_described() -> None:
    assert set(MEANINGS) == set(Scope)


def test_routes_that_change_models_have_audit_rows(tmp_path: Path) -> None:
    app = create_app(Settings(root=tmp_path / "root", gpus=0))
    changing = {
        f"{method} {context.path}": any(
            getattr(dependency.call, "__module__", "") == audited.__module__
            for dependency in context.dependant.dependencies
        )
        for context in iter_route_contexts(app.routes)
        for method in context.methods or ()
        if context.path.startswith("/v1/models/") and method not in READING
    }
    # Jobs and data sets write their rows in the transaction of the change; predictions change nothing.
    without = {route for route, is_audited in changing.items() if not is_audited}
    jobs = {f"POST /v1/models/{{name}}/{path}" for path in ("batch-predictions", "versions/{version}/exports")}
    assert without <= {"POST /v1/models/{name}/predict", "POST /v1/models/{name}/explain", *jobs}
    assert len(changing) >= 4
