"""A stand-in for Kaggle on this machine, for tests: the few calls that kagglehub and kaggle make."""

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><head><title>Login | Kaggle</title></head><body>Sign in</body></html>"


class KaggleServer:
    """Serves `archive` as the data set, with one `fault`, until left or for `lifetime` seconds; transfers wait `delay`.

    ===================  ==================================================================
    fault                what it does
    ===================  ==================================================================
    ``401`` ... ``503``  every call is answered with this status
    ``login``            calls without an Authorization header are answered 403
    ``page-as-zip``      a login page instead of the archive, declared as a zip file
    ``corrupt``          right size, wrong bytes
    ``corrupt-once``     the same, the first time only
    ``hash``             right bytes, wrong checksum in the header
    ``cut``              the first transfer ends in the middle
    ``no-range``         as ``cut``, but then Range is ignored although it was promised
    ``cut-always``       every transfer ends in the middle, and there is no Range
    ``stall``            the first transfer stops in the middle, its connection stays open
    ``silent``           calls are accepted and never answered
    ===================  ==================================================================
    """

    def __init__(self, archive: bytes, fault: str = "", port: int = 0, lifetime: float = 60, delay: float = 0):
        self.archive, self.fault, self.lifetime, self.delay = archive, fault, lifetime, delay
        self.calls: list[dict] = []
        self.transfers = 0
        self.stopping = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        self.http.daemon_threads = True
        self.http.owner = self
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.timer = threading.Timer(self.lifetime, self.stop)
        self.timer.daemon = True
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        self.stop()

    def stop(self):
        if not self.stopping.is_set():
            self.stopping.set()
            self.http.shutdown()
            self.http.server_close()

    def asked(self, what: str) -> list[dict]:
        """The calls so far whose path holds `what`."""
        return [call for call in self.calls if what in call["path"]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_):
        pass

    def do_POST(self):
        owner: KaggleServer = self.server.owner
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._note(body)
        call = self.path.rsplit("/", 1)[-1]
        if owner.fault == "silent":
            owner.stopping.wait(owner.lifetime)
            self.close_connection = True
        elif owner.fault.isdigit():
            self._json(int(owner.fault), {"code": int(owner.fault), "message": "refused by the stand-in"})
        elif owner.fault == "login" and "Authorization" not in self.headers:
            self._json(403, {"code": 403, "message": "login needed"})
        elif call == "GetDatasetMetadata":
            self._json(200, {"info": {"licenses": [{"name": "CC-BY-4.0"}]}})
        elif call == "GetDataset":
            self._json(200, {"currentVersionNumber": 2})
        elif call == "DownloadDataset":
            self._send(302, b"", {"Location": f"{owner.url}/storage/archive.zip?signature=x"})
        else:
            self._json(404, {"code": 404, "message": "unknown call"})

    def do_GET(self):
        owner: KaggleServer = self.server.owner
        self._note(b"")
        if not self.path.startswith("/storage/"):
            self._json(404, {"code": 404, "message": "unknown page"})
            return
        owner.transfers += 1
        owner.stopping.wait(owner.delay)
        first, data, fault = owner.transfers == 1, owner.archive, owner.fault
        if fault == "page-as-zip":
            data = PAGE
        if fault == "corrupt" or (fault == "corrupt-once" and first):
            data = data[:500] + bytes(byte ^ 0xFF for byte in data[500:2500]) + data[2500:]
        headers = {"Content-Type": "application/zip", "Last-Modified": "Sat, 24 Mar 2018 15:41:06 GMT"}
        headers["ETag"] = f'"{hashlib.md5(data).hexdigest()}"'
        if fault == "hash":
            wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
            headers["x-goog-hash"] = f"md5={wrong}"
        if fault != "cut-always":
            headers["Accept-Ranges"] = "bytes"
        status, start = 200, 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and fault not in ("cut-always", "no-range"):
            start = int(wanted[6:].split("-")[0])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        data = data[start:]
        if fault == "cut-always" or (fault in ("cut", "stall", "no-range") and first):
            self._send(status, data[: len(data) // 2], headers, declared=len(data))
            if fault == "stall":
                owner.stopping.wait(owner.lifetime)
            self.close_connection = True
            return
        self._send(status, data, headers)

    def _note(self, body: bytes):
        self.server.owner.calls.append(
            {"path": self.path, "headers": dict(self.headers), "body": body, "at": time.monotonic()}
        )

    def _json(self, status: int, answer: dict):
        self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict, declared: int | None = None):
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) if declared is None else declared))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
        except OSError:  # the client has gone, as some tests want
            self.close_connection = True
