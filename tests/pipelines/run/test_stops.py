"""A run stopped during the final scoring writes no result; the same command then completes it with the same result."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from backbones.base import Backbone
from pipelines.run_folder.events import read_events
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.layout import RunDir


@contextmanager
def sigterm_in_the_final_scoring(run_dir: RunDir) -> Iterator[list[int]]:
    """Send SIGTERM to this process at each batch of the final scoring; yield the number of batches so far."""
    count = [0]

    def request_stop(module: nn.Module, arguments: Any) -> None:
        if isinstance(module, Backbone) and b'"evaluating"' in run_dir.events.read_bytes():
            count[0] += 1
            os.kill(os.getpid(), signal.SIGTERM)

    hook = register_module_forward_pre_hook(request_stop)
    try:
        yield count
    finally:
        hook.remove()


def test_stop_in_the_final_scoring_takes_effect_after_the_batch_and_the_run_can_be_resumed(
    command: Callable[..., int],
    job_yaml: Path,
    demo_root: Path,
    finished: RunDir,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_dir = RunDir.of(tmp_path / "run")
    arguments = ("fit", "--config", job_yaml, "--data-root", demo_root.parent, "--run-dir", run_dir.path)
    with sigterm_in_the_final_scoring(run_dir) as evaluated:
        assert command(*arguments) == 75
    assert evaluated == [1]
    output = capsys.readouterr().err
    assert f"stopped during evaluation; saved in {run_dir.last_checkpoint}\nresume with: pyramidion fit " in output
    assert "error:" not in output
    assert "Traceback" not in output
    assert [event.data["stage"] for event in read_events(run_dir.events) if event.kind == "stage"][-1] == "evaluating"
    assert not run_dir.result.exists()
    assert not run_dir.predictions.exists()
    checkpoint = run_dir.last_checkpoint.read_bytes()

    exports = ExportsDir.of(run_dir.path)
    exports.variant("openvino-fp32").path.mkdir(parents=True)
    assert command(*arguments) == 0
    assert not exports.path.exists(), "exports of earlier weights are removed"
    assert run_dir.last_checkpoint.read_bytes() == checkpoint
    result, expected = (json.loads(path.result.read_text()) for path in (run_dir, finished))
    assert {**result, "timing": None} == {**expected, "timing": None}
    for path in sorted(finished.predictions.glob("*.[cj]s*")):
        assert (run_dir.predictions / path.name).read_bytes() == path.read_bytes()
