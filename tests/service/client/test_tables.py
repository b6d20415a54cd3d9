"""Tables and pages about jobs."""

from rich.console import Console

from service.client.tables import dry_run_page, failure_text
from service.rest.schemas import DryRun, Failure, Resources, StageParameters, TrainableFrom
from service.states import FailureKind


def test_failure_is_a_sentence_with_the_tail_of_the_log() -> None:
    failure = Failure(kind=FailureKind.NUMERICS, message="a loss is not finite", log_tail=["one", "two"])
    assert failure_text(failure) == "numerics: a loss is not finite\nlast lines of the log:\n  one\n  two"
    assert failure_text(failure.model_copy(update={"log_tail": []})) == "numerics: a loss is not finite"


def test_dry_run_shows_the_document_the_data_and_the_trained_parts_by_epoch() -> None:
    dry_run = DryRun(
        config={"name": "[bold]"},
        resources=Resources(cpus=2, gpus=0, timeout_s=60),
        data_report={"splits": {"train": {"listed": 5, "in_index": 4}}, "num_warnings": 1},
        stages=[StageParameters(stage="c5", parameters=1000), StageParameters(stage="heads", parameters=20)],
        trainable=[
            TrainableFrom(epoch=0, stages=["heads"], parameters=20),
            TrainableFrom(epoch=3, stages=["c5", "heads"], parameters=1020),
        ],
    )
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(dry_run_page(dry_run))
    lines = [" ".join(line.split()) for line in captured.get().splitlines()]
    assert "name: '[bold]'" in lines
    assert "resources: 2 CPUs, 0 GPUs, at most 0:01:00" in lines
    assert "data: 4 of 5 train images are used; 1 warning" in lines
    assert {"1 heads 20", "4 all 1,020", "c5 1,000"} <= set(lines)
