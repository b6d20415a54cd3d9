import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from heads.losses import IGNORED, NEGATIVE
from heads.matching import gather_labels, match_anchors, match_locations, pad_targets, pairwise_overlaps

THRESHOLDS = {"positive_iou": 0.5, "negative_iou": 0.4, "crowd_iof": 0.5}
EVERYWHERE = torch.tensor([[0.0, torch.inf]])


def squares(*corners, side=10.0):
    low = torch.tensor(corners, dtype=torch.float32)
    return torch.cat((low, low + side), dim=1)


def locations(points, targets, radius=1000.0, ranges=EVERYWHERE):
    points = torch.tensor(points, dtype=torch.float32)
    count = len(points)
    return match_locations(points, torch.full((count,), radius), ranges.expand(count, 2), pad_targets(targets))


def test_anchors_are_positive_ignored_or_negative_by_their_iou(box_target):
    # IoU of squares of side 10 that are d apart: (10 - d) / (10 + d); 1, 0.54, 0.43, 0.33.
    anchors = squares((0, 0), (3, 0), (4, 0), (5, 0))
    matched = match_anchors(anchors, pad_targets([box_target([(0, 0, 10, 10)])]), **THRESHOLDS)
    assert matched.tolist() == [[0, 0, IGNORED, NEGATIVE]]


def test_anchor_with_iou_of_exactly_half_is_positive(box_target):
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 20.0]])
    assert match_anchors(anchors, pad_targets([box_target([(0, 0, 10, 10)])]), **THRESHOLDS).tolist() == [[0, 0]]


def test_each_box_gets_its_best_anchor_even_if_the_anchor_overlaps_another_box_more(box_target):
    small, large = (4.0, 4.0, 6.0, 6.0), (0.0, 0.0, 10.0, 10.0)
    anchors = squares((0, 0), (0.5, 0), (30, 30))
    matched = match_anchors(anchors, pad_targets([box_target([small, large])]), **THRESHOLDS)
    assert matched.tolist() == [[1, 0, NEGATIVE]]


def test_best_anchor_of_a_box_stays_negative_if_it_is_not_kept(box_target):
    targets = pad_targets([box_target([(4, 4, 6, 6), (0, 0, 10, 10)])])
    matched = match_anchors(squares((0, 0), (4, 0), (30, 30)), targets, **THRESHOLDS, keep_best=False)
    assert matched.tolist() == [[1, IGNORED, NEGATIVE]]


def test_box_that_no_anchor_overlaps_stays_without_an_anchor(box_target):
    matched = match_anchors(squares((0, 0), (20, 0)), pad_targets([box_target([(50, 50, 60, 60)])]), **THRESHOLDS)
    assert matched.tolist() == [[NEGATIVE, NEGATIVE]]


def test_anchor_mostly_inside_a_crowd_is_ignored_and_never_positive(box_target):
    target = box_target([(0, 0, 10, 10), (40, 0, 100, 10)], crowd=[False, True])
    anchors = squares((0, 0), (34, 0), (36, 0), (60, 0))
    assert match_anchors(anchors, pad_targets([target]), **THRESHOLDS).tolist() == [[0, NEGATIVE, IGNORED, IGNORED]]


def test_images_without_boxes_are_all_negative(box_target):
    anchors = squares((0, 0), (20, 0))
    padded = pad_targets([box_target([]), box_target([])])
    assert match_anchors(anchors, padded, **THRESHOLDS).tolist() == [[NEGATIVE] * 2] * 2
    points = torch.tensor([[1.0, 1.0]])
    assert match_locations(points, torch.ones(1), EVERYWHERE, padded).tolist() == [[NEGATIVE]] * 2


def test_overlaps_agree_with_torchvision():
    torch.manual_seed(0)
    low = torch.rand(40, 2) * 50
    boxes = torch.cat((low, low + torch.rand(40, 2) * 40 + 1), dim=1)
    inter, union = pairwise_overlaps(boxes[:10], boxes[10:])
    torch.testing.assert_close(inter / union, box_iou(boxes[:10], boxes[10:]))


def test_matches_agree_with_torchvision_where_no_anchor_is_the_best_of_two(box_target):
    torch.manual_seed(0)
    cells = torch.cartesian_prod(torch.arange(0, 300, 7.0), torch.arange(0, 300, 7.0))
    anchors = torch.cat([torch.cat((cells - side / 2, cells + side / 2), dim=1) for side in (15.0, 30.0, 60.0)])
    corners = torch.cartesian_prod(torch.arange(10, 300, 95.0), torch.arange(10, 300, 95.0)) + torch.rand(16, 2) * 10
    boxes = torch.cat((corners, corners + torch.rand(16, 2) * 75 + 3), dim=1)
    matched = match_anchors(anchors, pad_targets([box_target(boxes.tolist())]), **THRESHOLDS)
    expected = Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(boxes, anchors))
    assert (expected == Matcher.BETWEEN_THRESHOLDS).sum() > 10
    assert matched[0].tolist() == expected.tolist()


def test_matches_do_not_depend_on_how_images_are_grouped(box_target, monkeypatch):
    torch.manual_seed(0)
    anchors = torch.rand(100, 2) * 50
    anchors = torch.cat((anchors, anchors + torch.rand(100, 2) * 40 + 1), dim=1)
    targets = []
    for count in (3, 0, 7):
        low = torch.rand(count, 2) * 50
        targets.append(box_target(torch.cat((low, low + 20), dim=1).tolist(), crowd=[i % 3 == 2 for i in range(count)]))
    together = match_anchors(anchors, pad_targets(targets), **THRESHOLDS)
    alone = [match_anchors(anchors, pad_targets([target]), **THRESHOLDS)[0] for target in targets]
    monkeypatch.setattr("heads.matching.PAIRS_AT_ONCE", 1)
    in_parts = match_anchors(anchors, pad_targets(targets), **THRESHOLDS)
    assert together.tolist() == torch.stack(alone).tolist() == in_parts.tolist()


@pytest.mark.parametrize("pairs", [1, 250, 1000, 3700])
def test_matches_do_not_depend_on_how_boxes_are_grouped(pairs, box_target, monkeypatch):
    torch.manual_seed(0)
    grid = torch.cartesian_prod(torch.arange(10.0), torch.arange(10.0)) * 5
    anchors = torch.cat((grid, grid + 12), dim=1)
    targets = []
    for count in (40, 0, 17):
        # Whole numbers, so that boxes tie for an anchor, and anchors for a box.
        low = torch.randint(0, 50, (count, 2)).float()
        boxes = torch.cat((low, low + torch.randint(8, 20, (count, 2))), dim=1).tolist()
        targets.append(box_target(boxes, crowd=[i % 7 == 2 for i in range(count)]))
    radii, ranges = torch.full((100,), 6.0), EVERYWHERE.expand(100, 2)

    def matched():
        padded = pad_targets(targets)
        return match_anchors(anchors, padded, **THRESHOLDS), match_locations(grid + 6, radii, ranges, padded)

    together = matched()
    assert all(len(match.unique()) > 20 and (match == IGNORED).any() for match in together)
    monkeypatch.setattr("heads.matching.PAIRS_AT_ONCE", pairs)
    for one, other in zip(together, matched(), strict=True):
        assert one.tolist() == other.tolist()


class Allocations(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


@pytest.mark.parametrize("num_boxes", [10, 1000])
def test_memory_does_not_grow_with_the_number_of_boxes(num_boxes, box_target, monkeypatch):
    monkeypatch.setattr("heads.matching.PAIRS_AT_ONCE", 4000)
    low = torch.rand(num_boxes, 2) * 50
    padded = pad_targets([box_target(torch.cat((low, low + 20), dim=1).tolist())] * 3)
    anchors = torch.cat((torch.rand(1000, 2) * 50, torch.rand(1000, 2) * 50 + 60), dim=1)
    with Allocations() as allocations:
        match_anchors(anchors, padded, **THRESHOLDS)
        match_locations(anchors[:, :2], torch.ones(1000), EVERYWHERE.expand(1000, 2), padded)
    # The targets themselves have four numbers per box.
    assert allocations.largest <= max(4000, 3 * num_boxes * 4)


def test_labels_follow_the_matches(box_target):
    padded = pad_targets([box_target([(0, 0, 1, 1), (0, 0, 2, 2)], labels=[5, 7]), box_target([])])
    matched = torch.tensor([[1, NEGATIVE, 0], [IGNORED, NEGATIVE, NEGATIVE]])
    assert gather_labels(matched, padded).tolist() == [[7, NEGATIVE, 5], [IGNORED, NEGATIVE, NEGATIVE]]


def test_location_takes_the_smallest_box_that_contains_it(box_target):
    target = box_target([(0, 0, 40, 40), (10, 10, 20, 20)])
    assert locations([(15, 15), (30, 30), (50, 50)], [target]).tolist() == [[1, 0, NEGATIVE]]


def test_location_far_from_the_center_is_negative(box_target):
    target = box_target([(0, 0, 40, 20)])
    assert locations([(20, 10), (27, 10), (20, 17), (29, 10)], [target], radius=8.0).tolist() == [[0, 0, 0, NEGATIVE]]


def test_location_takes_only_boxes_of_its_range(box_target):
    # The farthest edge is 20 px from the center; the range that ends at 20 includes it.
    target = box_target([(0, 0, 40, 20)])
    ranges = torch.tensor([[0.0, 20.0], [20.0, 40.0], [10.0, 19.0]])
    assert locations([(20, 10)] * 3, [target], ranges=ranges).tolist() == [[0, NEGATIVE, NEGATIVE]]


def test_location_in_a_crowd_is_ignored_unless_an_object_takes_it(box_target):
    target = box_target([(0, 0, 40, 40), (10, 10, 20, 20)], crowd=[True, False])
    assert locations([(15, 15), (30, 30), (50, 50)], [target]).tolist() == [[1, IGNORED, NEGATIVE]]
