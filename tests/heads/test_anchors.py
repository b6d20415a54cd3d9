import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from heads.anchors import anchor_shapes, cell_centers, grid_anchors


def test_cell_centers_follow_the_measured_stride_and_offset(level_specs):
    spec = type(level_specs["p3"])(channels=1, stride=8.5, offset_px=3.0)
    centers = cell_centers((2, 3), spec)
    assert centers.tolist() == [
        [7.25, 7.25],
        [15.75, 7.25],
        [24.25, 7.25],
        [7.25, 15.75],
        [15.75, 15.75],
        [24.25, 15.75],
    ]


def test_cell_offset_moves_the_points_inside_the_cells(level_specs):
    spec = type(level_specs["p3"])(channels=1, stride=8.0, offset_px=3.0)
    assert cell_centers((1, 2), spec, cell_offset=0.0).tolist() == [[3, 3], [11, 3]]
    assert cell_centers((1, 2), spec, cell_offset=1.0).tolist() == [[11, 11], [19, 11]]


def test_anchor_shapes_keep_the_area_and_have_the_given_ratios():
    shapes = anchor_shapes(8, 4, 2, (0.5, 1.0, 2.0))
    torch.testing.assert_close(shapes.prod(dim=1).sqrt(), torch.tensor([32.0] * 3 + [32 * 2**0.5] * 3))
    torch.testing.assert_close(shapes[:, 1] / shapes[:, 0], torch.tensor([0.5, 1.0, 2.0] * 2))


def test_grid_anchors_agree_with_torchvision_at_the_cell_centers(level_specs):
    shapes = anchor_shapes(8, 4, 1, (0.25, 1.0, 4.0))
    anchors = grid_anchors((8, 12), level_specs["p3"], shapes)
    generator = AnchorGenerator(((32,),), ((0.25, 1.0, 4.0),))
    images = ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    (expected,) = generator(images, [torch.zeros(1, 1, 8, 12)])
    torch.testing.assert_close(anchors, expected + 4.0)
