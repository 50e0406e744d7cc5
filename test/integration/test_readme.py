"""README is followed to the letter: its examples run, its settings and defaults
are the program's, what it points to is there. (Those for browsers: test_browser,
test_recipe.)
"""
import json
import os
import re
import shlex
import subprocess

import pytest

from client import DEADLINE, PASSWORD
from program import ISIMUD, ROOT, environment

with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
    README = file.read()

# What is indented is to be typed, or is what comes back.
BLOCKS = [re.sub(r"^    ", "", block, flags=re.MULTILINE)
          for block in re.findall(r"(?:^    \S.*\n)(?:^    .*\n)*", README,
                                  re.MULTILINE)]


def commands():
    """Each command of README, as its words."""
    for block in BLOCKS:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in ("curl", "make", "docker", "kubectl",
                                      "isimud"):
                yield words


def commands_of(program):
    found = [words for words in commands() if words[0] == program]
    assert found
    return found


def test_every_example_is_tried_by_some_test():
    """A new kind of example has to be added here, to test_browser or to
    test_recipe."""
    others = [block for block in BLOCKS
              if not re.match("(curl|make|docker|kubectl|isimud) ", block)]
    assert len(others) == 7
    # test_isimud_js_in_chromium opens that page.
    assert sum("isimud.js" in block for block in others) == 1
    # test_cluster makes that stream.
    assert sum(block.startswith("nats stream add ") for block in others) == 1
    assert sum(block.startswith("const ") for block in others) == 2
    assert sum("follow(" in block for block in others) == 2
    assert sum(block.startswith('{"topics": ') for block in others) == 1


def curl(words, server):
    """README's command against `server`, as a process."""
    words = [word.replace("127.0.0.1:3000", "%s:%d" % server.address)
             for word in words]
    assert any("%s:%d" % server.address in word for word in words)
    return subprocess.Popen([words[0], "--silent", "--show-error", "--fail",
                             *words[1:]], stdout=subprocess.PIPE, text=True)


def test_curl_subscribes_and_publishes(server):
    subscribing, *publishing = sorted(
        commands_of("curl"), key=lambda words: "-N" not in words)
    assert "-N" in subscribing and len(publishing) == 3
    assert PASSWORD == "secret"  # and `make run` has it, too
    reader = curl(subscribing, server)
    try:
        assert reader.stdout.readline().startswith("retry: ")
        for words in publishing:
            writer = curl(words, server)
            receipt = json.loads(writer.communicate(timeout=DEADLINE)[0])
            assert writer.returncode == 0
            assert receipt["subscribers"] == 1
            data = words[words.index("-d" if "-d" in words else "--json") + 1]
            if "--json" in words:
                data = json.dumps(json.loads(data)["data"],
                                  separators=(",", ":"))
            while not (line := reader.stdout.readline()).startswith("data:"):
                assert line
            assert line == f"data: {data}\n"
    finally:
        reader.kill()
        reader.communicate()


def test_the_command_line_subscribes_and_publishes(server):
    subscribing, publishing, *showing = commands_of("isimud")
    assert [words[1] for words in showing] == ["topics", "top", "bench"]
    place = {"PASSWORD": PASSWORD, "ISIMUD_URL": "http://%s:%d"
             % server.address}
    reader = subprocess.Popen([ISIMUD, *subscribing[1:], "--count", "1"],
                              env=environment(place), text=True,
                              stdout=subprocess.PIPE)
    try:
        server.wait_until(lambda: sum(
            value for name, value in server.metrics().items()
            if name.startswith("isimud_subscriptions{")) >= 2,
            "two subscriptions")
        subprocess.run([ISIMUD, *publishing[1:]], env=environment(place),
                       check=True, timeout=DEADLINE)
        assert reader.communicate(timeout=DEADLINE)[0] == publishing[-1] + "\n"
    finally:
        reader.kill()
    for words, says in zip(showing, ("sports", "published/s",
                                    "deliveries/s")):
        shown = subprocess.run([ISIMUD, *words[1:]], env=environment(place),
                               check=True, timeout=DEADLINE, text=True,
                               capture_output=True).stdout
        assert says in shown


def test_make_has_these_targets():
    named = {words[1] for words in commands_of("make")}
    named |= set(re.findall(r"`(?:[^`]*; )?make ([a-z-]+)", README))
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as makefile:
        targets = set(re.findall(r"^([a-z][a-z -]*):", makefile.read(),
                                 re.MULTILINE))
    targets = {name for line in targets for name in line.split()}
    assert {"run", "test", "image", "image-test"} <= named <= targets


def test_make_run_starts_it_as_readme_says():
    with open(os.path.join(ROOT, "scripts", "build", "run.sh"),
              encoding="utf-8") as script:
        assert "PASSWORD=secret\n" in script.read()
    shown = check_config(PASSWORD="secret")
    assert (shown["IP"], shown["PORT"]) == ("127.0.0.1", "3000")


def test_docker_runs_it_as_make_image_test_does():
    words, = commands_of("docker")
    with open(os.path.join(ROOT, "scripts", "container", "image_test.py"),
              encoding="utf-8") as script:
        limits = re.search(r"^LIMITS = (\[.*?\])", script.read(),
                           re.MULTILINE | re.DOTALL).group(1)
    limits = json.loads(limits)
    for i, word in enumerate(limits):
        if word.startswith("--"):
            assert word in words
        else:
            assert words[words.index(limits[i - 1]) + 1] == word
    assert words[-1] == "isimud"


# --- settings ----------------------------------------------------------------


def check_config(**settings):
    """The effective settings; None where one is not set."""
    shown = subprocess.run([ISIMUD, "--check-config"], check=True,
                           env=environment(settings), capture_output=True,
                           text=True, timeout=DEADLINE).stdout
    found = {}
    for line in shown.splitlines():
        name, is_set, value = line.partition("=")
        found[name if is_set else name.split()[0]] = value if is_set else None
    return found


def table_of_settings():
    """The settings of README's table, each with its default."""
    rows = re.findall(r"^\| (`[A-Z`, _]+`) \| ([^|]*) \| [^|]*\|$", README,
                      re.MULTILINE)
    for names, defaults in rows:
        names = re.findall("`([A-Z_]+)`", names)
        defaults = defaults.split(", ") if len(names) > 1 else [defaults]
        assert len(names) == len(defaults), names
        yield from zip(names, defaults)


def test_the_table_has_every_setting():
    assert sorted(name for name, _ in table_of_settings()) == sorted(
        check_config(PASSWORD="x"))


@pytest.mark.parametrize("name, default", [
    row for row in table_of_settings()
    if re.fullmatch(r"\*|true|false|[a-z]+|[0-9.]+[KMG]?|unset", row[1])])
def test_the_defaults_are_those_of_the_table(name, default):
    shown = check_config(PASSWORD="x")[name]
    if default == "unset":
        assert shown is None
    elif default[-1] in "KMG":
        assert int(shown) == int(default[:-1]) << {
            "K": 10, "M": 20, "G": 30}[default[-1]]
    else:
        assert shown == default


# --- what it points to -------------------------------------------------------


def test_every_file_that_is_named_is_there():
    named = re.findall(r"`((?:src|scripts|test|third_party)/[\w./-]*)", README)
    assert len(named) > 10
    for path in named:
        assert os.path.exists(os.path.join(ROOT, path)), path


def test_the_list_to_tick_names_settings_that_there_are():
    items = re.findall(r"^- \[ \] (.*(?:\n  .*)*)", README, re.MULTILINE)
    assert len(items) >= 15
    named = set(re.findall(r"`([A-Z][A-Z_]+)(?:=[^`]*)?`", "\n".join(items)))
    assert {"AUTH_URL", "ALLOWED_ORIGINS", "ADMIN_PORT"} <= named
    rows = "\n".join(re.findall(r"^\| `.*", README, re.MULTILINE))
    assert {name for name in named if f"`{name}`" not in rows} == set()


def test_each_source_of_the_comparison_is_cited():
    defined = set(re.findall(r"^\[(\d+)\]: https://", README, re.MULTILINE))
    cited = set(re.findall(r"\[(\d+)\](?!:)", README))
    assert defined == cited != set()


def test_every_link_within_leads_somewhere():
    titles = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
              for title in re.findall("^#+ (.*)$", README, re.MULTILINE)}
    links = re.findall(r"\]\(#([^)]*)\)", README)
    assert links and set(links) <= titles
