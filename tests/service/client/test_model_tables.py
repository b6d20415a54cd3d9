"""Tables and pages about models."""

from rich.console import Console

from service.client.model_tables import version_page
from service.rest.model_schemas import PromotionDecision
from service.rest.model_version_schemas import ModelVersionDetails


def page_of(version: ModelVersionDetails) -> list[str]:
    """Return the lines of the page of a version, without columns of blanks."""
    console = Console(width=160, color_system=None)
    with console.capture() as captured:
        console.print(version_page(version))
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_page_of_a_version_has_the_decision_about_its_promotion() -> None:
    version = ModelVersionDetails.model_validate(
        {
            "name": "screws",
            "version": 2,
            "aliases": [],
            "created_at": 0.0,
            "run_id": None,
            "job_id": None,
            "select": "max val/cells/AP",
            "val_fingerprint": None,
            "val_metrics": {"val/cells/AP": 0.6},
            "document": {},
            "dataset": None,
            "start_weights": None,
        }
    )
    assert not any(line.startswith("promotion") for line in page_of(version))
    decision = PromotionDecision(
        promote_if="surely_better",
        metric="val/cells/AP",
        is_promoted=False,
        reason="unsure",
        value=0.6,
        champion=1,
        champion_value=0.5,
        low=-0.1,
        high=0.3,
    )
    with_decision = page_of(version.model_copy(update={"promotion": decision}))
    interval = "95 % interval of the difference -0.1 to +0.3"
    assert f"promotion not promoted (unsure; rule: surely_better), {interval}" in with_decision
