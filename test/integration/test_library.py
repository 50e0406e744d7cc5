"""GET /isimud.js: the module of src/web, as it is sent."""
import gzip
import json
import os
import re
import shutil
import subprocess

import pytest

from program import ROOT

PAGE = {"Origin": "https://example.com"}


def get(server, accepted=None, method="GET", **fields):
    if accepted:
        fields["Accept-Encoding"] = accepted
    return server.ask(method, "/isimud.js", fields)


def plain(server):
    response = get(server)
    assert response.status == 200
    assert response.field("Content-Encoding") is None
    return response.body


def test_the_library_is_the_one_of_the_source(server):
    with open(os.path.join(ROOT, "src/web/isimud.js")) as source:
        lines = [line.strip() for line in source]
    sent = plain(server).decode().splitlines()
    assert len(sent) > 100 and set(sent) < set(lines) | {
        line.partition(" /*")[0] for line in lines}


@pytest.mark.parametrize("accepted, coding", [
    ("gzip", "gzip"), ("gzip, deflate, br, zstd", "br"), ("br;q=0, *", "gzip"),
    ("identity", None), ("gzip;q=0", None)])
def test_it_is_sent_in_a_form_that_the_client_accepts(server, accepted, coding):
    response = get(server, accepted)
    if coding == "br" and response.field("Content-Encoding") == "gzip":
        pytest.skip("it was built without brotli")
    assert response.field("Content-Encoding") == coding
    assert response.field("Content-Type") == "text/javascript; charset=utf-8"
    assert response.field("X-Content-Type-Options") == "nosniff"
    assert "Accept-Encoding" in response.field("Vary")
    body = response.body
    if coding == "gzip":
        body = gzip.decompress(body)
    elif coding == "br":
        if not shutil.which("brotli"):
            pytest.skip("brotli is not installed")
        body = subprocess.run(["brotli", "-dc"], input=body, check=True,
                              stdout=subprocess.PIPE).stdout
    assert body == plain(server)


def test_it_is_smaller_than_6_kb(server):
    for coding in ("gzip", "br"):
        assert len(get(server, coding).body) < 6000


def test_whoever_has_it_is_told_so(server):
    first = get(server, "gzip")
    tag = first.field("ETag")
    for method in ("GET", "HEAD"):
        again = get(server, "gzip", method, **{"If-None-Match": tag})
        assert (again.status, again.body) == (304, b"")
        assert again.field("ETag") == tag
        assert again.field("Cache-Control") == first.field("Cache-Control")
    # Another form is another thing.
    assert get(server, **{"If-None-Match": tag}).status == 200


def test_head_has_the_fields_and_no_content(server):
    head, whole = get(server, "gzip", "HEAD"), get(server, "gzip")
    assert head.field("Content-Length") == str(len(whole.body))
    assert head.field("ETag") == whole.field("ETag") and head.body == b""


def test_pages_of_other_origins_may_have_it_as_they_may_subscribe(start):
    server = start()
    assert get(server, **PAGE).field("Access-Control-Allow-Origin") == "*"
    listed = start(ALLOWED_ORIGINS="https://example.com")
    assert get(listed, **PAGE).field(
        "Access-Control-Allow-Origin") == "https://example.com"
    assert get(listed, Origin="https://evil.example").status == 403
    assert "Origin" in get(listed).field("Vary")


def test_it_is_on_the_admin_listener_too(start):
    server = start(ADMIN_PORT=0)
    assert server.ask_admin("GET", "/isimud.js").body == plain(server)


def test_nothing_else_of_it_is_there(server):
    assert server.ask("GET", "/isimud.d.ts").status == 404
    assert server.ask("POST", "/isimud.js", {}, b"").status == 405


def read(path):
    with open(os.path.join(ROOT, path)) as file:
        return file.read()


@pytest.mark.parametrize("path, pattern", [
    ("src/web/package.json", r'^  "version": "(.*)",$'),
    ("scripts/api/openapi.yaml", r"^  version: (.*)$"),
    ("scripts/api/asyncapi.yaml", r"^  version: (.*)$"),
    ("scripts/debian/changelog", r"\Aisimud \((.*)-\d+\)"),
    ("scripts/helm/isimud/Chart.yaml", r"^appVersion: (.*)$"),
    ("scripts/k8s/standalone/kustomization.yaml", r"^ +newTag: (.*)$"),
    ("scripts/k8s/cluster/kustomization.yaml", r"^ +newTag: (.*)$"),
    ("scripts/k8s/sidecar/kustomization.yaml", r"^ +newTag: (.*)$"),
])
def test_the_version_is_the_servers(path, pattern):
    version = re.search(r'^#define VERSION "(.*)"$',
                        read("src/base/version.h"), re.M)[1]
    assert re.findall(pattern, read(path), re.M) == [version]


def test_its_package_has_all_that_it_names():
    package = json.loads(read("src/web/package.json"))
    for name in package["files"] + [package["types"],
                                    package["exports"]["."]["default"]]:
        assert os.path.exists(os.path.join(ROOT, "src/web", name)), name
