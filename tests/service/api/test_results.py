"""Metrics, predictions and files of a job's run folder."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.settings import Settings

RESULT = {
    "schema_version": 1,
    "split": "val",
    "select": {"metric": "val/boxes/AP", "mode": "max", "value": 0.5},
    "summary": {"val/boxes/AP": 0.1234567890123456, "val/boxes/APl": None},
    "tasks": {},
    "val": None,
    "model": {},
    "timing": {},
    "versions": {},
}


@pytest.fixture
def job(shared_api: httpx2.Client, document: dict[str, Any]) -> str:
    """A queued job."""
    return str(shared_api.post("/v1/jobs", json={"config": document}).json()["id"])


@pytest.fixture
def folder(job: str, shared_settings: Settings) -> Path:
    """The run folder of `job`."""
    path = shared_settings.run_dir(job)
    (path / "predictions").mkdir(parents=True)
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "best.ckpt").write_bytes(bytes(range(256)) * 64)
    return path


def test_results_are_the_content_of_result_json(shared_api: httpx2.Client, job: str, folder: Path) -> None:
    content = json.dumps(RESULT, indent=1)
    (folder / "result.json").write_text(content, "utf-8")
    answer = shared_api.get(f"/v1/jobs/{job}/results")
    assert (answer.status_code, answer.text) == (200, content)
    assert answer.headers["content-type"] == "application/json"
    again = shared_api.get(f"/v1/jobs/{job}/results", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_missing_results_are_404_with_the_status_of_the_job(shared_api: httpx2.Client, job: str) -> None:
    answer = shared_api.get(f"/v1/jobs/{job}/results")
    assert (answer.status_code, answer.json()["detail"]) == (404, f"job {job} is queued and has no results yet")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("boxes.coco.json", "application/json"),
        ("boxes.csv", "text/csv; charset=utf-8"),
        ("boxes.npz", "application/octet-stream"),
    ],
)
def test_predictions_have_their_content_type(
    shared_api: httpx2.Client, job: str, folder: Path, name: str, content_type: str
) -> None:
    (folder / "predictions" / name).write_bytes(b"[]")
    answer = shared_api.get(f"/v1/jobs/{job}/predictions/boxes")
    assert (answer.content, answer.headers["content-type"]) == (b"[]", content_type)
    missing = shared_api.get(f"/v1/jobs/{job}/predictions/other")
    assert missing.status_code == 404
    assert "it has predictions for boxes, but not for 'other'" in missing.json()["detail"]


@pytest.mark.parametrize("task", ["%2e%2e%2fresult", "%2fetc%2fpasswd", "a%00b", ".hidden", "x" * 64])
def test_task_name_cannot_be_a_path(shared_api: httpx2.Client, job: str, folder: Path, task: str) -> None:
    (folder / "result.csv").write_text("not a prediction", "utf-8")
    assert shared_api.get(f"/v1/jobs/{job}/predictions/{task}").status_code == 404


def test_files_are_listed_with_sizes_and_checksums(shared_api: httpx2.Client, job: str, folder: Path) -> None:
    (folder / ".lock").touch()
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "file").touch()
    (folder / "out").symlink_to("/etc/hostname")
    (folder / "checkpoints" / "last.ckpt").symlink_to("best.ckpt")
    files = {file["path"]: file for file in shared_api.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"]}
    assert list(files) == ["checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    best = files["checkpoints/best.ckpt"]
    digest = hashlib.sha256((folder / "checkpoints" / "best.ckpt").read_bytes()).hexdigest()
    assert (best["size_bytes"], best["sha256"]) == (1 << 14, digest)


def test_checksum_changes_with_the_file(shared_api: httpx2.Client, job: str, folder: Path) -> None:
    path = folder / "events.jsonl"

    def checksum() -> str:
        files = shared_api.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"]
        return str(next(file["sha256"] for file in files if file["path"] == "events.jsonl"))

    for content in (b"one", b"two"):
        path.write_bytes(content)
        os.utime(path, ns=(0, path.stat().st_mtime_ns + content[0]))
        assert checksum() == hashlib.sha256(content).hexdigest()


def test_file_is_a_download_with_its_checksum(shared_api: httpx2.Client, job: str, folder: Path) -> None:
    content = (folder / "checkpoints" / "best.ckpt").read_bytes()
    answer = shared_api.get(f"/v1/jobs/{job}/artifacts/checkpoints/best.ckpt")
    assert (answer.status_code, answer.content) == (200, content)
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert answer.headers["content-disposition"] == 'attachment; filename="best.ckpt"'
    assert answer.headers["accept-ranges"] == "bytes"
    tag = answer.headers["etag"]
    assert shared_api.get(answer.url, headers={"If-None-Match": tag}).status_code == 304


def test_range_of_a_file_is_returned(shared_api: httpx2.Client, job: str, folder: Path) -> None:
    url = f"/v1/jobs/{job}/artifacts/checkpoints/best.ckpt"
    content = (folder / "checkpoints" / "best.ckpt").read_bytes()
    tag = shared_api.get(url).headers["etag"]
    part = shared_api.get(url, headers={"Range": "bytes=100-199", "If-Range": tag})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
    assert shared_api.get(url, headers={"Range": "bytes=-5"}).content == content[-5:]
    changed = shared_api.get(url, headers={"Range": "bytes=100-199", "If-Range": '"older"'})
    assert (changed.status_code, changed.content) == (200, content)
    beyond = shared_api.get(url, headers={"Range": "bytes=99999-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(content)}")


@pytest.mark.parametrize(
    "text", ["bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5", "bytes=9-5", "bytes=1-2x", "bytes=\xff-", "x" * 5000]
)
def test_malformed_range_is_a_problem(shared_api: httpx2.Client, job: str, folder: Path, text: str) -> None:
    url = f"/v1/jobs/{job}/artifacts/checkpoints/best.ckpt"
    answer = shared_api.get(url, headers={b"Range": text.encode("latin-1")})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert "send a range such as bytes=0-499" in answer.json()["detail"]


def test_range_outside_the_file_is_a_problem(shared_api: httpx2.Client, job: str, folder: Path) -> None:
    url = f"/v1/jobs/{job}/artifacts/checkpoints/best.ckpt"
    for text in ("bytes=16384-", "bytes=-0", "bytes=99999999999999999-"):
        answer = shared_api.get(url, headers={"Range": text})
        assert (answer.status_code, answer.headers["content-type"]) == (416, "application/problem+json")
        assert answer.headers["content-range"] == "bytes */16384"


def test_several_ranges_and_other_units_are_answered_with_the_whole_file(
    shared_api: httpx2.Client, job: str, folder: Path
) -> None:
    content = (folder / "checkpoints" / "best.ckpt").read_bytes()
    for text in ("bytes=0-1,5-6", "lines=0-1", "bytes=0-99999", "bytes=-99999"):
        answer = shared_api.get(f"/v1/jobs/{job}/artifacts/checkpoints/best.ckpt", headers={"Range": text})
        assert (answer.content, answer.status_code) == (content, 206 if "99999" in text else 200)


def test_file_whose_name_is_not_utf8_is_listed_and_returned(shared_api: httpx2.Client, job: str, folder: Path) -> None:
    Path(os.fsdecode(bytes(folder) + b"/na\xefve \xc3\xa4.txt")).write_text("content", "utf-8")
    files = [file["path"] for file in shared_api.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"]]
    assert "na\\xefve ä.txt" in files
    answer = shared_api.get(f"/v1/jobs/{job}/artifacts/na\\xefve ä.txt")
    assert (answer.status_code, answer.text) == (200, "content")
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''na%5Cxefve%20%C3%A4.txt"


@pytest.mark.parametrize(
    "path",
    [
        "../service.db",
        "..%2f..%2fservice.db",
        "%2e%2e/%2e%2e/service.db",
        "checkpoints/..%2f..%2f..%2fservice.db",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        ".lock",
        "checkpoints/.secret",
        ".hidden/file",
        "out",
        "outside/hostname",
        "loop",
        "checkpoints",
        "",
        "a%00b",
        "x" * 3000,
        "%ff",
        "..\\service.db",
    ],
)
def test_hidden_and_outside_files_are_not_found(shared_api: httpx2.Client, job: str, folder: Path, path: str) -> None:
    (folder / ".lock").write_text("hidden", "utf-8")
    (folder / "checkpoints" / ".secret").write_text("hidden", "utf-8")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "file").write_text("hidden", "utf-8")
    (folder / "out").symlink_to("/etc/hostname")
    (folder / "outside").symlink_to("/etc")
    (folder / "loop").symlink_to("loop")
    # The raw path, since a client would normalize the dots.
    url = httpx2.URL(str(shared_api.base_url).rstrip("/")).copy_with(
        raw_path=f"/v1/jobs/{job}/artifacts/{path}".encode()
    )
    answer = shared_api.get(url)
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_file_with_scripts_is_sent_as_bytes(shared_api: httpx2.Client, job: str, folder: Path) -> None:
    for name in ("page.html", "picture.svg", "sheet.xml"):
        (folder / name).write_text("<script>", "utf-8")
        answer = shared_api.get(f"/v1/jobs/{job}/artifacts/{name}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
