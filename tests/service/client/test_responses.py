"""Responses that cannot be trusted are errors."""

import base64
import hashlib
from pathlib import Path

import httpx2
import pytest

from service.client.errors import ServiceError
from service.client.responses import require_digest


def test_file_that_differs_from_its_checksum_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"received")
    digest = base64.b64encode(hashlib.sha256(b"received").digest()).decode()
    request = httpx2.Request("GET", "http://host/file")
    response = httpx2.Response(200, headers={"Repr-Digest": f"sha-256=:{digest}:"}, request=request)
    require_digest(response, tmp_path / "file")
    (tmp_path / "file").write_bytes(b"recei")
    with pytest.raises(ServiceError, match="the file differs from its checksum"):
        require_digest(response, tmp_path / "file")
