"""The settings of the launcher of a node."""

import pytest

from pipelines.base.errors import ConfigError
from pipelines.nodes.settings import NodeSettings, first_host

OWN = {"PYRAMIDION_NUM_NODES": "2", "PYRAMIDION_NODE_RANK": "1", "PYRAMIDION_NODES_ADDRESS": "10.0.0.1:29400"}
SLURM = {"SLURM_NNODES": "4", "SLURM_NODEID": "3", "SLURM_JOB_ID": "4001", "SLURM_STEP_NODELIST": "n[07-09,12]"}


def test_settings_are_those_of_the_environment() -> None:
    assert NodeSettings.of(OWN) == NodeSettings(1, 2, "10.0.0.1", 29400)
    assert NodeSettings.of({**OWN, "PYRAMIDION_NODES_INTERFACE": "eth1"}).interface == "eth1"


def test_single_node_needs_no_other_setting() -> None:
    assert NodeSettings.of({"PYRAMIDION_NUM_NODES": "1"}) == NodeSettings(0, 1)


def test_step_of_slurm_needs_no_settings_and_own_settings_precede_its() -> None:
    assert NodeSettings.of(SLURM) == NodeSettings(3, 4, "n07", 30_001)
    assert NodeSettings.of({**SLURM, **OWN}) == NodeSettings(1, 2, "10.0.0.1", 29400)


@pytest.mark.parametrize(
    ("nodes", "first"), [("a,b", "a"), ("n[1,3]", "n1"), ("n[07-09]-ib,m1", "n07-ib"), ("x-1", "x-1")]
)
def test_first_host_of_a_list_of_slurm(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"PYRAMIDION_NUM_NODES": "two"}, "PYRAMIDION_NUM_NODES: got 'two'; write a whole number"),
        ({"PYRAMIDION_NUM_NODES": "0"}, "PYRAMIDION_NUM_NODES: got 0; write the number of nodes, at least 1"),
        ({"PYRAMIDION_NODE_RANK": "2"}, "PYRAMIDION_NODE_RANK: got 2; the nodes are 0 to 1"),
        ({"PYRAMIDION_NODE_RANK": ""}, "PYRAMIDION_NODE_RANK: is not set; "),
        ({"PYRAMIDION_NODES_ADDRESS": ""}, "PYRAMIDION_NODES_ADDRESS: is not set; "),
        ({"PYRAMIDION_NODES_ADDRESS": "n1"}, "PYRAMIDION_NODES_ADDRESS: got 'n1'; write the address of the first"),
        ({"PYRAMIDION_NODES_ADDRESS": "n1:99999"}, "PYRAMIDION_NODES_ADDRESS: got 'n1:99999'; "),
    ],
)
def test_missing_or_invalid_setting_is_named(changed: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        NodeSettings.of({**OWN, **changed})
    assert str(error.value).startswith(message)
