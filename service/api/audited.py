"""Audit rows of routes that change something outside of the database, such as aliases in MLflow.

    @router.put("/{name}", dependencies=[needs(Scope....), audited("model.promote")])

The row is written before the endpoint runs, and gets its outcome after it. Routes that change the database write their
row in the transaction of the change instead, see `service.store.audit`.
"""

import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Depends, Request

from service.api.model_access import owner_of_named_model
from service.api.thread_pools import NoAnswer, ThreadPools, Work
from service.store.audit import AuditLog, AuditOutcome
from service.store.errors import StoreUnavailable

logger = logging.getLogger(__name__)


def audited(action: str) -> Any:
    """Return the dependency of a route whose changes have audit rows with this action.

    The target is the values of the path's parameters, and the tenant is the owner of the model among them. A request
    that is refused by the route has the outcome `failed`.
    """

    async def record(request: Request) -> AsyncIterator[None]:
        log: AuditLog = request.app.state.audit
        pools: ThreadPools = request.app.state.pools
        target = "/".join(map(str, request.path_params.values()))

        async def end(outcome: AuditOutcome, detail: str | None = None) -> None:
            try:
                await pools[Work.WRITES].run(log.end, seq, outcome, detail)
            except (NoAnswer, StoreUnavailable) as error:
                # The change was made or refused already; its row remains `started`.
                logger.error("the outcome of audit row %d (%s %s) was not recorded: %s", seq, action, target, error)

        owner = await owner_of_named_model(request)
        seq = await pools[Work.WRITES].run(log.start, request.state.principal, action, target, tenant=owner)
        try:
            yield
        except Exception as error:
            await end("failed", str(getattr(error, "detail", error)))
            raise
        await end("done")

    return Depends(record, scope="function")
