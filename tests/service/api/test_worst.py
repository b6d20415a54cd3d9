"""`GET /v1/jobs/{job_id}/results/{task}/worst`."""

from typing import Any

import httpx2

from pipelines.run_folder.layout import RunDir
from pipelines.tasks.worst_images import LabelSuspicion, WorstImages
from service.settings import Settings

WORST = WorstImages(
    kind="detection",
    iou=0.5,
    thresholds={"box": 0.4},
    num_images=2,
    num_images_with_errors=0,
    images=[],
    num_suspicions=1,
    suspicions=[
        LabelSuspicion(
            kind="not_found",
            image_id=1,
            file_name="1.png",
            label="box",
            bbox_xywh=[1.0, 2.0, 3.0, 4.0],
            score=None,
            annotation_id=5,
            annotated_label="box",
        )
    ],
)


def test_worst_images_are_the_document_of_the_run_folder(
    shared_api: httpx2.Client, shared_settings: Settings, document: dict[str, Any]
) -> None:
    job_id = str(shared_api.post("/v1/jobs", json={"config": document}).json()["id"])
    url = f"/v1/jobs/{job_id}/results/boxes/worst"
    answer = shared_api.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert f"job {job_id} is queued and has none of 'boxes'; only detection tasks" in answer.json()["detail"]
    run_dir = RunDir.of(shared_settings.run_dir(job_id))
    run_dir.worst_folder.mkdir(parents=True)
    run_dir.worst("boxes").write_text(WORST.model_dump_json())
    run_dir.suspicions("boxes").write_text("{}")
    (run_dir.path / "secret.json").write_text("{}")
    answer = shared_api.get(url)
    assert (answer.status_code, answer.text) == (200, WORST.model_dump_json())
    again = shared_api.get(url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for task in ("other", "boxes.coco", "..%2fsecret", "x" * 79):
        missing = shared_api.get(f"/v1/jobs/{job_id}/results/{task}/worst")
        assert missing.status_code == 404, task
    assert "there are some of boxes" in shared_api.get(f"/v1/jobs/{job_id}/results/other/worst").json()["detail"]
    listed = shared_api.get(f"/v1/jobs/{job_id}/artifacts").json()["artifacts"]
    assert "worst/boxes.coco.json" in [file["path"] for file in listed]
