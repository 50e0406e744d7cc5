#!/usr/bin/python3
"""Says of what `docker save` wrote for which machine it is: Docker's old builder
(without buildx) takes any image for one of its own machine.
usage: docker save IMAGE | machine.py arm64 | docker load
"""
import hashlib
import io
import json
import sys
import tarfile


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def main(architecture):
    source = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()))
    target = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")
    manifest = json.load(source.extractfile("manifest.json"))
    for image in manifest:
        config = json.load(source.extractfile(image["Config"]))
        config["architecture"] = architecture
        content = json.dumps(config).encode()
        image["Config"] = hashlib.sha256(content).hexdigest() + ".json"
        add(target, image["Config"], content)
        for layer in image["Layers"]:
            add(target, layer, source.extractfile(layer).read())
    add(target, "manifest.json", json.dumps(manifest).encode())
    target.close()


if __name__ == "__main__":
    main(sys.argv[1])
