import pytest
import torch
from pytorch_metric_learning import losses as metric_losses
from torch.nn import functional

from heads.base import IdentityTarget
from heads.create import create_head

LOSSES = ("proxy_anchor", "arcface", "supcon")


def image_targets(*identities):
    return [IdentityTarget(torch.tensor(identity)) for identity in identities]


def unit_rows(count, dim=8):
    return functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(3)), dim=1)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_that_of_pytorch_metric_learning_without_unknown_identities(level_specs, loss):
    torch.manual_seed(0)
    head = create_head("embedding", level_specs=level_specs, num_classes=4, dim=8, loss=loss)
    oracle = {
        "proxy_anchor": metric_losses.ProxyAnchorLoss(4, 8),
        "arcface": metric_losses.ArcFaceLoss(4, 8),
        "supcon": metric_losses.SupConLoss(),
    }[loss]
    oracle.load_state_dict(head.metric_loss.state_dict())
    rows = unit_rows(6)
    total, count = head.loss(rows, image_targets(0, 1, -1, 0, 3, 1))[loss]
    known = [0, 1, 3, 4, 5]
    torch.testing.assert_close(total, oracle(rows[known], torch.tensor([0, 1, 0, 3, 1])))
    assert float(count) == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_without_identities_is_zero_and_touches_every_parameter(level_specs, make_features, loss):
    head = create_head("embedding", level_specs=level_specs, num_classes=4, dim=8, loss=loss)
    total, count = head.loss(head(make_features(2)), image_targets(-1, -1))[loss]
    assert total.item() == float(count) == 0
    total.backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("identities", [(0, 1, 2), (1, 1, 1), (0,)])
def test_supcon_needs_an_equal_and_an_unequal_pair(level_specs, identities):
    head = create_head("embedding", level_specs=level_specs, num_classes=4, dim=8, loss="supcon")
    rows = unit_rows(len(identities)).requires_grad_()
    total, count = head.loss(rows, image_targets(*identities))["supcon"]
    assert total.item() == float(count) == 0


@pytest.mark.parametrize("of", ["image", "objects"])
def test_embeddings_have_length_one(level_specs, make_features, of):
    head = create_head("embedding", level_specs=level_specs, num_classes=4, of=of, dim=8)
    boxes = [torch.tensor([[0.0, 0, 30, 30], [10, 10, 90, 60]]), torch.zeros(0, 4)]
    predictions = head.decode(head(make_features(2)), [(64, 96)] * 2, boxes)
    shapes = {"image": [(8,), (8,)], "objects": [(2, 8), (0, 8)]}[of]
    assert [prediction.embeddings.shape for prediction in predictions] == shapes
    for prediction in predictions:
        lengths = prediction.embeddings.norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_only_objects_need_boxes(level_specs, make_features):
    options = {"level_specs": level_specs, "num_classes": 4}
    assert not create_head("embedding", of="image", **options).needs_boxes
    head = create_head("embedding", of="objects", **options)
    assert head.needs_boxes
    with pytest.raises(ValueError, match="boxes_xyxy: got None"):
        head.decode(head(make_features(1)), [(64, 96)])


def test_crowds_and_unknown_objects_are_left_out(level_specs, make_features, box_target):
    torch.manual_seed(0)
    head = create_head("embedding", level_specs=level_specs, num_classes=4, of="objects", dim=8)
    raw = head(make_features(2))
    boxes = [(0, 0, 30, 30), (10, 10, 90, 60), (5, 40, 25, 60), (40, 4, 70, 50)]
    everything = [
        box_target(boxes, crowd=[False, True, False, False], identities=[2, 1, -1, 0]),
        box_target([(1, 2, 30, 60)], identities=[2]),
    ]
    used = [box_target([boxes[0], boxes[3]], identities=[2, 0]), everything[1]]
    torch.testing.assert_close(head.loss(raw, everything), head.loss(raw, used))


def test_embedding_of_a_box_does_not_depend_on_the_other_boxes_or_images(level_specs, make_features):
    head = create_head("embedding", level_specs=level_specs, num_classes=4, of="objects", dim=8)
    features = make_features(2)
    boxes = torch.tensor([[10.0, 10, 90, 60], [0, 0, 20, 20], [0, 0, 96, 64]])
    together = head.decode(head(features), [(64, 96)] * 2, [boxes[:1], boxes])[1].embeddings
    second = {level: feature[1:] for level, feature in features.items()}
    alone = [head.decode(head(second), [(64, 96)], [box[None]])[0].embeddings for box in boxes]
    torch.testing.assert_close(together, torch.cat(alone))


def test_unknown_values_are_refused(level_specs):
    options = {"level_specs": level_specs, "num_classes": 4}
    with pytest.raises(ValueError, match="of: got 'box'"):
        create_head("embedding", of="box", **options)
    with pytest.raises(ValueError, match="loss: got 'triplet'"):
        create_head("embedding", loss="triplet", **options)
