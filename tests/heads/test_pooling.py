import torch
from torchvision.ops import MultiScaleRoIAlign

from heads.pooling import PyramidRoIAlign, rows_of


def pyramid(level_specs):
    return {level: level_specs[level] for level in ("p3", "p4", "p5")}


def test_level_of_a_box_doubles_with_its_size(level_specs):
    roi_align = PyramidRoIAlign(pyramid(level_specs), size=7)
    sides = torch.tensor([0.0, 4, 55, 56, 111, 112, 223, 224, 900])
    boxes = torch.stack((torch.zeros(9), torch.zeros(9), sides, sides), dim=1)
    assert roi_align.levels_of(boxes).tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2]


def test_pooled_boxes_agree_with_torchvision(level_specs):
    specs = pyramid(level_specs)
    torch.manual_seed(0)
    features = {level: torch.randn(2, 5, 512 // int(s.stride), 512 // int(s.stride)) for level, s in specs.items()}
    low = torch.rand(40, 2) * 200
    boxes = torch.cat((low, low + torch.rand(40, 2) * 290 + 10), dim=1)
    ours = PyramidRoIAlign(specs, size=7)(features, rows_of([boxes[:15], boxes[15:]]))
    theirs = MultiScaleRoIAlign(["p3", "p4", "p5"], 7, 2, canonical_scale=112, canonical_level=4)
    # torchvision samples with aligned=False: half a cell further to the top left, and boxes have at least one cell.
    half = torch.tensor([level_specs[f"p{3 + int(k)}"].stride / 2 for k in PyramidRoIAlign(specs).levels_of(boxes)])
    moved = boxes - half[:, None]
    expected = theirs(features, [moved[:15], moved[15:]], [(512, 512)] * 2)
    torch.testing.assert_close(ours, expected)


def test_pooling_without_alignment_equals_torchvision_with_its_levels(level_specs):
    torch.manual_seed(0)
    specs = pyramid(level_specs)
    features = {level: torch.randn(2, 5, 512 // int(s.stride), 512 // int(s.stride)) for level, s in specs.items()}
    low = torch.rand(40, 2) * 200
    boxes = torch.cat((low, low + torch.rand(40, 2) * 290 + 1), dim=1)
    own = PyramidRoIAlign(specs, size=3, min_cells=14, aligned=False)
    theirs = MultiScaleRoIAlign(["p3", "p4", "p5"], 3, 2)  # 224 px on P4
    expected = theirs(features, [boxes[:15], boxes[15:]], [(512, 512)] * 2)
    torch.testing.assert_close(own(features, rows_of([boxes[:15], boxes[15:]])), expected)


def test_pooling_follows_the_offset_of_a_level(level_specs):
    spec = type(level_specs["p3"])(channels=1, stride=8.0, offset_px=4.0)
    # The value of a cell is the x of its center, so the mean of samples is the x of the bin's center.
    xs = (torch.arange(20) + 0.5) * 8 + 4
    maps = xs.expand(1, 1, 20, 20).contiguous()
    pooled = PyramidRoIAlign({"p3": spec}, size=2)({"p3": maps}, rows_of([torch.tensor([[40.0, 40.0, 80.0, 80.0]])]))
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[50.0, 70.0], [50.0, 70.0]]))


def test_pooling_without_boxes_reaches_every_level(level_specs, make_features):
    features = make_features(2)
    pooled = PyramidRoIAlign(pyramid(level_specs))(features, rows_of([torch.zeros(0, 4)] * 2))
    assert pooled.shape == (0, 12, 7, 7)
    pooled.sum().backward()
    assert all(features[level].grad is not None for level in ("p3", "p4", "p5"))
