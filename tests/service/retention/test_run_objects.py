"""Objects of run folders in storage, which are deleted once no attempt can need them."""

import io
from typing import Any

from service.run_sync.commits import JobObjects, stored_jobs
from service.run_sync.opening import run_objects

Root = Any


def test_objects_of_ended_and_deleted_jobs_are_deleted_and_others_stay(root: Root, s3_url: str) -> None:
    store = run_objects(root.settings(run_storage=s3_url))
    assert store is not None
    ended, waiting = root.ended(0), root.waiting()
    for job in (ended, waiting, "deleted"):
        JobObjects(store, job).put_piece(1, "0" * 8, 1, io.BytesIO(b"content"))
    root.deleted(run_storage=s3_url)
    assert stored_jobs(store) == {waiting}


def test_storage_that_does_not_answer_is_reported(root: Root, s3_url: str) -> None:
    collection = root.collection(run_storage="s3://no-such-bucket")
    collection.carry_out()
    [problem] = collection.problems
    assert "will be deleted later" in problem
