"""docs/serving-for-real.md and examples/serve: commands that steps take, a Compose file, a dashboard of our metrics."""

import itertools
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from relope.commands.flags import command_of
from relope.evaluate.numbers.costs import read_prices
from relope.spec import SPECS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "serving-for-real.md").read_text(encoding="utf-8")
SERVE = ROOT / "examples" / "serve"
COMPOSE = yaml.safe_load((SERVE / "compose.yaml").read_text(encoding="utf-8"))


def commands():
    for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL):
        yield from (line for line in block.splitlines() if line.startswith("relope "))
    for service in COMPOSE["services"].values():
        if "command" in service:
            yield f"relope {service['command']}"


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_is_one_that_its_step_takes(command):
    step, *words = shlex.split(command)[1:]
    taken = []
    command_of(step, lambda spec, as_json, quiet: taken.append(spec)).main(words, standalone_mode=False)
    assert taken and type(taken[0]) is SPECS[step]


def has_compose():
    return (
        shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    )


@pytest.mark.skipif(not has_compose(), reason="Docker's Compose is not here")
def test_docker_takes_the_compose_file(tmp_path):
    shutil.copytree(SERVE, tmp_path / "serve")
    for name in ("openai.env", "client.key"):
        (tmp_path / "serve" / name).touch()
    command = ["docker", "compose", "--project-directory", tmp_path / "serve", "config", "--quiet"]
    subprocess.run([*command], check=True, cwd=tmp_path / "serve")


def test_the_compose_file_is_whole():
    """What Docker would refuse first (compose-spec, schema/compose-spec.json)."""
    services = COMPOSE["services"]
    assert set(COMPOSE) <= {"name", "services", "volumes", "secrets", "x-relope"}
    known = {"image", "build", "restart", "command", "volumes", "ports", "secrets", "env_file", "depends_on", "deploy",
             "healthcheck", "environment", "ipc", "stop_grace_period"}  # fmt: skip
    named, files = set(), []
    for name, service in services.items():
        assert set(service) <= known, name
        assert "image" in service, name
        assert set(service.get("depends_on", ())) <= set(services) and set(service.get("secrets", ())) <= set(
            COMPOSE["secrets"]
        )
        for mount in service["volumes"]:
            source, target, *mode = mount.split(":")
            assert target.startswith("/") and mode in ([], ["ro"]), mount
            (files.append(source) if source.startswith("./") else named.add(source))
        for port in service.get("ports", ()):
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), "nothing is open to the network as it stands"
    assert named == set(COMPOSE["volumes"])
    assert [file for file in files if file != "./bundle" and not (SERVE / file).is_file()] == []
    image = services["relope"]["build"]
    assert (SERVE / image["context"] / image["dockerfile"]).is_file()
    (device,) = services["small"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"] and "deploy" not in services["relope"]


def test_both_services_speak_of_the_same_places():
    said = {name: shlex.split(COMPOSE["services"][name]["command"]) for name in ("small", "relope")}
    flag = {name: dict(itertools.pairwise(words)) for name, words in said.items()}
    assert flag["small"]["--bundle"] == flag["relope"]["--bundle"] == "bundle"
    assert flag["small"]["--states"] == flag["relope"]["--vllm-states"] == "/states"
    assert flag["relope"]["--vllm-url"] == f"http://small:{flag['small']['--port']}"
    scraped = yaml.safe_load((SERVE / "prometheus.yaml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"][0]["targets"] == [f"relope:{flag['relope']['--port']}"]
    assert scraped["authorization"]["credentials_file"] == flag["relope"]["--api-key-file"]
    assert flag["relope"]["--large-model"] in read_prices(SERVE / "prices.yaml").models


def exported():
    """The names of all metrics, as Prometheus stores them."""
    source = "".join((ROOT / "relope" / "serve" / name).read_text() for name in ("metrics.py", "service.py"))
    names = {f"{name}_total" for name in re.findall(r'counter\(\s*"(relope_\w+)"', source)}
    for name in re.findall(r'histogram\(\s*"(relope_\w+)"', source):
        names |= {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    return names | {f"relope_{name}" for name in re.findall(r'yield "(\w+)"', source)}


def test_dashboard_and_page_name_metrics_that_there_are():
    dashboard = json.loads((SERVE / "grafana.json").read_text(encoding="utf-8"))
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    known = exported()
    assert len(known) > 20 and set(re.findall(r"relope_\w+", asked)) <= known
    shown = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in known}
    assert set(re.findall(r"`(relope_\w+)`", PAGE)) <= known | shown
    never = {name for name in shown if name not in asked} - {"relope_drift_scores"}
    assert never == set(), "whatever is exported is looked at"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) and dashboard["uid"] == "relope"
