import pytest
import torch
from pytorch_metric_learning import distances, miners
from pytorch_metric_learning import losses as metric_losses
from torch.nn import functional

from heads.base import IdentityTarget
from tests.heads.building import build_head

SIZE = (64, 96)
LOSSES = ("proxy_anchor", "arcface", "cosface", "supcon", "ntxent", "triplet")


def image_targets(*identities):
    return [IdentityTarget(torch.tensor(identity)) for identity in identities]


def unit_rows(count, dim=8):
    return functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(3)), dim=1)


class SemihardTriplets(metric_losses.TripletMarginLoss):
    def __init__(self):
        super().__init__(margin=0.2, distance=distances.LpDistance(power=2))
        self.miner = miners.TripletMarginMiner(0.2, "semihard", distance=self.distance)

    def forward(self, embeddings, labels):
        return super().forward(embeddings, labels, self.miner(embeddings, labels))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_of_known_identities_agrees_with_pytorch_metric_learning(level_specs, loss):
    torch.manual_seed(0)
    head = build_head("embedding", level_specs=level_specs, num_classes=4, dim=8, loss=loss)
    oracle = {
        "proxy_anchor": metric_losses.ProxyAnchorLoss(4, 8),
        "arcface": metric_losses.ArcFaceLoss(4, 8),
        "cosface": metric_losses.CosFaceLoss(4, 8),
        "supcon": metric_losses.SupConLoss(),
        "ntxent": metric_losses.NTXentLoss(temperature=0.1),
        "triplet": SemihardTriplets(),
    }[loss]
    oracle.load_state_dict(head.metric_loss.state_dict())
    rows = unit_rows(6)
    total, count = head.loss(rows, image_targets(0, 1, -1, 0, 3, 1), [SIZE] * 6)[loss]
    known = [0, 1, 3, 4, 5]
    torch.testing.assert_close(total, oracle(rows[known], torch.tensor([0, 1, 0, 3, 1])))
    assert float(count) == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_without_identities_is_zero_and_touches_every_parameter(level_specs, make_features, loss):
    head = build_head("embedding", level_specs=level_specs, num_classes=4, dim=8, loss=loss)
    total, count = head.loss(head(make_features(2)), image_targets(-1, -1), [SIZE] * 2)[loss]
    assert total.item() == float(count) == 0
    total.backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("loss", ["supcon", "ntxent", "triplet"])
@pytest.mark.parametrize("identities", [(0, 1, 2), (1, 1, 1), (0,)])
def test_pair_losses_are_zero_without_a_positive_and_a_negative_pair(level_specs, identities, loss):
    head = build_head("embedding", level_specs=level_specs, num_classes=4, dim=8, loss=loss)
    rows = unit_rows(len(identities)).requires_grad_()
    total, count = head.loss(rows, image_targets(*identities), [SIZE] * len(rows))[loss]
    assert total.item() == float(count) == 0


@pytest.mark.parametrize("miner", ["all", "hard", "semihard"])
def test_loss_without_counted_triplets_is_zero_and_touches_every_parameter(level_specs, miner):
    head = build_head("embedding", level_specs=level_specs, num_classes=2, dim=8, loss="triplet", miner=miner)
    c5 = torch.zeros(4, level_specs["c5"].channels, 2, 3)
    c5[:2, 0], c5[2:, 1] = 100.0, 100.0  # two images twice: positives at distance 0, negatives far away
    embeddings = head({"c5": c5})
    assert (embeddings[0] - embeddings[2]).square().sum() > 0.2
    total, count = head.loss(embeddings, image_targets(0, 0, 1, 1), [SIZE] * 4)["triplet"]
    assert total.item() == float(count) == 0
    total.backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("of", ["image", "objects"])
def test_gradients_of_equal_embeddings_are_finite_under_autocast(level_specs, box_target, loss, of):
    """All maps are zero, so all embeddings are equal and the gradient of a distance would be undefined."""
    torch.manual_seed(0)
    options = {"of": of, "dim": 8, "loss": loss, "miner": "all"}
    head = build_head("embedding", level_specs=level_specs, num_classes=2, **options)
    maps = {name: torch.zeros(2, level.channels, 8, 8, requires_grad=True) for name, level in level_specs.items()}
    boxes = [box_target([(0, 0, 30, 30), (10, 10, 90, 60)], identities=[0, 1]) for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        terms = head.loss(head(maps), boxes if of == "objects" else image_targets(0, 0), [SIZE] * 2)
    ((total, count),) = terms.values()
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
    assert float(count) == (of == "objects" or loss in ("proxy_anchor", "arcface", "cosface"))
    total.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


@pytest.mark.parametrize("of", ["image", "objects"])
def test_embeddings_have_length_one(level_specs, make_features, of):
    head = build_head("embedding", level_specs=level_specs, num_classes=4, of=of, dim=8)
    boxes = [torch.tensor([[0.0, 0, 30, 30], [10, 10, 90, 60]]), torch.zeros(0, 4)]
    predictions = head.decode(head(make_features(2)), [SIZE] * 2, boxes)
    shapes = {"image": [(8,), (8,)], "objects": [(2, 8), (0, 8)]}[of]
    assert [prediction.embeddings.shape for prediction in predictions] == shapes
    for prediction in predictions:
        lengths = prediction.embeddings.norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_only_objects_need_boxes(level_specs, make_features):
    options = {"level_specs": level_specs, "num_classes": 4}
    assert not build_head("embedding", of="image", **options).needs_boxes
    head = build_head("embedding", of="objects", **options)
    assert head.needs_boxes
    with pytest.raises(ValueError, match="boxes_xyxy: got None"):
        head.decode(head(make_features(1)), [SIZE])


def test_crowds_and_unknown_objects_are_skipped(level_specs, make_features, box_target):
    torch.manual_seed(0)
    head = build_head("embedding", level_specs=level_specs, num_classes=4, of="objects", dim=8)
    raw = head(make_features(2))
    boxes = [(0, 0, 30, 30), (10, 10, 90, 60), (5, 40, 25, 60), (40, 4, 70, 50)]
    everything = [
        box_target(boxes, crowd=[False, True, False, False], identities=[2, 1, -1, 0]),
        box_target([(1, 2, 30, 60)], identities=[2]),
    ]
    used = [box_target([boxes[0], boxes[3]], identities=[2, 0]), everything[1]]
    torch.testing.assert_close(head.loss(raw, everything, [SIZE] * 2), head.loss(raw, used, [SIZE] * 2))


def test_embedding_of_a_box_does_not_depend_on_the_other_boxes_or_images(level_specs, make_features):
    head = build_head("embedding", level_specs=level_specs, num_classes=4, of="objects", dim=8)
    features = make_features(2)
    boxes = torch.tensor([[10.0, 10, 90, 60], [0, 0, 20, 20], [0, 0, 96, 64]])
    together = head.decode(head(features), [SIZE] * 2, [boxes[:1], boxes])[1].embeddings
    second = {level: feature[1:] for level, feature in features.items()}
    alone = [head.decode(head(second), [SIZE], [box[None]])[0].embeddings for box in boxes]
    torch.testing.assert_close(together, torch.cat(alone))


def test_unknown_values_are_rejected(level_specs):
    options = {"level_specs": level_specs, "num_classes": 4}
    with pytest.raises(ValueError, match=r"of\n.*should be 'image' or 'objects' .*input_value='box'"):
        build_head("embedding", of="box", **options)
    with pytest.raises(ValueError, match=r"loss\n.*'ntxent' or 'triplet' .*input_value='contrastive'"):
        build_head("embedding", loss="contrastive", **options)
    with pytest.raises(ValueError, match=r"miner\n.*'hard' or 'semihard' .*input_value='easy'"):
        build_head("embedding", loss="triplet", miner="easy", **options)
