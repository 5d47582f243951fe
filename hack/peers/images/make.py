#!/usr/bin/env python3
"""make.py PROGRAMS STORAGE: the images that critest and the CRI tests ask for, laid out as docker-registry stores them.

PROGRAMS holds busybox, web, nnp and pause, all static. STORAGE/digest gets the digest of the image that is asked for by
digest. Names are without their registry's host: one registry stands for all of them.
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DOCKER = ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json",
          "application/vnd.docker.image.rootfs.diff.tar.gzip")
OCI = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json",
       "application/vnd.oci.image.layer.v1.tar+gzip")
INDEX = "application/vnd.oci.image.index.v1+json"


class Layer:
    """A tar in the making; every entry has the same time, so that the same files give the same digest."""

    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.PAX_FORMAT)

    def entry(self, name, mode, kind=tarfile.REGTYPE, link="", content=b""):
        info = tarfile.TarInfo(name.lstrip("/"))
        info.mode, info.type, info.linkname, info.size = mode, kind, link.lstrip("/"), len(content)
        self.tar.addfile(info, io.BytesIO(content))
        return self

    def folder(self, *names, mode=0o755):
        for name in names:
            self.entry(name, mode, tarfile.DIRTYPE)
        return self

    def file(self, name, content, mode=0o644):
        return self.entry(name, mode, content=content)

    def done(self):
        self.tar.close()
        return self.bytes.getvalue()


class Registry:
    """docker-registry's storage."""

    def __init__(self, top):
        self.top = os.path.join(top, "docker/registry/v2")

    def write(self, name, content):
        path = os.path.join(self.top, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)

    def blob(self, content):
        digest = hashlib.sha256(content).hexdigest()
        self.write(f"blobs/sha256/{digest[:2]}/{digest}/data", content)
        return digest

    def link(self, repository, place, digest):
        self.write(f"repositories/{repository}/{place}/link", f"sha256:{digest}".encode())

    def manifest(self, repository, tags, manifest):
        """Stores a manifest that may be asked for by its digest and by these tags."""
        content = json.dumps(manifest, sort_keys=True).encode()
        digest = self.blob(content)
        self.link(repository, f"_manifests/revisions/sha256/{digest}", digest)
        for tag in tags:
            self.link(repository, f"_manifests/tags/{tag}/current", digest)
            self.link(repository, f"_manifests/tags/{tag}/index/sha256/{digest}", digest)
        return {"mediaType": manifest["mediaType"], "digest": f"sha256:{digest}", "size": len(content)}

    def image(self, repository, tags, layers, config, kinds=DOCKER):
        """Stores an image under its tags; gives its manifest's descriptor."""
        config = {
            "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": {"Env": [PATH], **config},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "hack/peers/images"} for _ in layers],
        }
        described = []
        contents = [(kinds[1], json.dumps(config, sort_keys=True).encode())]
        contents += [(kinds[2], gzip.compress(layer, 6, mtime=0)) for layer in layers]
        for kind, content in contents:
            digest = self.blob(content)
            self.link(repository, f"_layers/sha256/{digest}", digest)
            described.append({"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)})
        manifest = {"schemaVersion": 2, "mediaType": kinds[0], "config": described[0], "layers": described[1:]}
        return self.manifest(repository, tags, manifest)


def read(name):
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        return file.read()


def busybox_layer():
    """Busybox with every applet as a hard link of it, and the users that the tests know."""
    layer = Layer().folder("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "usr/sbin", "usr/local",
                           "usr/local/bin", "var", "var/log", "var/run", "var/spool")
    layer.folder("tmp", "var/tmp", mode=0o1777)
    layer.file("bin/busybox", read("busybox"), 0o755)
    applets = subprocess.run([os.path.join(sys.argv[1], "busybox"), "--list"], check=True, capture_output=True, text=True)
    for applet in applets.stdout.split():
        if applet != "busybox":
            layer.entry(f"bin/{applet}", 0o755, tarfile.LNKTYPE, "bin/busybox")
    layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
               b"nobody:x:65534:65534:nobody:/home:/bin/false\n")
    layer.file("etc/group", b"root:x:0:\nwww-data:x:33:\nnobody:x:65534:\n")
    return layer.done()


def server(base, program, port):
    """The layers and the configuration of a web server named `program`."""
    layer = Layer().file(f"usr/sbin/{program}", read("web"), 0o755).done()
    return [base, layer], {"Entrypoint": [program, "master process", str(port)], "ExposedPorts": {f"{port}/tcp": {}}}


def nginx_index(registry, base):
    """nginx for two architectures, as public images are; the other one is not there."""
    name = "e2e-test-images/nginx"
    ours = registry.image(name, [], *server(base, "nginx", 80), kinds=OCI)
    ours["platform"] = {"architecture": "amd64", "os": "linux"}
    other = {**ours, "digest": "sha256:" + "0" * 64, "platform": {"architecture": "s390x", "os": "linux"}}
    registry.manifest(name, ["1.14-2"], {"schemaVersion": 2, "mediaType": INDEX, "manifests": [other, ours]})


def staging(registry, base):
    """The images that critest pulls, lists, removes, and starts as their own users."""
    def image(name, tags, note, config=None, layers=()):
        mark = Layer().file(f"image-{note}", note.encode()).done()
        return registry.image(f"k8s-staging-cri-tools/{name}", tags, [base, *layers, mark], {"Cmd": ["sh"], **(config or {})})

    for tag in "test", "all":
        image("test-image-tag", [tag], f"tag-{tag}")
    for name in "test-image-latest", "test-image-1", "test-image-2", "test-image-3":
        image(name, ["latest"], name)
    image("test-image-tags", ["1", "2", "3"], "tags")
    digest = image("test-image-digest", ["latest"], "digest")["digest"]
    users = {"uid": "1002", "username": "www-data", "uid-group": "1003:1004", "username-group": "www-data:1004"}
    for name, user in users.items():
        image(f"test-image-user-{name}", ["latest"], f"user-{name}", {"User": user})
    groups = Layer().file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000::/home:/bin/sh\n")
    groups.file("etc/group", b"root:x:0:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")
    image("test-image-predefined-group", ["latest"], "predefined-group", {"User": "1000"}, [groups.done()])
    registry.image("k8s-staging-cri-tools/hostnet-nginx-amd64", ["latest"], *server(base, "nginx", 12003))
    return digest


def main():
    registry = Registry(sys.argv[2])
    base = busybox_layer()
    registry.image("e2e-test-images/busybox", ["1.29-2"], [base], {"Cmd": ["sh"]})
    nginx_index(registry, base)
    registry.image("e2e-test-images/httpd", ["2.4.39-4"], *server(base, "httpd", 80))
    nnp = Layer().file("nnp", read("nnp"), 0o4755).done()
    registry.image("e2e-test-images/nonewprivs", ["1.3"], [base, nnp], {"Entrypoint": ["/nnp"]})
    pause = Layer().file("pause", read("pause"), 0o755).done()
    # The second is for servers that run a pod on an image: critest counts and removes the names of the first.
    for tag in "3.9", "3.10.1":
        config = {"Entrypoint": ["/pause"], "User": "65535:65535", "Labels": {"version": tag}}
        registry.image("pause", [tag], [pause], config, kinds=OCI)
    digest = staging(registry, base)
    with open(os.path.join(sys.argv[2], "digest"), "w", encoding="utf-8") as file:
        file.write(digest.removeprefix("sha256:"))


main()
