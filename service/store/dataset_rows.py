"""Rows of `dataset_versions`, read and written inside a transaction of the caller."""

import time
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from service.principal import Principal
from service.store.audit import append_audit
from service.store.dataset_records import DatasetStatus, DatasetVersion, NewDatasetVersion
from service.store.errors import QuotaExceeded, QuotaOwner
from service.store.locks import lock_quota
from service.store.tables import dataset_versions

COLUMNS = tuple(dataset_versions.c[field.name] for field in fields(DatasetVersion))
_ROW = dataset_versions.c


def version_of(row: Row[Any]) -> DatasetVersion:
    """Return the version of a row with `COLUMNS`."""
    values = row._asdict()
    return DatasetVersion(**{**values, "status": DatasetStatus(values["status"])})


def locked_version(connection: Connection, *conditions: ColumnElement[bool]) -> DatasetVersion | None:
    """Return the version that matches, locked until the transaction ends; None if there is none."""
    row = connection.execute(select(*COLUMNS).where(*conditions).with_for_update()).one_or_none()
    return None if row is None else version_of(row)


def update_version(connection: Connection, found: DatasetVersion, **values: Any) -> DatasetVersion:
    """Change a version, and return it."""
    query = update(dataset_versions).where(_ROW.id == found.id).values(values)
    return version_of(connection.execute(query.returning(*COLUMNS)).one())


def insert_version(connection: Connection, new: NewDatasetVersion, by: Principal, quota_bytes: int) -> DatasetVersion:
    """Add a version whose check is due at once, with its audit row.

    Raises:
        QuotaExceeded: the versions of the tenant, or those of the key, would be too large.
        IntegrityError: the tenant has a version with this name and content.
    """
    lock_quota(connection, by.tenant)
    require_space(connection, by, new.archive_bytes, quota_bytes)
    now = round(time.time(), 6)
    values = {
        **asdict(new), "tenant": by.tenant, "created_by": by.name, "key_id": by.key_id,
        "status": DatasetStatus.CHECKING, "created_at": now, "check_due_at": now, "check_attempts": 0,
        "files_bytes": 0,
    }  # fmt: skip
    added = version_of(connection.execute(insert(dataset_versions).values(values).returning(*COLUMNS)).one())
    append_audit(connection, by, "dataset.create", added.reference)
    return added


def require_space(connection: Connection, by: Principal, num_bytes: int, quota_bytes: int) -> int:
    """Return the number of bytes that a principal may still store; raises QuotaExceeded if they are too few."""
    limits: list[tuple[QuotaOwner, ColumnElement[bool], int]] = [("tenant", _ROW.tenant == by.tenant, quota_bytes)]
    if by.key_id is not None and by.limits.storage_bytes is not None:
        limits.append(("key", _ROW.key_id == by.key_id, by.limits.storage_bytes))
    free = []
    for owner, condition, limit in limits:
        used = used_bytes(connection, condition)
        if used + num_bytes > limit:
            raise QuotaExceeded(owner, used, num_bytes, limit)
        free.append(limit - used)
    return min(free)


def used_bytes(connection: Connection, condition: ColumnElement[bool]) -> int:
    """Return the size of all versions that match: archives and extracted files."""
    total = func.coalesce(func.sum(_ROW.archive_bytes + _ROW.files_bytes), 0)
    return int(connection.execute(select(total).where(condition)).scalar_one())
