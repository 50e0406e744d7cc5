"""scripts/ops: the dashboard and the alerts are about what the server tells."""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from client import DEADLINE, basic
from program import ROOT

OPS = os.path.join(ROOT, "scripts", "ops")
sys.path.insert(0, OPS)
import check  # noqa: E402

PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")


def page(server):
    return server.ask("GET", "/metrics", {"Authorization": basic("x")}
                      ).body.decode("ascii")


def page_of_a_node():
    """What only a node of several tells, as its source has it."""
    names = []
    for file_name in ("metrics.h", "metrics.c"):
        with open(os.path.join(ROOT, "src", "stats", file_name),
                  encoding="utf-8") as file:
            names += re.findall(r'"(bus_\w+)"', file.read())
    assert "bus_up" in names and "bus_ack_seconds" in names
    return "".join(f"isimud_{name} 1\n" for name in names) + "".join(
        f'isimud_bus_ack_seconds_bucket{{le="{le}"}} 1\n'
        for le in ("1", "+Inf"))


def test_every_metric_that_is_named_is_told(server):
    assert list(check.missing(check.told([page(server),
                                          page_of_a_node()]))) == []


def test_the_check_finds_what_is_not_there(server):
    text = page(server)
    less = re.sub(r"^isimud_topics .*\n", "", text, flags=re.MULTILINE)
    less = less.replace('kind="websocket"', 'kind="ws"')
    faults = list(check.missing(check.told([less, page_of_a_node()])))
    assert any("no metric isimud_topics" in fault for fault in faults)
    assert any("never has kind=" in fault for fault in faults)


def test_the_program_says_so_too(server):
    done = subprocess.run(
        [sys.executable, os.path.join(OPS, "check.py"), "-"], text=True,
        input=page(server) + page_of_a_node(), capture_output=True,
        timeout=DEADLINE)
    assert done.returncode == 0, done.stdout
    done = subprocess.run(
        [sys.executable, os.path.join(OPS, "check.py"), "-"], text=True,
        input=page(server), capture_output=True, timeout=DEADLINE)
    assert done.returncode == 1 and "isimud_bus_up" in done.stdout


def test_panels_have_titles_descriptions_and_places_of_their_own():
    with open(os.path.join(OPS, "dashboard.json"), encoding="utf-8") as file:
        panels = json.load(file)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["description"] and panel["targets"]


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    """The program that holds a dashboard against Grafana's schema."""
    if shutil.which("go") is None:
        pytest.skip("go is not in PATH")
    program = str(tmp_path_factory.mktemp("grafana") / "grafana")
    folder = os.path.join(OPS, "grafana")
    environment = {**os.environ, "GOPROXY": "off", "GOFLAGS": "-mod=mod",
                   "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    if subprocess.run(["go", "list", "-deps", "."], cwd=folder, env=environment,
                      capture_output=True).returncode != 0:
        pytest.skip("Grafana's schema is not here: go mod download in "
                    "scripts/ops/grafana")
    subprocess.run(["go", "build", "-o", program, "."], cwd=folder,
                   env=environment, check=True)
    return program


def test_the_dashboard_is_one_by_grafanas_own_schema(schema, tmp_path):
    path = os.path.join(OPS, "dashboard.json")
    done = subprocess.run([schema, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open(path, encoding="utf-8") as file:
        dashboard = json.load(file)
    panel = dashboard["panels"][1]
    panel["options"]["colorMode"] = 7
    panel["gridpos"] = panel.pop("gridPos")
    wrong = tmp_path / "dashboard.json"
    wrong.write_text(json.dumps(dashboard), encoding="utf-8")
    done = subprocess.run([schema, str(wrong)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "colorMode" in done.stderr and "gridpos" in done.stderr


@pytest.mark.skipif(not PROMTOOL, reason="promtool is not in PATH")
@pytest.mark.parametrize("words", [["check", "rules", "alerts.yaml"],
                                   ["test", "rules", "alerts_test.yaml"]])
def test_promtool_takes_the_alerts(words):
    done = subprocess.run([PROMTOOL, *words], cwd=OPS, capture_output=True,
                          text=True, timeout=DEADLINE * 4)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_pages_name_is_there():
    """Settings, metrics and commands in troubleshooting and runbooks."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        known = set(re.findall(r"`([A-Z][A-Z_]+)`", file.read()))
    for name in ("troubleshooting.md", "alerts.yaml"):
        with open(os.path.join(OPS, name), encoding="utf-8") as file:
            text = file.read()
        named = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", text))
        assert named <= known, named - known
