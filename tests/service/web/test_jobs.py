"""The list of jobs, and the form that submits one."""

import re
from typing import Any

import httpx2
import pytest

from service.rest.document_text import document_of, text_of
from service.web.yaml_places import lines_of

FORM = {"mode": "document", "kind": "fit", "priority": "3", "cpus": "1", "key": "a-key"}
DOCUMENT = """\
name: {name}
trainer: {{max_epochs: 1, accelerator: cpu}}
model:
  backbone: {{name: resnet14_thin, weights: none}}
  neck: {{channels: 32}}
  tasks:
    boxes: {{head: fcos, num_convs: 1}}
data:
  root: shapes
  sources:
    shapes:
      images: images
      labels: [{{format: coco, path: "{{split}}.json", tasks: [boxes]}}]
      splits: {{train: train, val: val}}
  image_size: 64
tracking: null
"""
ALIASES = "x0: &x0 1\n" + "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 12))
"""A document of a thousand characters that stands for a hundred billion values."""
PART = {"HX-Request": "true", "HX-Target": "report"}


@pytest.fixture
def submitted(site: httpx2.Client, change: dict[str, str]) -> str:
    """The id of a job that was submitted with the form."""
    form = {**FORM, "document": DOCUMENT.format(name="listed"), "key": "listed"}
    answer = site.post("/jobs/new", data=form, headers=change)
    assert answer.status_code == 204, answer.text
    return answer.headers["hx-redirect"].removeprefix("/jobs/")


def test_submitted_job_is_listed_with_its_reason_for_waiting_and_its_actions(
    site: httpx2.Client, submitted: str, change: dict[str, str]
) -> None:
    page = site.get("/", params={"name": "listed"}).text
    assert f'<a href="/jobs/{submitted}"><bdi>listed</bdi></a>' in page
    assert "no supervisor is running" in page
    assert f'hx-post="/v1/jobs/{submitted}/cancel"' in page
    assert site.post(f"/v1/jobs/{submitted}/cancel", headers=change).status_code == 202
    page = site.get("/", params={"status": "cancelled", "kind": "", "name": ""}).text
    assert f'hx-delete="/v1/jobs/{submitted}"' in page
    assert 'class="status cancelled"' in page


def test_form_that_is_sent_twice_submits_one_job(site: httpx2.Client, submitted: str, change: dict[str, str]) -> None:
    again = site.post(
        "/jobs/new", data={**FORM, "document": DOCUMENT.format(name="listed"), "key": "listed"}, headers=change
    )
    assert again.headers["hx-redirect"] == f"/jobs/{submitted}"


def test_older_jobs_are_on_the_next_page(site: httpx2.Client, change: dict[str, str]) -> None:
    for number in range(51):
        form = {**FORM, "document": DOCUMENT.format(name="many"), "key": f"many-{number}"}
        assert site.post("/jobs/new", data=form, headers=change).status_code == 204
    first = site.get("/", params={"name": "many"}).text
    assert first.count('<tr id="job-') == 50
    assert len(first) < 200_000
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    assert site.get(following[1].replace("&amp;", "&")).text.count('<tr id="job-') == 1


def test_problems_of_a_document_have_their_lines(site: httpx2.Client, change: dict[str, str]) -> None:
    document = DOCUMENT.format(name="wrong").replace("max_epochs: 1", "max_epochs: no").replace("fcos", "<b>fcos")
    report = site.post("/jobs/new", data={**FORM, "document": document}, headers={**change, **PART})
    assert report.status_code == 200
    assert "<code>trainer.max_epochs</code> in line 2: " in report.text
    assert "<code>model.tasks.boxes.head</code> in line 7: " in report.text
    assert "&lt;b&gt;fcos" in report.text
    assert "<b>fcos" not in report.text


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"document": "a: [1"}, "The document cannot be read"),
        ({"document": ""}, "got nothing; write a job document"),
        ({"document": "- 1"}, "got a list; write a job document"),
        ({"document": "a: 1\na: 2"}, "the key &#39;a&#39; is repeated"),
        ({"document": "a: !!binary aGk="}, "got a value that JSON does not have"),
        ({"document": "a: .nan"}, "NaN is not a JSON number"),
        ({"document": "&a {b: *a}"}, "the document with its aliases has more than 4194304 characters"),
        ({"document": "[" * 5000}, "The document cannot be read"),
        ({"document": ALIASES}, "the document with its aliases has more than 4194304 characters"),
        ({"document": "a: 1", "priority": "high"}, "got &#39;high&#39;; write a whole number"),
        ({"mode": "recipe", "dataset": "gone@123456789abc", "budget": "5m"}, "gone"),
        ({"mode": "recipe", "folder": "shapes", "budget": "soon"}, "budget"),
    ],
)
def test_invalid_form_gets_a_report(
    form: dict[str, Any], message: str, site: httpx2.Client, change: dict[str, str]
) -> None:
    report = site.post("/jobs/new", data={**FORM, **form}, headers={**change, **PART})
    assert report.status_code == 200
    assert message in report.text


def test_form_has_the_kinds_and_resources_of_the_server(site: httpx2.Client) -> None:
    page = site.get("/jobs/new").text
    assert "CPU cores (of 2)" in page
    assert "<option>batch_prediction</option>" in page


def test_lines_of_a_document_are_found_by_pointer() -> None:
    text = "a:\n  b/c:\n    - 1\n    - d: 2\n"
    assert document_of(text) == {"a": {"b/c": [1, {"d": 2}]}}
    assert lines_of(text) == {"/a": 1, "/a/b~1c": 2, "/a/b~1c/0": 3, "/a/b~1c/1": 4, "/a/b~1c/1/d": 4}
    assert lines_of("") == {}


def test_document_of_the_form_is_read_as_the_command_line_reads_it() -> None:
    document = {"lr": 1e-3, "number": "1e-3", "date": "2026-11-29", "switch": "on", "nothing": None}
    assert document_of("lr: 1e-3\nnumber: '1e-3'\ndate: 2026-11-29\nswitch: 'on'\nnothing:\n") == document
    assert document_of(text_of(document)) == document
