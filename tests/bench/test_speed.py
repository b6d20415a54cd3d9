"""The comparison with torchvision: both sides have the same network, and figures are medians of alternating runs."""

import pytest

from backbones.meta_device import built_on_meta
from tests.bench import speed
from tests.bench.step_parts import part_times


@pytest.mark.parametrize(("name", "difference"), [("retinanet", 0), ("fcos", 8 * 256 - 5)])
def test_both_sides_have_the_same_parameters(name: str, difference: int) -> None:
    """torchvision's FCOS has biases before its GroupNorms, and no scales of the levels."""
    levers = speed.Levers()
    with built_on_meta():
        peer = speed.peer_model(name, levers)
        own, _ = speed.own_model(speed.own_job(name, levers))
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (peer, own)]
    assert counts[0] - counts[1] == difference
    assert all(parameter.requires_grad for model in (peer, own) for parameter in model.parameters())


def test_actions_alternate_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = iter([0.0, 9.0, 9.0, 18.0, 20.0, 21.0, 30.0, 32.0, 40.0, 43.0, 50.0, 54.0, 60.0, 65.0, 70.0, 76.0])
    monkeypatch.setattr(speed.time, "process_time", lambda: next(clock))
    found = speed.medians({"peer": lambda: calls.append("peer"), "own": lambda: calls.append("own")}, rounds=3)
    assert calls == ["peer", "own"] * 4
    assert found == {"peer": 3000, "own": 4000}


def test_parts_of_a_step_add_up_to_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TRAINED_PX", 64)
    monkeypatch.setattr(speed, "BACKBONE", "resnet14_thin")
    training = speed.OwnTraining("fcos", speed.Levers())
    found = part_times(training)
    assert all(spent >= 0 for spent in found.values())
    assert found["assignment"] > 0
    assert found["backward"] > 0
    assert "loss" not in vars(training.model.heads["cells"])
