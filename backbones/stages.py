"""Stages of parameters, found by autograd, without naming rules of architectures.

A parameter belongs to the first level whose gradient reaches it. Everything that computes c3, including the stem, is
stage c3; everything else that c4 needs is stage c4; and so on. If the stages up to a level are frozen, nothing below
that level needs a gradient.

In single-scale networks every level depends on the whole network; `simple_pyramid` defines their stages.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from backbones.base import LEVELS
from backbones.geometry import PROBE_HW
from backbones.meta_device import run_on_meta


def discover_stages(network: nn.Module) -> dict[str, str]:
    """Return the stage of every parameter that a level needs, in the order of `named_parameters`.

    Args:
        network: a module that returns the levels of `LEVELS`, as a dict or in their order.
    """
    run = run_on_meta(network, PROBE_HW)
    found: dict[str, str] = {}
    visited: set[Any] = set()
    for level, feature in zip(LEVELS, run.outputs, strict=True):
        for leaf in _leaves_of(feature, visited):
            found[run.leaves[leaf]] = level
    return {name: found[name] for name, _ in network.named_parameters() if name in found}


def _leaves_of(output: Tensor, visited: set[Any]) -> list[Tensor]:
    """Return the leaves that a backward pass from `output` would reach, except for nodes visited before."""
    leaves = []
    pending: list[Any] = [output.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        pending.extend(parent for parent, _ in node.next_functions)
    return leaves


def demote_unreached(network: nn.Module, stages: dict[str, str]) -> None:
    """Turn every parameter of `network` without a stage into a buffer that is not saved.

    The buffer is needed because layers whose output is unused may still run.
    """
    for name, parameter in list(network.named_parameters()):
        if name not in stages:
            owner_name, _, attribute = name.rpartition(".")
            owner = network.get_submodule(owner_name)
            delattr(owner, attribute)
            owner.register_buffer(attribute, parameter.detach(), persistent=False)


def stages_of_modules(network: nn.Module, stages: Mapping[str, str]) -> dict[str, str]:
    """Return the stage of every module of `network` by name, including those without parameters (a norm without scale).

    It is the stage of the module's own parameters. For a module without parameters, it is the stage of the smallest
    enclosing module that has some; if that spans several stages, the stage of the parameter that is defined just
    before.

    Args:
        network: the network whose modules are listed.
        stages: the stage of every parameter.
    """
    inside: dict[str, set[str]] = {}
    found: dict[str, str] = {}
    before = LEVELS[0]
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        inside[name] = {stages[prefix + parameter] for parameter, _ in module.named_parameters()}
        around = name
        while around and not inside[around]:
            around = around.rpartition(".")[0]
        own = [stages[prefix + parameter] for parameter, _ in module.named_parameters(recurse=False)]
        before = own[-1] if own else before
        found[name] = next(iter(inside[around])) if len(inside[around]) == 1 else before
    return found
