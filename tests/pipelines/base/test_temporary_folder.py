"""Without a folder for temporary files, commands end before libraries are imported."""

import tempfile
from pathlib import Path

import pytest

from pipelines.base.errors import ConfigError
from pipelines.base.temporary_folder import require_temporary_folder


def test_folder_that_can_be_written_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    require_temporary_folder()


def test_no_folder_that_can_be_written_is_an_error_with_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nowhere"])
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
    with pytest.raises(ConfigError, match=r"^TMPDIR: got '/proc/nowhere', and .* cannot be written; name a folder"):
        require_temporary_folder()
