"""nginx and Node.js as endpoints, each with a short keep-alive and with TLS 1.2 and 1.3, and a log of what they served.

Both answer "answered" to a POST: /plain with a Content-Length, /chunked in chunks, /close with Connection: close.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from yarl import URL

from tests.support.patience import PATIENCE_SECONDS
from tests.support.servers import free_port, wait_for

#: Idle seconds that the servers are configured with. Node.js adds up to one second of its own.
KEEP_ALIVE_SECONDS = 1
#: Names the protocol of each port that a server listens on.
_PROTOCOLS = ("http", "TLSv1.2", "TLSv1.3")

_NGINX = """
daemon off;
# Ignored, with a warning, unless a test runs as root, whose temporary folders no other user can read.
user root;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ }}
http {{
    default_type text/plain;
    log_format served "$http_x_id $connection $ssl_protocol";
    access_log {folder}/served.log served;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_timeout {seconds}s;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    server {{ listen 127.0.0.1:{plain_port}; include locations; }}
    server {{ listen 127.0.0.1:{tls12_port} ssl; ssl_protocols TLSv1.2; include locations; }}
    server {{ listen 127.0.0.1:{tls13_port} ssl; ssl_protocols TLSv1.3; include locations; }}
}}
"""
_NGINX_LOCATIONS = """
location /plain { return 200 "answered"; }
location /close { keepalive_timeout 0; return 200 "answered"; }
# nginx does not know the length of what it compresses on the way, so it sends chunks.
location /chunked { gzip on; gzip_min_length 0; gzip_types text/plain; return 200 "answered"; }
"""
_NODE = """
const fs = require('fs'), http = require('http'), https = require('https');
const [folder, certificate, seconds, ...ports] = process.argv.slice(2);
const served = fs.openSync(folder + '/served.log', 'a');
const connections = new WeakMap();
let last = 0;

function answer(request, response) {
  request.resume().on('end', () => {
    const socket = request.socket;
    if (!connections.has(socket)) connections.set(socket, ++last);
    const protocol = socket.encrypted ? socket.getProtocol() : '-';
    fs.writeSync(served, `${request.headers['x-id'] || '-'} ${connections.get(socket)} ${protocol}\\n`);
    if (request.url === '/close') response.setHeader('Connection', 'close');
    if (request.url === '/chunked') response.write('ans');
    response.end(request.url === '/chunked' ? 'wered' : 'answered');
  });
}

const pem = fs.readFileSync(certificate);
const tls = version => ({key: pem, cert: pem, minVersion: version, maxVersion: version});
const servers = [
  http.createServer(answer),
  https.createServer(tls('TLSv1.2'), answer),
  https.createServer(tls('TLSv1.3'), answer),
];
servers.forEach((server, index) => {
  server.keepAliveTimeout = seconds * 1000;
  server.listen(ports[index], '127.0.0.1');
});
"""


class Served(NamedTuple):
    """A request that a server answered: its X-Id, the number of its connection, and the version of TLS or "-"."""

    id: str
    connection: int
    protocol: str


class RealServer:
    """A running server and its log."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self._log = folder / "served.log"
        self._ports = ports

    def url(self, path: str, protocol: str = "http") -> URL:
        """Return the URL of a path; `protocol` is "http", "TLSv1.2" or "TLSv1.3"."""
        scheme = "http" if protocol == "http" else "https"
        return URL.build(scheme=scheme, host="127.0.0.1", port=self._ports[protocol], path=path)

    def served(self, ids: Sequence[str]) -> list[Served]:
        """Return the log lines of these requests, in the order of the log."""
        lines = [line.split() for line in self._log.read_text().splitlines()]
        requests = [Served(id=words[0], connection=int(words[1]), protocol=words[2]) for words in lines]
        return [request for request in requests if request.id in ids]


@contextmanager
def nginx(folder: Path, certificate: Path) -> Iterator[RealServer]:
    """Run nginx for the block; skip the test where there is none."""
    # Debian keeps it where the PATH of most users does not lead.
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is missing: apt-get install nginx")
    ports = _free_ports()
    configuration = folder / "nginx.conf"
    (folder / "locations").write_text(_NGINX_LOCATIONS)
    configuration.write_text(
        _NGINX.format(
            folder=folder,
            certificate=certificate,
            seconds=KEEP_ALIVE_SECONDS,
            plain_port=ports["http"],
            tls12_port=ports["TLSv1.2"],
            tls13_port=ports["TLSv1.3"],
        )
    )
    with _running([program, "-e", str(folder / "error.log"), "-c", str(configuration)], folder, ports):
        yield RealServer(folder, ports)


@contextmanager
def node(folder: Path, certificate: Path) -> Iterator[RealServer]:
    """Run a server of Node.js for the block; skip the test where there is none."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node.js is missing: apt-get install nodejs")
    ports = _free_ports()
    script = folder / "server.js"
    script.write_text(_NODE)
    port_numbers = [str(ports[protocol]) for protocol in _PROTOCOLS]
    arguments = [program, str(script), str(folder), str(certificate), str(KEEP_ALIVE_SECONDS), *port_numbers]
    with _running(arguments, folder, ports):
        yield RealServer(folder, ports)


SERVERS: dict[str, Callable[[Path, Path], AbstractContextManager[RealServer]]] = {"nginx": nginx, "node": node}


def _free_ports() -> dict[str, int]:
    return {protocol: free_port() for protocol in _PROTOCOLS}


@contextmanager
def _running(arguments: Sequence[str], folder: Path, ports: dict[str, int]) -> Iterator[None]:
    """Run a server that listens on all of `ports` for the block."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output, cwd=folder)
    try:
        for port in ports.values():
            wait_for(port, process)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
