#!/usr/bin/python3
"""Tries the container image as a careful operator runs it: read-only, not
root, without capabilities or new privileges, in 64 MB. Prints what it found to
be so, and the image's size; ends at the first thing that is not.
usage: image_test.py                                   (or `make image-test`)

Environment: IMAGE, TARGETARCH as for image.sh; ENGINE is docker or podman. An
image for another machine is looked at as any, and its program is tried by
qemu-user, which knows no limits.
"""
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "test", "integration"))

from client import Closed, Http, WebSocket, basic  # noqa: E402

HERE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
ARCH = os.environ.get("TARGETARCH") or HERE
NAME = os.environ.get("IMAGE", "isimud") + ("" if ARCH == HERE else f"-{ARCH}")
QEMU = {"arm64": "qemu-aarch64-static", "amd64": "qemu-x86_64-static"}[ARCH]
IMAGE = NAME + ":latest"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
RECORDS = "var/lib/dpkg/status.d/"
SBOM = "usr/share/doc/isimud/sbom.cdx.json"
ISIMUD = "/usr/bin/isimud"
HEALTHCHECK = [ISIMUD, "healthcheck"]
MEMORY_BYTES = 64 << 20
SIZE_MAX = 11_000_000  # with a libcurl of its own, as it is everywhere
DEADLINE = 30  # seconds for anything that an engine does
LIMITS = ["--read-only", "--cap-drop", "ALL", "--security-opt",
          "no-new-privileges", "--memory", "64m", "--memory-swap", "64m",
          "--pids-limit", "64"]
# What the authority answers to each path.
ANSWERS = {"yes": "204 No Content", "no": "401 Unauthorized"}


def run(*command, check=True, **kwargs):
    result = subprocess.run(command, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **kwargs)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: status "
                             f"{result.returncode}, {result.stderr.decode()}")
    return result


def ok(sentence):
    print("ok -", sentence, flush=True)


def wait_until(condition, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {DEADLINE} s"
        time.sleep(0.1)


class Engine:
    """docker or podman, a network of its own, and the containers started."""

    def __init__(self):
        result = run(f"{ROOT}/scripts/container/engine.sh", "docker", "podman",
                     check=False)
        if result.returncode != 0:
            sys.exit(result.stderr.decode())
        self.name = result.stdout.decode().strip()
        self.network = f"isimud-test-{os.getpid()}"
        self.containers = []
        # Without it podman gives a read-only container a writable /tmp.
        self.limits = LIMITS + (
            ["--read-only-tmpfs=false"] if self.name == "podman" else [])
        self("network", "create", self.network)

    def __call__(self, *arguments, **kwargs):
        return run(self.name, *arguments, **kwargs).stdout.decode().strip()

    def start(self, *arguments):
        container = self("run", "-d", "--network", self.network, *arguments)
        self.containers.append(container)
        return container

    def inspect(self, kind, name):
        return json.loads(self(kind, "inspect", name))[0]

    def logs(self, container):
        result = run(self.name, "logs", container, check=False)
        return (result.stdout + result.stderr).decode(errors="replace")

    def close(self):
        for container in self.containers:
            run(self.name, "rm", "-f", container, check=False)
        run(self.name, "network", "rm", self.network, check=False)


class Isimud:
    """The image, running with every limit; `flags` are the engine's, `settings`
    its environment, `arguments` its own flags."""

    def __init__(self, engine, *flags, arguments=(), port=3000, **settings):
        environment = [f"--env={name}={value}" for name, value in
                       {"PASSWORD": "secret", **settings}.items() if value]
        self.engine = engine
        self.container = engine.start(*engine.limits, "-p",
                                      f"127.0.0.1::{port}", *environment,
                                      *flags, IMAGE, *arguments)
        published = engine("port", self.container, f"{port}/tcp").split()[0]
        self.address = ("127.0.0.1", int(published.rpartition(":")[2]))
        wait_until(self.answers, "an answer on the published port")

    def answers(self):
        """The engine's proxy accepts, and hangs up, before the server does."""
        try:
            return Http(self.address).ask().status == 303
        except (OSError, AssertionError, EOFError):
            assert self.state()["Running"], self.engine.logs(self.container)
            return False

    def state(self):
        return self.engine.inspect("container", self.container)["State"]

    def healthcheck(self, *flags):
        return run(self.engine.name, "exec", *flags, self.container,
                   *HEALTHCHECK, check=False).returncode

    def signal_itself(self):
        """`isimud reload`, as an operator calls it."""
        return run(self.engine.name, "exec", self.container, ISIMUD, "reload",
                   check=False).returncode

    def publish_status(self, password="secret"):
        return Http(self.address).publish(fields={
            "Authorization": basic("alice", password)}).status

    def handshake_status(self):
        """The status of an opening handshake with a token."""
        socket = WebSocket(self.address, open=False)
        socket.send(
            b"GET /sub HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Authorization: Bearer token\r\n\r\n")
        return socket.response().status

    def stop(self):
        self.engine("stop", self.container)
        return self.state()


class Authority:
    """Answers over HTTPS, in a container that only DNS knows by its name. It
    is made of the build stage, which has a shell and openssl."""

    NAMES = ("authority.test", "other.test")  # the certificate has the first

    def __init__(self, engine, folder, bundle):
        self.make_certificate(folder)
        self.bundle = os.path.join(folder, "bundle.crt")
        with open(self.bundle, "wb") as file:
            file.write(bundle + open(f"{folder}/ca.crt", "rb").read())
        os.chmod(self.bundle, 0o644)
        for path, status in ANSWERS.items():
            with open(f"{folder}/{path}", "w", newline="") as file:
                file.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n")
        self.container = engine.start(
            *(f"--network-alias={name}" for name in self.NAMES),
            "-v", f"{folder}:/authority:ro", "-w", "/authority",
            f"{NAME}-build", "openssl", "s_server", "-accept", "443", "-HTTP",
            "-cert", "server.crt", "-key", "server.key")

    @classmethod
    def make_certificate(cls, folder):
        def openssl(*arguments):
            run("openssl", *arguments, cwd=folder)

        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes"]
        openssl("req", "-x509", *key, "-days", "2", "-subj", "/CN=Test CA",
                "-keyout", "ca.key", "-out", "ca.crt")
        openssl("req", *key, "-subj", f"/CN={cls.NAMES[0]}",
                "-keyout", "server.key", "-out", "server.csr")
        with open(f"{folder}/names", "w") as file:
            file.write(f"subjectAltName=DNS:{cls.NAMES[0]}\n")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt",
                "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "names", "-out", "server.crt")


def check_image(engine):
    """What the image says of itself."""
    image = engine.inspect("image", IMAGE)
    config = image["Config"]
    assert image["Architecture"] == ARCH, image["Architecture"]
    assert config["User"] == "65532:65532"
    assert "IP=::" in config["Env"]
    assert list(config["ExposedPorts"]) == ["3000/tcp"]
    assert config["Entrypoint"] == ["/usr/bin/isimud"]
    healthcheck = config.get("Healthcheck") or image["Healthcheck"]  # podman's
    assert healthcheck["Test"] == ["CMD"] + HEALTHCHECK
    assert (image["Size"] <= SIZE_MAX or
            os.environ.get("CURL") == "debian"), image["Size"]
    ok("the image runs isimud as 65532:65532, on port 3000, with a HEALTHCHECK")


def version():
    with open(f"{ROOT}/src/base/version.h") as file:
        return re.search(r'^#define VERSION "(.*)"$', file.read(), re.M)[1]


def check_labels(engine):
    """Each is there, none is left at its default where git knows better."""
    def git(*arguments):
        return run("git", "-C", ROOT, *arguments).stdout.decode().strip()

    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): value for name, value in
              engine.inspect("image", IMAGE)["Config"]["Labels"].items()
              if name.startswith(prefix)}
    assert labels.pop("description") and labels.pop("source")
    assert labels == {
        "title": "isimud", "licenses": "MIT", "version": version(),
        "revision": git("rev-parse", "HEAD"),
        "created": git("log", "-1", "--format=%cI"),
        "base.name": "docker.io/library/debian:trixie-slim"}, labels
    ok(f"its labels say version {version()}, commit and time of it")


def export(engine):
    """Its files, as a tar."""
    container = engine("create", "--platform", f"linux/{ARCH}", IMAGE)
    engine.containers.append(container)
    return run(engine.name, "export", container).stdout


def check_files(engine):
    """Reads the image's files without running it. Returns its CA bundle."""
    exported = export(engine)
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        files = {one.name: one for one in archive if one.isfile()}
        bundle = archive.extractfile(files[BUNDLE]).read()
        told = {name: archive.extractfile(files[name]).read().decode()
                for name in files if name.startswith(RECORDS) or
                name in (SBOM, "etc/os-release", "etc/debian_version")}
        with tempfile.NamedTemporaryFile() as program:
            program.write(archive.extractfile(files[ISIMUD[1:]]).read())
            program.flush()
            run(f"{ROOT}/scripts/check/hardening.sh", program.name)
    for name, file in files.items():
        assert file.mode & 0o6022 == 0, f"{name} has mode {file.mode:o}"
        assert not name.startswith(("bin/", "sbin/", "usr/sbin/")), name
        assert "/bin/" not in name or name == "usr/bin/isimud", name
    assert bundle.count(b"BEGIN CERTIFICATE") > 100
    libraries = sum(".so" in name for name in files)
    ok(f"one program, {libraries} libraries, a CA bundle, no shell, no setuid "
       "file, none that others may write; the program is hardened")
    parts = check_sbom(told[SBOM], files)
    check_records(engine, files, told, parts)
    return bundle


def check_records(engine, files, told, parts):
    """Those of just the packages that the build stage, which dpkg knows, has the
    libraries and the CA bundle of, and of those in the SBOM; in its words."""
    names = [f"/{name}" for name in files if ".so" in name]
    script = """
set -e
for file; do dpkg -S "$(readlink -f "$file")" | sed 's/: .*//'; done |
    { cat; echo ca-certificates; } | sort -u |
    while read -r package; do dpkg-query --status "$package"; echo; done
"""
    answer = engine("run", "--rm", "--network", "none", f"{NAME}-build",
                    "sh", "-c", script, "sh", *names)
    wanted = {re.match("Package: (.*)", record)[1]: record.strip()
              for record in re.split(r"\n\n+", answer)}
    records = {name.removeprefix(RECORDS): text.strip()
               for name, text in told.items() if name.startswith(RECORDS)}
    archives = {name for name in records if name not in wanted}
    assert {name: records[name] for name in wanted} == wanted
    # curl is built of its source; all other archives are packages' files.
    assert all(name.endswith("-dev") for name in archives), archives
    assert len(archives) == len(set(parts) - {"curl"}), (archives, parts)
    assert "libc6" in records and len(records) > 5
    for record in records.values():
        for field in ("Status: install ok installed", "Version: ",
                      "Architecture: "):
            assert f"\n{field}" in record, record
    for package in records:
        assert f"usr/share/doc/{package}/copyright" in files, package
    # Scanners look in these for the release, to know what is vulnerable there.
    assert "\nID=debian\n" in told["etc/os-release"]
    assert re.match(r"\d+", told["etc/debian_version"])
    ok(f"{len(records)} Debian packages have their record and their licence")


def check_sbom(text, files):
    sbom = json.loads(text)
    assert sbom["bomFormat"] == "CycloneDX" and sbom["specVersion"] == "1.5"
    assert sbom["metadata"]["component"]["name"] == "isimud"
    assert sbom["metadata"]["component"]["version"] == version()
    parts = {}
    for part in sbom["components"]:
        assert re.match(r"\d+\.\d+", part["version"]), part
        # Of Debian's source: what scanners know, with Debian's patches.
        assert re.fullmatch(
            r"pkg:deb/debian/[a-z0-9.-]+@\d[A-Za-z0-9.%~:-]*"
            r"\?arch=source&distro=debian-\d+", part["purl"]), part
        if part["name"] == "curl":
            assert f"/curl@{part['version']}-" in part["purl"], part
            assert "usr/share/doc/curl/copyright" in files
        assert part["licenses"][0]["license"]["id"]
        parts[part["name"]] = part["version"]
    assert {"llhttp"} <= set(parts) <= {
        "llhttp", "curl", "openssl", "nats.c", "libsodium", "protobuf-c",
        "libuv", "zlib"}, parts
    loaded = {os.path.basename(name).partition(".so")[0] for name in files
              if ".so" in name}
    # What isimud is made with lies in the program, or beside it.
    for name, library in (("curl", "libcurl"), ("openssl", "libcrypto"),
                          ("nats.c", "libnats"), ("libuv", "libuv")):
        assert (name in parts) != (library in loaded), (parts, loaded)
    ok("its SBOM has what is linked into the program: " +
       ", ".join(f"{name} {of}" for name, of in sorted(parts.items())))
    return parts


def check_process(isimud):
    """The limits are those asked for, as the kernel sees it."""
    engine = isimud.engine
    inspected = engine.inspect("container", isimud.container)
    assert inspected["HostConfig"]["Memory"] == MEMORY_BYTES
    assert inspected["HostConfig"]["ReadonlyRootfs"]
    with open(f"/proc/{inspected['State']['Pid']}/status") as file:
        status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"].strip() == "1"
    if os.getuid() == 0:
        assert status["Uid"].split() == ["65532"] * 4
        assert status["Gid"].split() == ["65532"] * 4
    ok("it runs read-only, as 65532, with no capability, in 64 MB")


def check_command_line(isimud):
    """The program is a client too, of the server that runs beside it: no flag
    says where that is, or what its password is."""
    def command(*arguments):
        return [isimud.engine.name, "exec", isimud.container, ISIMUD,
                *arguments]

    def output(*arguments):
        return run(*command(*arguments)).stdout.decode()

    def topics():
        return [json.loads(line) for line in
                output("topics", "--publisher", "cli", "--json").splitlines()]

    subscriber = subprocess.Popen(
        command("sub", "--publisher", "cli", "--count", "2", "--timeout",
                str(DEADLINE), "sports"), stdout=subprocess.PIPE)
    try:
        wait_until(lambda: [one["subscribers"] for one in topics()] == [1],
                   "its subscriber, in `isimud topics`")
        for data in ("1 : 0", "2 : 0"):
            receipt = json.loads(output("pub", "--publisher", "cli",
                                        "--receipts", "sports", data))
            assert receipt["subscribers"] == 1, receipt
        received, _ = subscriber.communicate(timeout=DEADLINE)
    finally:
        subscriber.kill()
        subscriber.wait()
    assert received == b"1 : 0\n2 : 0\n" and subscriber.returncode == 0
    [topic] = topics()
    assert topic["topic"] == "sports" and topic["id"] == receipt["id"]
    top = output("top", "--once")
    assert top.startswith(f"isimud {version()} at ") and "memory" in top, top
    ok("`isimud sub`, `pub`, `topics` and `top --once` work in it")


def check_messages(isimud):
    """200 subscribers get 100 messages of 1 KiB each, in order."""
    subscribers = [WebSocket(isimud.address).subscribe("alice", "news")
                   for _ in range(200)]
    messages = [f"{i} ".ljust(1024, "x") for i in range(100)]
    publisher = Http(isimud.address)
    publisher.publish_all("alice", "news", messages)
    for subscriber in subscribers:
        assert [subscriber.receive() for _ in messages] == messages
    ok("200 subscribers got 100 messages each through the published port")
    return subscribers


def check_health(isimud):
    """The command itself, and that the engine comes to call it healthy."""
    assert isimud.healthcheck() == 0
    assert isimud.healthcheck("-e", "PORT=1") == 1
    if isimud.engine.name == "podman":  # without systemd, nobody else runs it
        isimud.engine("healthcheck", "run", isimud.container)

    def is_healthy():
        state = isimud.state()
        health = state.get("Health") or state["Healthcheck"]
        return health["Status"] == "healthy"

    wait_until(is_healthy, "healthy")
    ok("its HEALTHCHECK is healthy, and fails where nobody listens")


def check_addresses(engine, isimud):
    """IP=::, as the image has it, is all addresses of both families. In a
    container the engine mostly turns IPv6 off, but the kernel has it."""
    assert isimud.healthcheck("-e", "IP=127.0.0.1") == 0
    with open(f"/proc/{isimud.state()['Pid']}/net/tcp6") as file:
        listening = [line.split()[1] for line in file if " 0A " in line]
    assert listening == [f"{0:032X}:{3000:04X}"]
    other = Isimud(engine, "--sysctl", "net.ipv6.conf.all.disable_ipv6=0")
    for ip in ("127.0.0.1", "::1"):
        assert other.healthcheck("-e", f"IP={ip}") == 0, ip
    engine("kill", "--signal", "KILL", other.container)
    ok("it listens on all addresses, of IPv4 and IPv6, by one socket")


def check_flags(engine):
    """What is told by flags, health checks find out."""
    isimud = Isimud(engine, port=4000, arguments=[
        "--port", "4000", "--admin-port=9090", "--ip", "0.0.0.0"])
    assert isimud.healthcheck() == 0
    engine("kill", "--signal", "KILL", isimud.container)
    ok("`isimud healthcheck` finds the flags of the server")


def check_reload(engine, folder):
    """A password file that is mounted, and changes in place, so that it is
    read when `isimud reload` says so, or when it is looked at next."""
    file = f"{folder}/password"
    with open(file, "w") as out:
        out.write("first\n")
    os.chmod(file, 0o644)
    isimud = Isimud(engine, "-v", f"{folder}:/secret:ro", PASSWORD=None,
                    PASSWORD_FILE="/secret/password")
    assert isimud.publish_status("first") == 200
    with open(file, "w") as out:
        out.write("second\nfirst\n")
    assert isimud.signal_itself() == 0, engine.logs(isimud.container)
    wait_until(lambda: isimud.publish_status("second") == 200, "the second")
    assert isimud.publish_status("first") == 200
    with open(file, "w") as out:
        out.write("second\n")
    wait_until(lambda: isimud.publish_status("first") == 401, "no first")
    assert isimud.publish_status("second") == 200
    engine("kill", "--signal", "KILL", isimud.container)
    ok("`isimud reload` works without a shell; a password is changed in two "
       "steps")


def check_stop(isimud, subscribers):
    """SIGTERM reaches it as process 1: Close 1001 to all, exit status 0, and
    all that before `stop` loses its patience."""
    state = isimud.stop()
    assert state["ExitCode"] == 0, isimud.engine.logs(isimud.container)
    assert not state["OOMKilled"]
    for subscriber in subscribers:
        try:
            raise AssertionError(subscriber.receive())
        except Closed as closed:
            assert closed.code == 1001
    ok("stop: subscribers get 1001, the exit status is 0")


def check_authority(engine, authority, trusted, host, path, status):
    """A handshake's status with AUTH_URL https://`host`/`path`."""
    flags = ["-v", f"{authority.bundle}:/{BUNDLE}:ro"] if trusted else []
    isimud = Isimud(engine, *flags, AUTH_URL=f"https://{host}/{path}")
    found = isimud.handshake_status()
    assert found == status, (found, engine.logs(isimud.container),
                             engine.logs(authority.container))
    engine("kill", "--signal", "KILL", isimud.container)


def check_second_signal(engine):
    """No signal has a default effect on process 1."""
    isimud = Isimud(engine, DRAIN_SECONDS="3600")
    subscriber = WebSocket(isimud.address).subscribe("alice", "news")
    engine("kill", "--signal", "TERM", isimud.container)
    wait_until(lambda: "draining" in engine.logs(isimud.container), "draining")
    engine("kill", "--signal", "TERM", isimud.container)
    wait_until(lambda: not isimud.state()["Running"], "the end")
    subscriber.close()
    ok("a second SIGTERM ends it at once")


def check_auth(engine, folder, bundle):
    authority = Authority(engine, folder, bundle)
    good, other = authority.NAMES
    check_authority(engine, authority, True, good, "yes", 101)
    check_authority(engine, authority, True, good, "no", 401)
    ok("an https AUTH_URL is found by DNS, and trusted by the CA bundle")
    check_authority(engine, authority, True, other, "yes", 500)
    check_authority(engine, authority, False, good, "yes", 500)
    # Its log names each file that it was asked for. (curl 8.20 and later look at
    # the certificate after the handshake, so there is no alert to be seen.)
    assert engine.logs(authority.container).count("FILE:") == 2
    ok("a certificate of another name, or of an unknown CA, is refused: "
       "nothing is asked there")


def print_size(engine):
    size = engine.inspect("image", IMAGE)["Size"]
    packer = zlib.compressobj(6)
    saved = run(engine.name, "save", IMAGE).stdout
    packed = len(packer.compress(saved)) + len(packer.flush())
    print(f"{IMAGE}: {size / 1e6:.1f} MB, {packed / 1e6:.1f} MB compressed")


def check_under_qemu(engine, folder):
    """Another machine's program: it starts, is well, passes messages on, and
    ends as it should."""
    if shutil.which(QEMU) is None:
        sys.exit(f"{QEMU} is missing (Debian: qemu-user-static)")
    root = f"{folder}/root"
    with tarfile.open(fileobj=io.BytesIO(export(engine))) as archive:
        archive.extractall(root)
    wrapper = [QEMU, "-L", root, root + ISIMUD]

    def start(**settings):
        server = subprocess.Popen(
            wrapper, stderr=subprocess.PIPE, text=True,
            env={"PASSWORD": "secret", "PORT": "0", "IP": "127.0.0.1",
                 "DRAIN_SECONDS": "0", **settings})
        for line in server.stderr:
            found = re.search(r"listening on [^ ]*:(\d+)", line)
            if found:
                return server, ("127.0.0.1", int(found[1]))
        raise AssertionError(f"it ended: {server.wait()}")

    def command(name, *arguments):
        return run(*wrapper, name, *arguments,
                   env={"PORT": str(address[1])}).stdout.decode()

    server, address = start()
    try:
        command("healthcheck")
        subscriber = WebSocket(address).subscribe("alice", "news")
        Http(address).publish_all("alice", "news", ["a", "b"])
        assert [subscriber.receive() for _ in "ab"] == ["a", "b"]
        server.terminate()
        assert server.wait(DEADLINE) == 0
    finally:
        server.kill()
    ok(f"on {ARCH} (qemu-user): healthcheck, publish, subscribe, SIGTERM")


def main():
    engine = Engine()
    folder = tempfile.mkdtemp(prefix="isimud-image-")
    os.chmod(folder, 0o755)  # 65532 reads the CA bundle in it
    try:
        check_image(engine)
        check_labels(engine)
        bundle = check_files(engine)
        if ARCH != HERE:
            check_under_qemu(engine, folder)
            print_size(engine)
            return
        isimud = Isimud(engine)
        check_process(isimud)
        check_command_line(isimud)
        subscribers = check_messages(isimud)
        check_health(isimud)
        check_addresses(engine, isimud)
        check_stop(isimud, subscribers)
        check_auth(engine, folder, bundle)
        check_second_signal(engine)
        check_flags(engine)
        check_reload(engine, folder)
        print_size(engine)
    finally:
        engine.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
