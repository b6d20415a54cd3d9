"""`serve` as the first process of a container: when it ends, the kernel ends everything else."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.spec.load import apply_override
from tests.service.whole.conftest import Service

Document = dict[str, Any]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_attempts_write_a_checkpoint_before_their_container_stops_and_resume_in_the_next_one(
    tmp_path: Path, demo_root: Path, small: Document
) -> None:
    service = Service(tmp_path / "root", demo_root.parent, 1, inherits_orphans=True)
    service.start()
    job = service.submit(apply_override(small, "trainer.max_epochs", 8))
    service.wait_for(job, lambda job: (job["progress"] or {}).get("epoch", 0) >= 1)
    assert service.stop() == 0
    assert service.processes(job) == []
    assert "of running attempts would end with this container" in service.log.read_text()
    service.start()
    ended = service.wait(job, 300)
    assert service.stop() == 0
    assert ended["status"] == "succeeded", service.log.read_text()
    assert [attempt["outcome"] for attempt in ended["attempts"]] == ["stopped", "succeeded"]
