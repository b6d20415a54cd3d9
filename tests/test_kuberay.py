"""The example of a Ray cluster on Kubernetes fits the executor `ray`, the image and the pinned version of Ray."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from service.executors.ray.local_cluster import ENVIRONMENT
from tests.compose import ROOT

FILE = ROOT / "docs/examples/kuberay.yaml"
CLUSTER, POLICY = yaml.safe_load_all(FILE.read_text("utf-8"))
PODS = [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]
OF_CLUSTERS = ("RAY_USAGE_STATS_ENABLED", "RAY_JOB_START_TIMEOUT_SECONDS", "RAY_memory_monitor_refresh_ms")


def test_version_is_the_pinned_one() -> None:
    assert f"\nray=={CLUSTER['spec']['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize("group", PODS)
def test_container_has_the_image_the_volume_and_the_settings_of_ray(group: dict[str, Any]) -> None:
    pod = group["template"]["spec"]
    [container] = pod["containers"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.fullmatch(rf"[\w.]+/pyramidion:{re.escape(version)}-\w+", container["image"])
    values = {row["name"]: row.get("value") for row in container["env"]}
    assert {name: values[name] for name in OF_CLUSTERS} == {name: ENVIRONMENT[name] for name in OF_CLUSTERS}
    assert values["RAY_AUTH_MODE"] == "token"
    assert values["RAY_AUTH_TOKEN"] is None  # from a secret
    mounts = {row["name"] for row in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    assert pod["securityContext"]["runAsNonRoot"]


def test_only_pods_of_the_namespace_reach_ray() -> None:
    assert POLICY["spec"]["podSelector"]["matchLabels"] == {"ray.io/cluster": CLUSTER["metadata"]["name"]}
    assert POLICY["spec"]["ingress"] == [{"from": [{"podSelector": {}}]}]
