"""Worst queries of a finished run: in its result, and as a picture beside their neighbors."""

import json

from PIL import Image

from pipelines.run.query_pictures import CELL_PX
from pipelines.run_folder.layout import RunDir


def test_worst_queries_are_in_the_result_and_drawn(finished: RunDir) -> None:
    worst = json.loads(finished.result.read_text())["tasks"]["identity"]["worst_queries"]
    annotations = json.loads((finished.ground_truth / "shapes.coco.json").read_text())["annotations"]
    images = {annotation["id"]: annotation["image_id"] for annotation in annotations}
    assert worst
    for query in worst:
        assert all(images[item["annotation_id"]] == item["image_id"] for item in (query, *query["neighbors"]))
        similarities = [item["similarity"] for item in query["neighbors"]]
        assert similarities == sorted(similarities, reverse=True)
    assert [query["map_at_r"] for query in worst] == sorted(query["map_at_r"] for query in worst)
    with Image.open(finished.plots / "test_worst_queries_identity.png") as picture:
        columns, rows = 1 + len(worst[0]["neighbors"]), len(worst)
        assert picture.width >= columns * CELL_PX
        assert picture.height >= rows * CELL_PX
