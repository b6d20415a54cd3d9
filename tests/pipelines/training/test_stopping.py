"""Unit tests of stop requests; `test_resume.py` and `test_stops.py` test them in a run."""

import os
import signal
import time
from pathlib import Path

import pytest

from pipelines.base.errors import Stopped
from pipelines.training.launcher import RENDEZVOUS_VARIABLE
from pipelines.training.stopping import NOTICE, StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_is_remembered_and_raised_at_the_next_check(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    stop = StopRequest()
    stop.install()
    stop.check("before training")
    os.kill(os.getpid(), number)
    assert stop.is_set
    assert capfd.readouterr().err == (NOTICE if number == signal.SIGINT else "")
    with pytest.raises(Stopped, match="stopped before training") as caught:
        stop.check("before training")
    assert caught.value.exit_code == 75


def test_second_ctrl_c_ends_the_process_at_once_but_a_second_sigterm_does_not() -> None:
    stop = StopRequest()
    stop.install()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        _interrupt_self()


def _interrupt_self() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def test_stop_request_of_one_rank_is_seen_by_all_ranks_with_the_same_rendezvous_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    requested, other = StopRequest(), StopRequest()
    requested.is_set = True
    assert requested.is_requested()
    assert not other.is_requested()
    monkeypatch.setenv(RENDEZVOUS_VARIABLE, str(tmp_path))
    assert not other.is_requested()
    assert requested.is_requested()
    assert other.is_requested()
    monkeypatch.setenv(RENDEZVOUS_VARIABLE, str(tmp_path / "gone"))
    assert requested.is_requested()
    assert not other.is_requested()
