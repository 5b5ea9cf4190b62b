"""The service on one machine: a private Ray cluster, the graph on it, ready to answer. A cluster runs `graph.build` instead."""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import httpx2
import psutil
from filelock import FileLock, Timeout

from configs.models import SPANS_DIR, AccessConfig, AppConfig, cache_dir
from museserve.access import tokens
from museserve.access.keys import Keys, read_keys
from museserve.app import fork_server, haproxy
from museserve.app.ray_flags import RAY_TOKEN, free_port, node_flags, one_machine_flags
from museserve.errors import ConfigError, EngineUnavailableError
from museserve.runtime import cpu
from musetalk.avatars.progress import PREPARING_SHIPPED
from musetalk.choice import check_choice

FOLDER = "muse-"  # of a service's private folder, below /tmp
OWNER = "owner"  # the file in it that has the number of its process
ALIVE = "alive.lock"  # the one that is locked for as long as that lives
DAEMONS = ("gcs_server", "raylet")
TEMPORARY = "TMPDIR"
LOOK_S = 0.5
PREPARATION = re.compile(rf'{PREPARING_SHIPPED}[^"\[\n]*')  # of a line in text or in JSON, without the ids at its end
UNREAD_LATER_S = 10.0
REHEARSED = (("woman", "Ready."), ("man", "Ready."), ("woman", "준비됐습니다."))  # avatar and text: each of the shipped voices once

RAYS_LIST = "prom_metrics_service_discovery.json"  # of a cluster's nodes, kept up to date in its temporary folder

logger = logging.getLogger(__name__)


@contextmanager
def running(
    config: AppConfig, *, num_gpus: int | None = None, private_temp: bool = True, told: Callable[[str], object] = lambda line: None
) -> Iterator[str]:
    """Start the service, yield its URL once it answers, and stop everything that was started. num_gpus: None = those of this machine.

    told: one line at a time of what makes a first start long: the shipped avatars that are prepared for MuseTalk.

    Raises:
        ConfigError: a port is taken, or more of a GPU is asked for than there is.
        EngineUnavailableError: a deployment cannot start; the message has its reason.
    """
    check_choice(config)
    if config.server.public:
        config.access.check_said(f"server.host is {config.server.host}, which other machines may reach")
    if config.access.auth == "keys":
        Keys(config.access.keys_path)
    _clear_dead()
    port = config.server.port or free_port()
    _check_free(config.server.host, port, "server.port")
    _check_free("127.0.0.1", config.server.dashboard_port, "server.dashboard_port")
    num_gpus = enough_gpus(config, visible_gpus() if num_gpus is None else num_gpus)
    mask = os.umask(0o077)  # what this service and its replicas write is for nobody else to read
    # Short: Unix sockets below it have at most 107 characters in their path.
    temp = Path(tempfile.mkdtemp(prefix=FOLDER, dir="/tmp")) if private_temp else None
    before, alive = {name: os.environ.get(name) for name in (haproxy.BINARY, TEMPORARY)}, ExitStack()
    try:
        flags = node_flags(config.server) | one_machine_flags(config.server, temp)
        if temp is not None:
            (temp / OWNER).write_text(str(os.getpid()))
            (temp / RAY_TOKEN).touch(mode=0o600)
            (temp / RAY_TOKEN).write_text(secrets.token_hex(32))
            os.environ.pop("RAY_AUTH_TOKEN", None)  # it would go before the file
            alive.enter_context(FileLock(temp / ALIVE))
            (temp / "tmp").mkdir()  # uploads and films on their way: they go with the service, even if it is killed
            flags[TEMPORARY] = str(temp / "tmp")
            if config.server.fast_transport and (launcher := haproxy.write_launcher(temp, _haproxy_settings(config))) is not None:
                flags[haproxy.BINARY] = str(launcher)
        os.environ.update(flags)
        shutil.rmtree(log_dir(port), ignore_errors=True)
        log_dir(port).mkdir(parents=True)
        nodes_file(port).symlink_to((temp or Path("/tmp")) / "ray" / RAYS_LIST)
        os.environ.setdefault(SPANS_DIR, str(log_dir(port) / "spans"))
        with fork_server.launched(temp if config.server.fork_workers else None) as python:
            yield from _serve(config, port, num_gpus, temp, python, told)
    finally:
        if temp is not None:
            _end_leftovers(temp)
            shutil.rmtree(temp, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        os.umask(mask)
        tempfile.tempdir = None  # else this process goes on using what is no longer there
        alive.close()


def _haproxy_settings(config: AppConfig) -> haproxy.Settings:
    limits = config.limits
    # The service itself shall be the first to cut: it says why, and frees what it made.
    return haproxy.Settings(limits.request_s, limits.unread_s + UNREAD_LATER_S, limits.connections_per_address, config.server.trusted_proxies)


def wait_for_loss() -> NoReturn:
    """Until Ray is lost: then everything is ended, and so is this process.

    Without its store (`gcs_server`) or its node (`raylet`) Ray answers nothing any more, and hangs where it is asked.
    """
    daemons = {child.name(): child for child in psutil.Process().children() if child.name() in DAEMONS}
    while True:
        time.sleep(LOOK_S)
        lost = [name for name, child in daemons.items() if not _is_alive(child)]
        if lost:
            _give_up(f"the service has lost {' and '.join(sorted(lost))} of Ray and cannot go on; start it again")


def _give_up(why: str) -> None:
    """End this process with what it started, asking Ray for nothing."""
    sys.stderr.write(f"museserve: {why}\n")
    sys.stderr.flush()
    _end(psutil.Process().children(recursive=True))
    for folder in _folders():
        if (folder / OWNER).read_text() == str(os.getpid()):
            _end_leftovers(folder)
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _folders() -> Iterator[Path]:
    """The private folders of this user's services, also of killed ones."""
    for lock in Path("/tmp").glob(f"{FOLDER}*/{ALIVE}"):
        with suppress(FileNotFoundError):  # it has just ended
            if lock.parent.lstat().st_uid == os.getuid():
                yield lock.parent


def _clear_dead() -> None:
    """End what a service that was killed has left, and remove its folder."""
    for folder in _folders():
        with suppress(Timeout, OSError), FileLock(folder / ALIVE, blocking=False):
            logger.warning("clearing what a service that was killed left in %s", folder)
            _end_leftovers(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _serve(config: AppConfig, port: int, num_gpus: int, temp: Path | None, python: str, told: Callable[[str], object]) -> Iterator[str]:
    """python: what Ray shall start its own processes by."""
    # Ray reads its flags from the environment when it is imported, so not before this line.
    import ray
    from ray import serve
    from ray.serve.schema import LoggingConfig

    from graph import assemble, tracing

    for noisy in ("ray", "ray.serve", "httpx2"):  # what matters is told by the ready line and the errors raised here
        logging.getLogger(noisy).setLevel(logging.ERROR)
    wanted = sum(scale.num_cpus * scale.max_replicas for _, scale in config.deployments)
    try:
        with fork_server.as_python(python):
            ray.init(
                num_cpus=max(cpu.usable_cores(), math.ceil(wanted)),
                num_gpus=num_gpus,
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                dashboard_port=config.server.dashboard_port or free_port(),
                _temp_dir=str(temp / "ray") if temp else None,
                configure_logging=True,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        logs = LoggingConfig(
            encoding="JSON" if config.server.log_format == "json" else "TEXT",
            log_level=config.server.log_level,
            logs_dir=str(log_dir(port)),
            enable_access_log=False,
        )
        serve.start(http_options={"host": config.server.host, "port": port}, logging_config=logs, tracing_config=tracing(config.tracing))
        try:
            with preparation_told(log_dir(port), told):
                serve.run(assemble(config), name="museserve", route_prefix="/", logging_config=logs)
        except RuntimeError as error:
            raise EngineUnavailableError(_reason(error)) from None
        url = f"http://{config.server.host}:{port}"
        _rehearse(url, config.access)
        yield url
    finally:
        started = _descendants(str(Path(ray.__file__).parent))
        try:
            if ray.is_initialized():  # not where the start was broken off
                serve.shutdown()  # type: ignore[no-untyped-call]
        finally:
            ray.shutdown()
            _end(started)


@contextmanager
def preparation_told(logs: Path, told: Callable[[str], object]) -> Iterator[None]:
    """Meanwhile, tell what replicas write into `logs` of the shipped avatars that they prepare."""
    read: dict[Path, int] = {}
    over = threading.Event()

    def look() -> None:
        for path in sorted(logs.glob("*.log")):
            with suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(read.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    read[path] = read.get(path, 0) + len(line)
                    if found := PREPARATION.search(line.decode(errors="replace")):
                        told(found[0].strip())

    def watch() -> None:
        while not over.wait(LOOK_S):
            look()
        look()

    watching = threading.Thread(target=watch, name="preparation", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def _descendants(folder: str) -> list[psutil.Process]:
    """Our children that run a program out of `folder`, and everything below them."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has just ended
            if any(word.startswith(folder) for word in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


def _end(processes: list[psutil.Process]) -> None:
    """See the end of processes that were told to stop: the dashboard's helpers notice only after a second or two that it is gone."""
    _, alive = psutil.wait_procs(processes, timeout=0.2)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=2)


def _end_leftovers(temp: Path) -> None:
    """End what still runs out of our private folder.

    An HAProxy that was replaced under load outlives the cluster, and keeps the port.
    """
    left = [process for process in psutil.process_iter() if _is_of(process, str(temp))]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=2)


def _is_of(process: psutil.Process, temp: str) -> bool:
    """Whether a process was started out of the folder; Ray's own take another command line, and keep their logs open."""
    with suppress(psutil.Error):  # it has just ended, or is another user's
        words = process.cmdline()
        if words and words[0].startswith("ray::"):
            return any(file.path.startswith(temp) for file in process.open_files())
        return any(temp in word for word in words)
    return False


def log_dir(port: int) -> Path:
    """Where the replicas of the service on `port` write their logs, one file each; made anew at every start."""
    return cache_dir() / "logs" / str(port)


def nodes_file(port: int) -> Path:
    """Ray's list of where the metrics of the service on `port` are; leads nowhere once it has ended."""
    return log_dir(port) / "nodes.json"


def why_taken(host: str, port: int) -> str:
    """Why nothing can listen there; empty when it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return str(error.strerror)
    return ""


def _check_free(host: str, port: int, key: str) -> None:
    """Raises ConfigError. port: 0 = any free one."""
    if why := why_taken(host, port):
        raise ConfigError(f"nothing can listen on {host}, port {port}: {why}; stop what does, or set {key} (0 = any free one)")


def visible_gpus() -> int:
    """NVIDIA cards of this machine that this process may use, without loading CUDA."""
    cards = Path("/proc/driver/nvidia/gpus")
    there = len(list(cards.iterdir())) if cards.is_dir() else 0
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if chosen is None else min(there, sum(bool(name.strip()) and name.strip() != "-1" for name in chosen.split(",")))


def enough_gpus(config: AppConfig, there: int) -> int:
    """`there`; a replica that cannot be placed would be waited for without an end."""
    wanted = [(name, scale) for name, scale in config.deployments if scale.num_gpus]
    total = sum(scale.num_gpus * max(scale.min_replicas, 1) for _, scale in wanted)
    if total > there:
        shares = ", ".join(f"deployments.{name}.num_gpus: {scale.num_gpus:g}" for name, scale in wanted)
        raise ConfigError(f"the configuration asks for {total:g} GPUs ({shares}) and this machine shows {there}; lower them, or use --config local")
    return there


def _rehearse(url: str, access: AccessConfig) -> None:
    """Speak one short sentence in each of the shipped voices, so that the first caller finds every connection open."""

    def speak(avatar: str, text: str) -> httpx2.Response:
        body = {"text": text, "avatar": avatar, "stream": False}
        headers = {"Authorization": f"Bearer {_operators_token(access)}"} if access.auth == "keys" else {}
        return httpx2.post(f"{url}/v1/videos", json=body, headers=headers, timeout=120)

    with ThreadPoolExecutor(len(REHEARSED)) as pool:
        answers = list(pool.map(speak, *zip(*REHEARSED, strict=True)))
    for what, answer in zip(REHEARSED, answers, strict=True):
        # Limits may be lower than what is asked for at once here.
        (speak(*what) if answer.status_code in (429, 503) else answer).raise_for_status()


def _operators_token(access: AccessConfig) -> str:
    """For one video. Who can read the keys' file can make it."""
    secret = bytes.fromhex(read_keys(access.keys_path).token_secret)
    return tokens.mint(secret, tokens.Grant("", tokens.OPERATOR, int(time.time()) + access.token_s, uses=1))


def _reason(error: RuntimeError) -> str:
    """What each failed deployment said last, without the tracebacks around it."""
    from ray import serve

    app = serve.status().applications.get("museserve")
    said = {name: [line for line in d.message.splitlines() if line.strip()] for name, d in (app.deployments if app else {}).items()}
    failed = [f"{name}: {lines[-1].strip()}" for name, lines in said.items() if lines]
    return "the service could not start. " + (" | ".join(failed) or str(error))
