"""Metric losses match their papers' formulas and hand-computed values, and separate identities in training."""

import math

import pytest
import torch
from pytorch_metric_learning import distances, miners
from pytorch_metric_learning import losses as library
from torch.nn import functional

from heads.loss_rows import METRIC_LOSSES
from heads.metric_losses import NTXentLoss, TripletLoss, can_use, create_metric_loss

LOSSES = ("proxy_anchor", "arcface", "cosface", "supcon", "ntxent", "triplet")
MINERS = ("all", "hard", "semihard")
IDENTITIES = torch.tensor([0, 1, 0, 2, 1, 2, 3, 0, 0])


def rows_near_centers(identities, dim=6, spread=0.6, seed=0):
    """Return rows of length 1 that contain easy, semihard and hard triplets."""
    random = torch.Generator().manual_seed(seed)
    centers = functional.normalize(torch.randn(int(identities.max()) + 1, dim, generator=random), dim=1)
    noise = spread * torch.randn(len(identities), dim, generator=random)
    return functional.normalize(centers[identities] + noise, dim=1)


def plane(*degrees):
    """Return rows of length 1 at the given angles in the plane."""
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def mean(values):
    return torch.stack(values).mean()


def proxy_anchor(rows, identities, weights):
    proxies = functional.normalize(weights["proxies"], dim=1)
    pulls, pushes = [], []
    for identity, proxy in enumerate(proxies):
        equal = [(-32 * (row @ proxy - 0.1)).exp() for row, i in zip(rows, identities, strict=True) if i == identity]
        unequal = [(32 * (row @ proxy + 0.1)).exp() for row, i in zip(rows, identities, strict=True) if i != identity]
        if equal:
            pulls.append(torch.log1p(sum(equal)))
        pushes.append(torch.log1p(sum(unequal)))
    return mean(pulls) + mean(pushes)


def softmax_with_margin(rows, identities, weights, with_margin):
    centers = functional.normalize(weights["W"], dim=0)
    losses = []
    for row, identity in zip(rows, identities, strict=True):
        cosines = list((row @ centers).unbind())
        cosines[identity] = with_margin(cosines[identity])
        losses.append(-torch.log_softmax(64 * torch.stack(cosines), dim=0)[identity])
    return mean(losses)


def arcface(rows, identities, weights):
    margin = 28.6 * math.pi / 180
    return softmax_with_margin(rows, identities, weights, lambda cosine: (cosine.acos() + margin).cos())


def cosface(rows, identities, weights):
    return softmax_with_margin(rows, identities, weights, lambda cosine: cosine - 0.35)


def supcon(rows, identities, weights):
    losses = []
    for a, anchor in enumerate(rows):
        others = [i for i in range(len(rows)) if i != a]
        log_shares = torch.log_softmax(torch.stack([anchor @ rows[i] / 0.1 for i in others]), dim=0)
        equal = [share for i, share in zip(others, log_shares, strict=True) if identities[i] == identities[a]]
        if equal:
            losses.append(-mean(equal))
    return mean(losses)


def ntxent(rows, identities, weights):
    losses = []
    for a, anchor in enumerate(rows):
        unequal = [(anchor @ rows[n] / 0.1).exp() for n in range(len(rows)) if identities[n] != identities[a]]
        for p in range(len(rows)):
            if p != a and identities[p] == identities[a]:
                pair = (anchor @ rows[p] / 0.1).exp()
                losses.append(-torch.log(pair / (pair + sum(unequal))))
    return mean(losses)


def triplet(rows, identities, miner="semihard"):
    losses = []
    for a in range(len(rows)):
        for p in range(len(rows)):
            for n in range(len(rows)):
                if p == a or identities[p] != identities[a] or identities[n] == identities[a]:
                    continue
                near, far = (rows[a] - rows[p]).square().sum(), (rows[a] - rows[n]).square().sum()
                counts = {"all": True, "hard": far <= near, "semihard": near < far < near + 0.2}[miner]
                if counts and near - far + 0.2 > 0:
                    losses.append(near - far + 0.2)
    return mean(losses)


FORMULAS = {
    "proxy_anchor": proxy_anchor,
    "arcface": arcface,
    "cosface": cosface,
    "supcon": supcon,
    "ntxent": ntxent,
    "triplet": lambda rows, identities, weights: triplet(rows, identities),
}


def tangent(gradient, rows):
    """Return the gradient's component orthogonal to each row; the component along it depends on who normalizes."""
    return gradient - (gradient * rows).sum(dim=1, keepdim=True) * rows


def value_and_gradients(loss, rows, weights):
    leaf = rows.clone().requires_grad_()
    value = loss(leaf)
    value.backward()
    return value.detach(), tangent(leaf.grad, rows), {name: weight.grad for name, weight in weights.items()}


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_agree_with_the_papers_formula(name):
    torch.manual_seed(0)
    rows, identities = rows_near_centers(IDENTITIES), IDENTITIES.tolist()
    loss = create_metric_loss(name, num_identities=4, dim=6)
    weights = dict(loss.named_parameters())
    copies = {key: weight.detach().clone().requires_grad_() for key, weight in weights.items()}
    ours = value_and_gradients(lambda leaf: loss(leaf, IDENTITIES), rows, weights)
    oracle = value_and_gradients(lambda leaf: FORMULAS[name](leaf, identities, copies), rows, copies)
    assert ours[0] > 0.01
    assert ours[1].abs().max() > 1e-3
    torch.testing.assert_close(ours, oracle, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("miner", MINERS)
def test_triplets_of_each_miner_agree_with_the_formula_and_the_library(miner):
    rows = rows_near_centers(IDENTITIES)
    loss = TripletLoss(miner)
    squared = distances.LpDistance(power=2)
    mine = miners.TripletMarginMiner(0.2, miner, distance=squared)
    margin = library.TripletMarginLoss(margin=0.2, distance=squared)
    ours = value_and_gradients(lambda leaf: loss(leaf, IDENTITIES), rows, {})
    for oracle in (
        lambda leaf: triplet(leaf, IDENTITIES.tolist(), miner),
        lambda leaf: margin(leaf, IDENTITIES, mine(leaf, IDENTITIES)),
    ):
        torch.testing.assert_close(ours, value_and_gradients(oracle, rows, {}), rtol=1e-4, atol=1e-5)


def test_ntxent_agrees_with_the_library():
    rows = rows_near_centers(IDENTITIES)
    torch.testing.assert_close(NTXentLoss()(rows, IDENTITIES), library.NTXentLoss(0.1)(rows, IDENTITIES))


def test_ntxent_of_two_rows_per_identity_equals_the_simclr_loss():
    """Equation 1 of arXiv 2002.05709: cross-entropy over all other rows; the other view is the correct class."""
    rows = rows_near_centers(torch.tensor([0, 1, 2, 0, 1, 2]))
    similarities = (rows @ rows.T / 0.1).fill_diagonal_(-torch.inf)
    two_views = functional.cross_entropy(similarities, torch.tensor([3, 4, 5, 0, 1, 2]))
    torch.testing.assert_close(NTXentLoss()(rows, torch.tensor([0, 1, 2, 0, 1, 2])), two_views)


def test_losses_of_orthogonal_rows_match_hand_computed_values():
    """The two rows at 0 degrees share an identity; the row at 90 degrees has another."""
    rows, identities = plane(0.0, 0.0, 90.0), torch.tensor([0, 0, 1])
    exact = {"rtol": 1e-5, "atol": 1e-6}
    pair = math.log(1 + math.exp(-10))  # similarity 1 against 0, temperature 0.1
    torch.testing.assert_close(create_metric_loss("ntxent", 2, 2)(rows, identities).item(), pair, **exact)
    torch.testing.assert_close(create_metric_loss("supcon", 2, 2)(rows, identities).item(), pair, **exact)
    loss = create_metric_loss("cosface", 2, 2)
    loss.W.data = torch.eye(2)
    torch.testing.assert_close(loss(plane(45.0), torch.tensor([0])).item(), math.log(1 + math.exp(64 * 0.35)), **exact)


@pytest.mark.parametrize(
    ("degrees", "value", "miner"),
    [
        (40.0, 0.2 - (0.467911114 - 0.267949192), "semihard"),  # d = 2 - 2 cos: equal at 30 degrees, unequal at 40
        (40.0, None, "hard"),
        (20.0, 0.2 + (0.267949192 - 0.120614758), "hard"),
        (20.0, None, "semihard"),
        (90.0, None, "all"),  # farther than the margin
    ],
)
def test_triplet_loss_matches_hand_computed_values(degrees, value, miner):
    """The rows at 0 and 30 degrees share an identity; the row at -degrees has another."""
    loss = TripletLoss(miner)(plane(0.0, 30.0, -degrees), torch.tensor([0, 0, 1]))
    assert (None if loss is None else loss.item()) == (None if value is None else pytest.approx(value, abs=1e-5))


@pytest.mark.parametrize("rows", [torch.eye(3), torch.eye(3)[[0, 0, 0]]])
def test_triplet_with_equal_distances_is_hard_and_not_semihard(rows):
    """Both computations of a triplet must round the same way, or equal distances would not cancel."""
    identities = torch.tensor([0, 0, 1])
    assert TripletLoss("hard")(rows, identities).item() == pytest.approx(0.2)
    assert TripletLoss("all")(rows, identities).item() == pytest.approx(0.2)
    assert TripletLoss("semihard")(rows, identities) is None


@pytest.mark.parametrize("miner", MINERS)
def test_large_batch_with_one_frequent_identity_fits_in_memory(miner):
    """The batch is like one of blood cells; a list of its 2.6e8 triplets would take 6 GB."""
    identities = torch.zeros(800, dtype=torch.int64)
    identities[400:] = torch.arange(400) % 3 + 1
    rows = rows_near_centers(identities).requires_grad_()
    TripletLoss(miner)(rows, identities).backward()
    assert torch.isfinite(rows.grad).all()
    NTXentLoss()(rows, identities).backward()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("identities", "pairs"),
    [((), False), ((0,), False), ((1, 1, 1), False), ((0, 1, 2), False), ((0, 1, 0), True)],
)
def test_losses_without_weights_need_a_positive_and_a_negative_pair(name, identities, pairs):
    expected = pairs if name in ("supcon", "ntxent", "triplet") else len(identities) > 0
    assert can_use(name, torch.tensor(identities, dtype=torch.int64)) is expected


def test_only_losses_without_weights_need_pairs():
    without = {name for name in LOSSES if not list(create_metric_loss(name, 3, 4).parameters())}
    assert without == {name for name, row in METRIC_LOSSES.items() if row.needs_pairs}


@pytest.mark.parametrize("name", LOSSES)
def test_short_training_separates_identities(name):
    torch.manual_seed(0)
    identities = torch.arange(24) % 4
    inputs = torch.randn(24, 32)
    layer = torch.nn.Linear(32, 8)
    loss = create_metric_loss(name, 4, 8, miner="all" if name == "triplet" else "semihard")
    optimizer = torch.optim.Adam([*layer.parameters(), *loss.parameters()], lr=0.05)

    def recall():
        """Return the share of rows whose nearest other row has the same identity."""
        rows = functional.normalize(layer(inputs), dim=1).detach()
        nearest = (rows @ rows.T).fill_diagonal_(-2).argmax(dim=1)
        return (identities[nearest] == identities).float().mean().item()

    before = recall()
    for _ in range(100):
        value = loss(functional.normalize(layer(inputs), dim=1), identities)
        if value is None:
            break
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert before < 0.5
    assert recall() > 0.9


def test_unknown_names_are_rejected():
    with pytest.raises(ValueError, match=r"loss: got 'tripled'; choose one of proxy_anchor, .*, triplet"):
        create_metric_loss("tripled", 2, 2)
    with pytest.raises(ValueError, match="miner: got 'easy'; choose one of all, hard, semihard"):
        create_metric_loss("triplet", 2, 2, miner="easy")
