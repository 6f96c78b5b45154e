#!/usr/bin/env python3
"""Makes the image sendemail:demo from this host's static busybox, without any network.

build.py [--docker SOCKET] [--tag NAME:TAG] [--busybox FILE] [--remove]
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
from pathlib import Path

import docker
import docker.errors

HERE = Path(__file__).resolve().parent

#: what the program needs of busybox; each is a link to it
APPLETS = ["sh", "awk", "cat", "dirname", "head", "mktemp", "nc", "printf", "rm", "sleep", "wc"]


def root_file_system(busybox: Path) -> bytes:
    """A tar of the whole image; the same bytes whenever its files are the same."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("app", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        files = {
            "bin/busybox": (busybox.read_bytes(), 0o755),
            "app/sendemail.sh": ((HERE / "sendemail.sh").read_bytes(), 0o755),
            "app/body.awk": ((HERE / "body.awk").read_bytes(), 0o644),
            "etc/passwd": (b"root:x:0:0:root:/:/bin/sh\n", 0o644),
        }
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return data.getvalue()


def main() -> int:
    """Import the image and print its name, or remove it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--docker", default="unix:///var/run/docker.sock", metavar="SOCKET")
    parser.add_argument("--tag", default="sendemail:demo")
    parser.add_argument("--busybox", type=Path, default=Path("/bin/busybox"))
    parser.add_argument("--remove", action="store_true", help="remove the image instead")
    options = parser.parse_args()
    repository, _, tag = options.tag.partition(":")
    try:
        client = docker.APIClient(base_url=options.docker, version="auto", timeout=60)
        if options.remove:
            client.remove_image(options.tag)
            return 0
        client.import_image_from_data(
            root_file_system(options.busybox),
            repository=repository,
            tag=tag or "latest",
            changes=['CMD ["/app/sendemail.sh"]', "ENV PATH=/bin"],
        )
        client.inspect_image(options.tag)
    except (docker.errors.DockerException, OSError) as error:
        deed = "removed" if options.remove else "made"
        print(f"image {options.tag}: could not be {deed}: {error}", file=sys.stderr)
        return 1
    print(options.tag)
    return 0


if __name__ == "__main__":
    sys.exit(main())
