"""Versions of data sets: their rows, the claims of their checks, and the jobs that use them."""

import time
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, delete, select, update
from sqlalchemy.exc import IntegrityError

from service.principal import LOCAL_USER, Principal
from service.store.audit import append_audit
from service.store.database import reading, writing
from service.store.dataset_records import CheckedDataset, DatasetStatus, DatasetVersion, NewDatasetVersion
from service.store.dataset_rows import (
    COLUMNS,
    insert_version,
    locked_version,
    require_space,
    update_version,
    used_bytes,
    version_of,
)
from service.store.dataset_uses import dataset_of_job
from service.store.errors import DatasetBeingDeleted, DatasetInUse, DatasetNotFound
from service.store.tables import dataset_uses, dataset_versions, jobs

_ROW = dataset_versions.c
MAX_SHOWN_USERS = 5
MAX_DELAY_S = 600.0
"""Maximum time for which a check is claimed or postponed."""


class DatasetStore:
    """Every method raises StoreUnavailable while the database cannot be used.

    A `tenant` of None stands for all tenants.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, new: NewDatasetVersion, by: Principal, quota_bytes: int) -> tuple[DatasetVersion, bool]:
        """Add a version and let it be checked; return it with True, or the existing one of this content with False.

        An existing version that is invalid is checked again.

        Args:
            new: the version.
            by: its owner.
            quota_bytes: of the owner's tenant; that of the owner's key is one of its limits.

        Raises:
            QuotaExceeded: the versions of the tenant, or those of the key, would be too large.
            DatasetBeingDeleted: the version with this content is being deleted.
        """
        try:
            return self._create(new, by, quota_bytes)
        except IntegrityError:  # on PostgreSQL: another transaction has added the same version
            return self._create(new, by, quota_bytes)

    def _create(self, new: NewDatasetVersion, by: Principal, quota_bytes: int) -> tuple[DatasetVersion, bool]:
        now = round(time.time(), 6)
        with writing(self._engine) as connection:
            found = locked_version(
                connection, _ROW.tenant == by.tenant, _ROW.name == new.name, _ROW.sha256 == new.sha256
            )
            if found is not None:
                if found.status is DatasetStatus.DELETING:
                    raise DatasetBeingDeleted(found.reference)
                if found.status is DatasetStatus.INVALID:
                    found = update_version(
                        connection, found, status=DatasetStatus.CHECKING, check_due_at=now, check_attempts=0,
                        message=None,
                    )  # fmt: skip
                return found, False
            return insert_version(connection, new, by, quota_bytes), True

    def find_invalid(self, tenant: str, name: str, sha256: str) -> str | None:
        """Return the id of the version with some content if its check has found it to be invalid."""
        same = (_ROW.tenant == tenant, _ROW.name == name, _ROW.sha256 == sha256)
        query = select(_ROW.id).where(*same, _ROW.status == DatasetStatus.INVALID)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one_or_none()

    def check_owners(self, ids: Collection[str]) -> dict[str, str | None]:
        """Return, of some versions, those that exist, each with the owner of its running check, if any."""
        query = select(_ROW.id, _ROW.check_owner).where(_ROW.id.in_(ids))
        with reading(self._engine) as connection:
            return {row.id: row.check_owner for row in connection.execute(query)}

    def used_bytes(self, tenant: str) -> int:
        """Return the size of all versions of a tenant: archives and extracted files."""
        with reading(self._engine) as connection:
            return used_bytes(connection, _ROW.tenant == tenant)

    def free_bytes(self, by: Principal, quota_bytes: int) -> int:
        """Return the number of bytes that a principal may still store.

        Raises:
            QuotaExceeded: there are none.
        """
        with reading(self._engine) as connection:
            return require_space(connection, by, 1, quota_bytes)

    def find(self, tenant: str | None, name: str, version: str | None) -> DatasetVersion:
        """Return the version whose digest starts with `version`, or the newest ready one for None.

        Raises:
            DatasetNotFound: the tenant has no such version.
        """
        conditions = [_ROW.name == name, *_of(tenant)]
        if version is None:
            conditions.append(_ROW.status == DatasetStatus.READY)
        else:
            conditions.append(_ROW.sha256.startswith(version, autoescape=True))
        query = select(*COLUMNS).where(*conditions).order_by(_ROW.number.desc()).limit(1)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise DatasetNotFound(name, version)
        return version_of(row)

    def page(
        self,
        tenant: str | None,
        *,
        name: str | None = None,
        statuses: Sequence[DatasetStatus] = (),
        before_number: int | None = None,
        limit: int = 50,
    ) -> list[DatasetVersion]:
        """Return the versions that match, newest first; the last one's `number` is the next page's `before_number`."""
        conditions = _of(tenant)
        if name is not None:
            conditions.append(_ROW.name == name)
        if statuses:
            conditions.append(_ROW.status.in_(sorted(statuses)))
        if before_number is not None:
            conditions.append(_ROW.number < before_number)
        query = select(*COLUMNS).where(*conditions).order_by(_ROW.number.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [version_of(row) for row in connection.execute(query)]

    def claim_check(self, owner: str, lease_s: float) -> DatasetVersion | None:
        """Return a version whose check is due, and let nobody else check it for `lease_s`; None if none is due."""
        now = time.time()
        # A later time than any claim or delay sets was written before the clock was set back.
        is_due = (_ROW.check_due_at <= now) | (_ROW.check_due_at > now + MAX_DELAY_S)
        due = (_ROW.status == DatasetStatus.CHECKING, is_due)
        query = select(*COLUMNS).where(*due).order_by(_ROW.number).limit(1).with_for_update(skip_locked=True)
        with reading(self._engine) as connection:
            if connection.execute(select(_ROW.id).where(*due).limit(1)).one_or_none() is None:
                return None
        with writing(self._engine) as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            found = version_of(row)
            return update_version(connection, found, check_owner=owner, check_due_at=now + lease_s,
                           check_attempts=found.check_attempts + 1)  # fmt: skip

    def renew_check(self, dataset_id: str, owner: str, lease_s: float) -> bool:
        """Extend a claim; return False if the owner has lost it."""
        return self._write_check(dataset_id, owner, check_due_at=time.time() + lease_s)

    def finish_check(self, dataset_id: str, owner: str, checked: CheckedDataset) -> bool:
        """Write the result of a check; return False if the owner has lost its claim."""
        values: dict[str, Any] = {
            "status": DatasetStatus.READY if checked.is_ready else DatasetStatus.INVALID,
            "message": checked.message, "files_bytes": checked.files_bytes, "num_images": checked.num_images,
            "checked_at": round(time.time(), 6), "check_owner": None,
        }  # fmt: skip
        if checked.sources is not None:
            values["sources"] = checked.sources
        return self._write_check(dataset_id, owner, **values)

    def check_again(self, dataset_id: str) -> None:
        """Let a version that is ready be checked again, which extracts its files."""
        ready = (_ROW.id == dataset_id, _ROW.status == DatasetStatus.READY)
        values = {"status": DatasetStatus.CHECKING, "check_due_at": time.time(), "check_attempts": 0}
        with writing(self._engine) as connection:
            connection.execute(update(dataset_versions).where(*ready).values(values))

    def postpone_check(self, dataset_id: str, owner: str, delay_s: float, message: str | None = None) -> bool:
        """Give a check back that has to be repeated after a delay; return False if the owner has lost its claim."""
        due = time.time() + delay_s
        return self._write_check(dataset_id, owner, check_due_at=due, check_owner=None, message=message)

    def _write_check(self, dataset_id: str, owner: str, **values: Any) -> bool:
        claimed = (_ROW.id == dataset_id, _ROW.check_owner == owner, _ROW.status == DatasetStatus.CHECKING)
        with writing(self._engine) as connection:
            return connection.execute(update(dataset_versions).where(*claimed).values(values)).rowcount == 1

    def runs_of_deleted_jobs(self, dataset_id: str) -> list[str]:
        """Return the MLflow runs of deleted jobs that used a version; their models may exist."""
        query = select(dataset_uses.c.mlflow_run_id).where(
            dataset_uses.c.dataset_id == dataset_id, dataset_uses.c.mlflow_run_id.is_not(None)
        )
        with reading(self._engine) as connection:
            return list(connection.execute(query).scalars())

    def of_job(self, job_id: str) -> DatasetVersion | None:
        """Return the version that a job uses, if any."""
        with reading(self._engine) as connection:
            return dataset_of_job(connection, job_id)

    def start_deletion(
        self, dataset_id: str, by: Principal = LOCAL_USER, runs_without_models: Collection[str] = ()
    ) -> DatasetVersion:
        """Let no job use a version any more, so that its files can be deleted.

        Args:
            dataset_id: of the version.
            by: who deletes it.
            runs_without_models: those of `runs_of_deleted_jobs` that have no model.

        Raises:
            DatasetNotFound: it does not exist.
            DatasetInUse: a job that is not deleted uses it, or a deleted one that may have a model.
        """
        with writing(self._engine) as connection:
            found = locked_version(connection, _ROW.id == dataset_id)
            if found is None:
                raise DatasetNotFound(dataset_id, None)
            using = select(jobs.c.id).join(dataset_uses, dataset_uses.c.job_id == jobs.c.id)
            query = using.where(dataset_uses.c.dataset_id == dataset_id).order_by(jobs.c.number.desc())
            if users := list(connection.execute(query.limit(MAX_SHOWN_USERS + 1)).scalars()):
                shown = [f"job {job_id}" for job_id in users[:MAX_SHOWN_USERS]]
                raise DatasetInUse(found.reference, [*shown, *(["more jobs"] if len(users) > len(shown) else [])])
            uses = dataset_uses.c.dataset_id == dataset_id
            runs = connection.execute(select(dataset_uses.c.mlflow_run_id).where(uses)).scalars()
            if unknown := sorted({run for run in runs if run is not None} - set(runs_without_models)):
                raise DatasetInUse(found.reference, [f"the models of run {run}" for run in unknown])
            connection.execute(delete(dataset_uses).where(uses))
            append_audit(connection, by, "dataset.delete", found.reference, tenant=found.tenant)
            return update_version(connection, found, status=DatasetStatus.DELETING, check_owner=None)

    def finish_deletion(self, dataset_id: str) -> None:
        """Delete the row of a version whose files were deleted."""
        with writing(self._engine) as connection:
            deleting = (_ROW.id == dataset_id, _ROW.status == DatasetStatus.DELETING)
            connection.execute(delete(dataset_versions).where(*deleting))

    def deleting(self) -> list[DatasetVersion]:
        """Return the versions whose deletion has not finished."""
        return self.page(None, statuses=[DatasetStatus.DELETING], limit=100)


def _of(tenant: str | None) -> list[ColumnElement[bool]]:
    return [] if tenant is None else [_ROW.tenant == tenant]
