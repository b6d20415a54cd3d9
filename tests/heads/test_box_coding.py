import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder

from heads.box_coding import decode_deltas, decode_ltrb, encode_deltas, encode_ltrb

corner = st.floats(-500, 500, width=32)
side = st.floats(0.5, 500, width=32)
box = st.tuples(corner, corner, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def random_boxes(count, seed):
    low = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 200
    return torch.cat(
        (low, low + torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 1)) * 90 + 5), dim=1
    )


def test_deltas_match_a_hand_computed_example():
    anchor = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    target = torch.tensor([[5.0, 10.0, 25.0, 30.0]])
    deltas = encode_deltas(target, anchor)
    torch.testing.assert_close(deltas, torch.tensor([[1.0, 0.5, 0.6931472, 0.0]]))


def test_deltas_agree_with_torchvision():
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    boxes, anchors = random_boxes(50, 0), random_boxes(50, 7)
    torch.testing.assert_close(encode_deltas(boxes, anchors), coder.encode_single(boxes, anchors))
    deltas = torch.randn(50, 4) * 3
    torch.testing.assert_close(decode_deltas(deltas, anchors), coder.decode_single(deltas, anchors))


def test_size_deltas_are_clamped_so_that_boxes_stay_finite():
    decoded = decode_deltas(torch.tensor([[0.0, 0.0, 1000.0, 1000.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]]))
    torch.testing.assert_close(decoded, torch.tensor([[-492.0, -492.0, 508.0, 508.0]]))


@settings(max_examples=50, deadline=None)
@given(box, box)
def test_decoding_inverts_encoding(target, anchor):
    boxes, anchors = torch.tensor([target]), torch.tensor([anchor])
    ratio = (boxes[:, 2:] - boxes[:, :2]) / (anchors[:, 2:] - anchors[:, :2])
    if bool((ratio < 60).all()):
        torch.testing.assert_close(decode_deltas(encode_deltas(boxes, anchors), anchors), boxes, atol=0.01, rtol=1e-3)


def test_distances_agree_with_torchvision():
    coder = BoxLinearCoder(normalize_by_size=False)
    boxes, cells = random_boxes(50, 0), random_boxes(50, 7)
    points = (cells[:, :2] + cells[:, 2:]) / 2
    distances = encode_ltrb(boxes, points)
    torch.testing.assert_close(distances, coder.encode(cells, boxes))
    torch.testing.assert_close(decode_ltrb(distances, points), boxes)


def test_bfloat16_codes_are_decoded_in_float32():
    anchors = torch.tensor([[1000.0, 1000.0, 1010.0, 1010.0]])
    assert decode_deltas(torch.zeros(1, 4, dtype=torch.bfloat16), anchors).tolist() == anchors.tolist()
    assert decode_ltrb(torch.ones(1, 4, dtype=torch.bfloat16), torch.tensor([[1001.0, 1003.0]])).tolist() == [
        [1000.0, 1002.0, 1002.0, 1004.0]
    ]
