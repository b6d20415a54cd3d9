"""Rules of `docker-compose.yml`: explicit versions, health checks, few rights, no secret in sight."""

import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.executors.ray.local_cluster import ENVIRONMENT
from service.server.children import STOP_S
from service.server.serve import ATTEMPT_END_S
from service.settings import PREFIX, Settings
from service.settings_secrets import SECRETS
from tests.compose import FILE, ROOT, compose, environment_of, services

SECONDS = {"s": 1, "m": 60}
NAMES_OF_SECRETS = re.compile(r"(?i)secret|password|credential|token|database_url|_key$")
OWN = [name for name, service in services().items() if service["image"].startswith("pyramidion:")]


def seconds(text: str) -> int:
    assert re.fullmatch(r"\d+[sm]", text), text
    return int(text[:-1]) * SECONDS[text[-1]]


@pytest.fixture(params=services())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def service(name: str) -> dict[str, Any]:
    return services()[name]


def test_file_follows_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_service_of_each_part_is_there() -> None:
    assert {"postgres", "s3", "mlflow", "api", "supervisor", "predictor"} <= set(services())
    profiles = {name: service["profiles"] for name, service in services().items() if "profiles" in service}
    assert profiles == {"supervisor-gpu": ["gpu"], "predictor-gpu": ["gpu"], "ray": ["ray"]}


def test_image_has_an_explicit_version(service: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z0-9/-]+:\d+[.]\d+[\w.-]*", service["image"])


def test_health_check_has_limits(service: dict[str, Any]) -> None:
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert seconds(check["timeout"]) <= 20
    assert check["retries"] <= 3
    assert {"interval", "start_period", "start_interval"} <= set(check)


def test_service_has_few_rights(service: dict[str, Any]) -> None:
    user, group = map(int, service["user"].split(":"))
    assert min(user, group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"} & set(service)


def test_resources_and_logs_are_limited(service: dict[str, Any]) -> None:
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert [mount for mount in service["tmpfs"] if "size=" not in mount] == []


def test_service_is_restarted_and_has_time_to_stop(service: dict[str, Any]) -> None:
    assert service["restart"] == "unless-stopped"
    assert seconds(service["stop_grace_period"]) > STOP_S


def test_attempts_have_time_to_stop_with_their_container() -> None:
    for name in ("supervisor", "supervisor-gpu"):
        grace_s = float(environment_of(services()[name])["PYRAMIDION_CANCEL_GRACE_S"])
        assert seconds(services()[name]["stop_grace_period"]) > STOP_S + grace_s + ATTEMPT_END_S
        assert "init" not in services()[name], "serve has to be the first process, which stops the attempts"


def test_no_secret_is_in_the_environment_or_in_a_command(service: dict[str, Any]) -> None:
    environment = environment_of(service)
    secret = {name: value for name, value in environment.items() if NAMES_OF_SECRETS.search(name)}
    assert [name for name, value in secret.items() if not value.startswith("/run/secrets/")] == []
    assert [value for value in environment.values() if re.search(r"://[^/@\s]+:[^/@\s]+@", value)] == []


def test_service_gets_the_secrets_that_it_reads_and_no_others(name: str, service: dict[str, Any]) -> None:
    text = " ".join([*environment_of(service).values(), *service.get("command", ())])
    assert set(re.findall(r"/run/secrets/(\w+)", text)) == set(service["secrets"])
    assert set(service["secrets"]) <= set(compose()["secrets"])
    if name.startswith("predictor"):
        assert set(service["secrets"]) == {"predictor_secret"}, "it decodes untrusted images"
    if name != "api":
        assert "s3_credentials" not in service["secrets"] or name in ("s3", "mlflow"), "trainers need no storage secret"


def test_only_the_api_is_published_on_the_loopback(name: str, service: dict[str, Any]) -> None:
    networks = compose()["networks"]
    assert networks["inside"] == {"internal": True}
    assert service.get("ports", []) == (["127.0.0.1:8000:8000"] if name == "api" else [])
    assert set(service["networks"]) == ({"inside", "outside"} if name == "api" else {"inside"})


def test_configs_and_secrets_are_files_since_compose_copies_others_into_the_file_system() -> None:
    sources = [*compose().get("configs", {}).values(), *compose()["secrets"].values()]
    assert [source for source in sources if list(source) != ["file"]] == []


def test_ray_has_the_variables_of_a_cluster_and_the_folders_of_the_supervisor() -> None:
    ray = services()["ray"]
    assert ENVIRONMENT.items() - environment_of(ray).items() == {("RAY_DEDUP_LOGS", "0")}, (
        "attempts have their own logs"
    )
    assert ray["volumes"] == services()["supervisor"]["volumes"]
    assert environment_of(services()["supervisor"])["PYRAMIDION_RAY_ADDRESS"] == "http://ray:8265"


def test_api_admits_as_many_gpus_as_the_supervisor_has() -> None:
    counts = {name: environment_of(services()[name])["PYRAMIDION_GPUS"] for name in ("api", "supervisor-gpu")}
    assert counts["api"] == counts["supervisor-gpu"]


def test_data_is_in_named_volumes(service: dict[str, Any]) -> None:
    mounts = service.get("volumes", [])
    assert [mount for mount in mounts if mount["type"] == "bind" and not mount.get("read_only")] == []
    assert {mount["source"] for mount in mounts if mount["type"] == "volume"} <= set(compose()["volumes"])


def test_service_starts_after_those_that_it_needs(service: dict[str, Any]) -> None:
    for needed, condition in service.get("depends_on", {}).items():
        assert needed in services()
        assert condition == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", OWN)
def test_variables_are_settings(name: str) -> None:
    known = {f"{PREFIX}{setting.upper()}" for setting in Settings.model_fields} | {f"{one}_FILE" for one in SECRETS}
    used = {variable for variable in environment_of(services()[name]) if variable.startswith(PREFIX)}
    assert used <= known


def test_processes_share_their_settings() -> None:
    settings = {
        name: {variable: value for variable, value in environment_of(services()[name]).items() if PREFIX in variable}
        for name in ("supervisor", "api", "predictor")
    }
    assert settings["supervisor"].items() <= settings["api"].items()
    without_secrets = [
        {name: value for name, value in settings[service].items() if not name.endswith("_FILE")}
        for service in ("supervisor", "predictor")
    ]
    assert without_secrets[0] == without_secrets[1]
    assert services()["supervisor"]["volumes"] == services()["api"]["volumes"]
    assert (
        settings["supervisor"]["PYRAMIDION_CPUS"] == services()["supervisor"]["deploy"]["resources"]["limits"]["cpus"]
    )


def test_make_secrets_writes_each_secret_once(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = ["make", "--no-print-directory", "secrets", f"SECRETS={folder}"]
    contents = []
    for _ in range(2):
        subprocess.run(command, cwd=ROOT, check=True, timeout=60)
        contents.append({path.name: path.read_text() for path in folder.iterdir()})
    content, again = contents
    assert content == again
    assert set(content) == set(compose()["secrets"])
    assert len(set(content.values())) == len(content)
    assert content["postgres_password"] in content["database_url"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}


def test_secrets_stay_out_of_the_repository_and_of_images() -> None:
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith(("#", "!"))]
    assert ignored[0] == "*"
