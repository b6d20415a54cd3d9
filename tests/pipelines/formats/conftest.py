from pathlib import Path

import pytest

from tests.pipelines.data_folder import DataFolder


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)
