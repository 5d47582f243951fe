#!/usr/bin/env python3
"""make.py LAYOUT: the images that hack/benches/images pulls, as an OCI layout. The same bytes at each run.

  gzip, zstd  eight layers of files of all sizes, 300 MB as gzip; the same archives in both
  small       one layer of 100 000 small files, gzip
  large       one layer of one file of 2 GB that compresses well, gzip: what memory it takes does not depend on that size

What is in the files compresses like programs and their data do: text of words, and records of which a part is noise.
"""

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor

KIND = "application/vnd.oci.image"
POOL = 24 << 20


class Layout:
    """An OCI layout in the making."""

    def __init__(self, top):
        self.blobs = os.path.join(top, "blobs/sha256")
        self.top, self.images = top, []
        os.makedirs(self.blobs)

    def blob(self, content):
        digest = hashlib.sha256(content).hexdigest()
        with open(os.path.join(self.blobs, digest), "wb") as file:
            file.write(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    def document(self, kind, value):
        return {"mediaType": f"{KIND}.{kind}.v1+json", **self.blob(json.dumps(value, sort_keys=True).encode())}

    def image(self, name, ending, layers):
        """`layers`: diff id and compressed content of each."""
        config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/file"]},
                  "rootfs": {"type": "layers", "diff_ids": [diff for diff, _ in layers]}}
        described = [{"mediaType": f"{KIND}.layer.v1.tar+{ending}", **self.blob(content)} for _, content in layers]
        manifest = {"schemaVersion": 2, "mediaType": f"{KIND}.manifest.v1+json",
                    "config": self.document("config", config), "layers": described}
        named = {"annotations": {"org.opencontainers.image.ref.name": name}}
        self.images.append({**self.document("manifest", manifest), **named})

    def done(self):
        for name, value in (("index.json", {"schemaVersion": 2, "manifests": self.images}),
                            ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
            with open(os.path.join(self.top, name), "w", encoding="utf-8") as file:
                json.dump(value, file)


def pools():
    """Text of words in phrases that come again, and records of 16 bytes of which two are noise."""
    dice = random.Random(1)
    letters = "etaoinshrdlucmfwyp_"
    words = ["".join(dice.choices(letters, k=dice.randint(2, 11))) for _ in range(6000)]
    ranks = [1 / (rank + 8) for rank in range(len(words))]
    phrases = [" ".join(dice.choices(words, ranks, k=dice.randint(2, 7))) for _ in range(6000)]
    text = " ".join(dice.choices(phrases, ranks, k=POOL // 24)).encode()[:POOL]
    patterns = [dice.randbytes(14) for _ in range(6000)]
    noise = dice.randbytes(POOL // 16 * 2)
    chosen = dice.choices(patterns, ranks, k=POOL // 16)
    records = b"".join(pattern + noise[2 * at:2 * at + 2] for at, pattern in enumerate(chosen))
    return text, records


def archive(number, sizes, pool):
    """One layer: files of these sizes in a tree of directories."""
    dice = random.Random(100 + number)
    made = io.BytesIO()
    tar = tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT)

    def entry(name, kind, content=b""):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime = kind, len(content), 1_700_000_000 + number
        info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        tar.addfile(info, io.BytesIO(content))

    entry(f"layer{number}", tarfile.DIRTYPE)
    for at, size in enumerate(sizes(dice)):
        folder = f"layer{number}/{at // 100:04}"
        if at % 100 == 0:
            entry(folder, tarfile.DIRTYPE)
        source = pool[dice.random() < 0.6]
        pieces = []
        while size > 0:
            piece = min(size, 256 << 10)
            start = dice.randrange(len(source) - piece)
            pieces.append(source[start:start + piece])
            size -= piece
        entry(f"{folder}/file{at}", tarfile.REGTYPE, b"".join(pieces))
    tar.close()
    return made.getvalue()


def diff_of(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def gzip(content):
    packer = zlib.compressobj(6, wbits=31)
    return packer.compress(content) + packer.flush()


def zstd(content):
    return subprocess.run(["zstd", "-3", "-c", "-q"], input=content, stdout=subprocess.PIPE, check=True).stdout


def sized(total):
    """Sizes as in a root filesystem: most files small, most bytes in large ones."""
    def sizes(dice):
        left = total
        while left > 0:
            size = min(int(dice.lognormvariate(9.2, 2.0)), 8 << 20)
            yield size
            left -= size
    return sizes


def main():
    layout, pool = Layout(sys.argv[1]), pools()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        archives = [archive(number, sized(88 << 20), pool) for number in range(8)]
        diffs = [diff_of(content) for content in archives]
        layout.image("gzip", "gzip", list(zip(diffs, threads.map(gzip, archives))))
        layout.image("zstd", "zstd", list(zip(diffs, threads.map(zstd, archives))))
    small = archive(8, lambda dice: [dice.randrange(3000) for _ in range(100_000)], pool)
    layout.image("small", "gzip", [(diff_of(small), gzip(small))])
    layout.image("large", "gzip", [large(pool[0])])
    layout.done()


def large(text):
    """2 GB without having them all at a time."""
    info = tarfile.TarInfo("file")
    info.size = 2 << 30
    packer, hasher, packed = zlib.compressobj(1, wbits=31), hashlib.sha256(), []
    block = (text[:4096] * 256)[:1 << 20]
    for piece in [info.tobuf(tarfile.GNU_FORMAT)] + [block] * 2048 + [b"\0" * 1024]:
        hasher.update(piece)
        packed.append(packer.compress(piece))
    return "sha256:" + hasher.hexdigest(), b"".join(packed) + packer.flush()


main()
