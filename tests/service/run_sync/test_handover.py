"""The handover of an attempt to a node without a shared disk: at most one driver runs it, and none once withdrawn."""

import itertools
from collections.abc import Sequence

import pytest

from pipelines.run_folder.attempt_files import AttemptExit
from service.executors.shim_contract import Order
from service.run_sync.commits import CommitDamaged, FolderState, JobObjects
from service.run_sync.handover import Decision, Ending, Handover
from tests.service.run_sync.folder_objects import FolderObjects

SERVICE = "service"


def test_order_is_taken_by_one_driver(handover: Handover, order: Order) -> None:
    assert handover.decision() is Decision.WAITING
    assert handover.take("a") == order
    assert handover.take("b") is None
    assert handover.decision() is Decision.TAKEN
    handover.withdraw()
    assert handover.decision() is Decision.TAKEN


def test_driver_whose_request_was_carried_out_without_an_answer_takes_the_order(
    handover: Handover, order: Order
) -> None:
    handover._put("taker-a")
    assert handover.take("a") == order


def test_withdrawn_order_is_never_taken(handover: Handover) -> None:
    handover.withdraw()
    assert handover.decision() is Decision.WITHDRAWN
    assert handover.take("a") is None


def test_attempt_without_an_order_is_not_run(store: FolderObjects) -> None:
    handover = Handover(JobObjects(store, "job1"), 1)
    assert handover.decision() is Decision.MISSING
    assert handover.take("a") is None


@pytest.mark.parametrize("parties", list(itertools.permutations(("a", "b", SERVICE))))
@pytest.mark.parametrize("nested", list(itertools.product((False, True), repeat=2)))
def test_two_parties_never_both_decide(
    handover: Handover, store: FolderObjects, parties: Sequence[str], nested: tuple[bool, bool]
) -> None:
    """Each party acts after the one before it, or between its two requests."""
    ran: list[str] = []
    decisions: list[Decision] = []

    def act(number: int) -> None:
        requests = itertools.count()

        def before() -> None:
            if next(requests) == 1 and number < 2 and nested[number]:
                act(number + 1)

        store.before = before
        if parties[number] == SERVICE:
            handover.withdraw()
            decisions.append(handover.decision())
        elif handover.take(parties[number]) is not None:
            ran.append(parties[number])
        if number < 2 and not nested[number]:
            act(number + 1)

    act(0)
    assert len(ran) <= 1
    assert decisions == ([Decision.WITHDRAWN] if parties[0] == SERVICE and not nested[0] else [Decision.TAKEN])
    if not nested[0]:
        assert ran == [party for party in parties[:1] if party != SERVICE]


def test_decisions_outlive_the_attempt_and_its_order_does_not(handover: Handover, store: FolderObjects) -> None:
    """A driver may wake up late."""
    handover.withdraw()
    JobObjects(store, "job1").delete_unused(2, 1, FolderState())
    assert [path.name for path in (store.folder / "jobs/job1/1/handover").iterdir()] == ["withdrawn"]
    assert handover.take("a") is None


def test_end_is_reported_with_the_last_lines_of_the_log(handover: Handover) -> None:
    assert handover.ending() is None
    ending = Ending(exit=AttemptExit(74, 1.5), log="no storage")
    handover.report(ending)
    assert handover.ending() == ending


def test_damaged_end_is_an_error_of_the_storage(handover: Handover) -> None:
    handover._put("ending", b"{}")
    with pytest.raises(CommitDamaged, match="handover/ending is not the end of an attempt"):
        handover.ending()
