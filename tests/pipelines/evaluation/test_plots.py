"""Charts from events and results."""

import numpy as np
import pytest
from PIL import Image

from pipelines.base.charts import bar_chart, matrix_chart, plain_text
from pipelines.base.records import Category
from pipelines.evaluation.chart_files import png_of
from pipelines.evaluation.curves import epoch_ends, read_curves, smoothed
from pipelines.evaluation.plots import _course, write_plots
from pipelines.run_folder.events import TrainerEvent
from pipelines.tasks.classification.tensors.scores import score_multiclass
from pipelines.tasks.detection.scoring.boxes import FoundBoxes
from pipelines.tasks.detection.scoring.coco_scores import score_coco
from pipelines.tasks.detection.tensors.charts import precision_recall


def event(kind, epoch, step, **data):
    return TrainerEvent(time=1.0, kind=kind, epoch=epoch, step=step, data=data)


def test_curves_hold_numbers_by_name_and_step():
    curves = read_curves(
        [
            event("stage", 0, 0, stage=3),
            event("progress", 0, 10, losses={"train/cells/box": 2.0}, lr=0.1, is_last=True),
            event("metric", 0, 10, **{"val/cells/AP": None, "val/cells/AP50": 0.25}),
            event("progress", 0, 20, losses={"train/cells/box": 1}, lr=0.1),
        ]
    )
    assert curves == {
        "losses/train/cells/box": [(10, 2.0), (20, 1.0)],
        "lr": [(10, 0.1), (20, 0.1)],
        "val/cells/AP50": [(10, 0.25)],
    }


def test_after_a_resume_the_later_line_wins():
    first = [event("progress", 0, step, lr=float(step)) for step in (5, 10, 15, 20)]
    again = [event("progress", 0, 12, lr=0.5), event("progress", 0, 15, lr=0.25)]
    assert read_curves([*first, *again])["lr"] == [(5, 5.0), (10, 10.0), (12, 0.5), (15, 0.25)]


def test_all_charts_are_written_as_pictures(tmp_path):
    lines = [
        event("progress", 0, 1, losses={"train/cells/box": 2.0, "train/kind/ce": 0.0}, lr=1e-3),
        event("progress", 1, 2, losses={"train/cells/box": 1.0, "train/kind/ce": 0.5}, lr=1e-4),
        event("metric", 1, 2, **{"val/cells/AP": 0.4, "val/kind/accuracy": 0.9}),
        event("metric", 1, 1, **{"gradients/norm/cells": 2.5, "gradients/norm/kind": None}),
        event("metric", 1, 2, **{"gradients/norm/cells": 0.5, "gradients/cosine/cells.kind": -0.4}),
        event("progress", 1, 2, **{"balance/cells": 0.9, "balance/kind": 1.1}),
    ]
    (tmp_path / "events.jsonl").write_text("".join(line.model_dump_json() + "\n" for line in lines) + '{"time": 1, "ki')
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
    classes = [{"id": 1, "name": "$cell_$"}, {"id": 2, "name": "never"}]
    found = FoundBoxes.from_rows([box | {"score": 0.5}])
    coco = score_coco({"images": [{"id": 1}], "annotations": [box], "categories": classes}, found)
    kinds = [Category(1, "$in_$"), Category(2, "out")]
    kind = score_multiclass(kinds, np.array([[0.6, 0.4], [0.7, 0.3]]), np.array([0, 1]))
    identity = {"identity": "A", "support": 4, "recall_at_1": 0.75}
    tasks = {
        "cells": {"kind": "detection", **coco},
        "kind": {"kind": "classification", **kind},
        "lookup": {"kind": "embedding", "per_class": [identity]},
    }
    paths = write_plots(tmp_path / "plots", tmp_path / "events.jsonl", tasks)
    assert sorted(path.name for path in paths) == [
        "balance.png",
        *(f"cells.{chart}.png" for chart in ("calibration", "classes", "confusion", "errors", "precision_recall")),
        *("cells.scores.png", "cells.sizes.png", "gradients.png"),
        *(
            "kind.calibration.png",
            "kind.classes.png",
            "kind.confusion.png",
            "kind.precision_recall.png",
            "kind.roc.png",
        ),
        *("learning_rate.png", "lookup.classes.png", "losses.png", "metrics.png"),
    ]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).std() > 5  # not blank


def test_dot_marks_the_best_threshold_of_a_class():
    row = {"label": "red", "num_boxes": 3, "precision_at_recall": [1.0, 0.5, 0.0]}
    best = {"best_threshold": 0.375, "precision_at_best": 0.8, "recall_at_best": 0.25}
    for classes, points in (([row | best], [[0.25, 0.8]]), ([row], []), ([row | dict.fromkeys(best)], [])):
        (axis,) = precision_recall("cells", classes).axes
        assert [xy for line in axis.get_lines()[1:] for xy in line.get_xydata().tolist()] == points
        assert [text.get_text() for text in axis.texts] == ["0.38"] * len(points)


def test_without_events_and_results_no_chart_is_written(tmp_path):
    empty = {"kind": "detection", "per_class": [{"label": "x", "num_boxes": 0, "AP": None, "AP50": None}]}
    assert write_plots(tmp_path / "plots", tmp_path / "events.jsonl", {"cells": empty}) == []


def test_gradients_are_drawn_as_norms_on_a_log_scale_and_cosines():
    norms, cosines, losses = "gradients/norm/cells", "gradients/cosine/cells.kind", "losses/train/cells/box"
    charts = _course({norms: [(10, 3.0), (20, 0.01)], cosines: [(10, -0.5)], losses: [(10, 1.0)]}, {})
    of_norms, of_cosines = charts["gradients"].axes
    assert "norm" in of_norms.get_title()
    assert of_norms.get_yscale() == "log"
    assert of_norms.get_lines()[0].get_xydata().tolist() == [[10, 3.0], [20, 0.01]]
    assert of_norms.get_legend().get_texts()[0].get_text() == "cells"
    assert "cosine" in of_cosines.get_title()
    assert of_cosines.get_yscale() == "linear"
    assert of_cosines.get_ylim() == (-1, 1)
    assert len(_course({cosines: [(10, -0.5)]}, {})["gradients"].axes) == 1
    assert "gradients" not in _course({losses: [(10, 1.0)]}, {})


def test_epochs_are_marked_from_1_at_their_last_steps_also_after_a_resume():
    lines = [event("progress", 0, 5), event("progress", 0, 8), event("progress", 1, 12), event("progress", 2, 20)]
    assert epoch_ends(lines) == {1: 8, 2: 12, 3: 20}
    assert epoch_ends([*lines, event("progress", 1, 16), event("metric", 4, 99)]) == {1: 8, 2: 16}
    (axis,) = _course({"lr": [(8, 1.0), (20, 0.5)]}, {1: 8, 2: 16})["learning_rate"].axes
    (above,) = axis.child_axes
    assert above.get_xticks().tolist() == [8, 16]
    assert [label.get_text() for label in above.get_xticklabels()] == ["1", "2"]


def test_losses_are_smoothed_over_faint_values_and_end_without_a_spike():
    values = [1.0] * 99 + [9.0]
    points = [(step, value) for step, value in enumerate(values)]
    (axis,) = _course({"losses/train/cells/box": points}, {})["losses"].axes
    smooth, raw = axis.get_lines()
    assert raw.get_ydata().tolist() == values
    assert raw.get_alpha() < 0.5
    assert smooth.get_ydata().tolist() == smoothed(values)
    assert smoothed(values)[-1] == (4 * 1.0 + 9.0) / 5
    assert smoothed([1.0, 3.0]) == [1.0, 2.0]


def test_legend_is_beside_the_panel():
    figure = _course({"lr": [(8, 1.0), (20, 0.5)]}, {})["learning_rate"]
    figure.draw_without_rendering()
    (axis,) = figure.axes
    assert axis.get_legend().get_window_extent().x0 >= axis.get_window_extent().x1


WIDE = plain_text("W" * 60)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: bar_chart("few", ["a", "b"], {"AP": [0.5, None]}),
        lambda: bar_chart(WIDE, [f"{WIDE} (123456)"] * 3, {"AP": [0.5] * 3}),
        lambda: matrix_chart(WIDE, [[1] * 3] * 3, [WIDE] * 3),
        lambda: _course({f"losses/train/{WIDE}/{k}": [(1, 1.0), (2, 0.5)] for k in range(40)}, {})["losses"],
    ],
    ids=["short names", "long names", "long names on both axes", "long legend"],
)
def test_picture_contains_all_texts_of_a_chart(draw):
    figure = draw()
    width = figure.axes[0].get_position().width * figure.get_figwidth()
    png_of(figure)
    shown = figure.get_tightbbox()
    assert min(shown.x0, shown.y0) >= 0
    assert shown.x1 <= figure.get_figwidth()
    assert shown.y1 <= figure.get_figheight()
    assert figure.axes[0].get_position().width * figure.get_figwidth() == pytest.approx(width)
