"""A loopback server for what reading from S3 asks: list by prefix, HEAD, and GET of a byte range.

A folder is the store: its first level are buckets. Requests are kept, so tests can count them.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest


class S3Handler(BaseHTTPRequestHandler):
    """GET and HEAD as Amazon's S3 API reference describes them, path-style addresses."""

    protocol_version = "HTTP/1.1"
    root: Path
    requests: list[tuple[str, str, str]]

    def do_GET(self):
        self._answer(body=True)

    def do_HEAD(self):
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).strip("/").partition("/")
        wanted = self.headers.get("Range", "")
        type(self).requests.append((self.command, unquote(parts.path), wanted))
        path = self.root / bucket / key
        if not (self.root / bucket).is_dir():
            return self._error(404, "NoSuchBucket", body)
        if not key:
            listing = self._listing(bucket, parse_qs(parts.query)).encode()
            return self._send(200, listing if body else b"", len(listing))
        if not path.is_file():
            return self._error(404, "NoSuchKey", body)
        return self._object(path, wanted, body)

    def _object(self, path: Path, wanted: str, body: bool) -> None:
        data, status, extra = path.read_bytes(), 200, {"ETag": _etag(path)}
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            if int(first) >= len(data):
                return self._error(416, "InvalidRange", body)
            extra["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[int(first) : int(last) + 1], 206
        return self._send(status, data if body else b"", len(data), extra)

    def _listing(self, bucket: str, query: dict[str, list[str]]) -> str:
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        base = self.root / bucket
        keys = sorted(p.relative_to(base).as_posix() for p in base.rglob("*") if p.is_file())
        keys = [key for key in keys if key.startswith(prefix)]
        folders: list[str] = []
        if delimiter:
            inside = {key: key[len(prefix) :] for key in keys}
            folders = sorted({prefix + r.split("/")[0] + "/" for r in inside.values() if "/" in r})
            keys = [key for key, rest in inside.items() if "/" not in rest]
        contents = "".join(_entry(base / key, key) for key in keys)
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(keys) + len(folders)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{contents}{common}</ListBucketResult>"
        )

    def _error(self, status: int, code: str, body: bool) -> None:
        text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self._send(status, text if body else b"", len(text))

    def _send(self, status: int, data: bytes, length: int, extra: dict[str, str] | None = None):
        self.send_response(status)
        headers = {
            "Content-Length": str(length),
            "Content-Type": "application/xml",
            "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
        }
        for name, value in {**headers, **(extra or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        pass


def _entry(path: Path, key: str) -> str:
    return (
        f"<Contents><Key>{escape(key)}</Key><Size>{path.stat().st_size}</Size>"
        "<LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>{escape(_etag(path))}</ETag><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _etag(path: Path) -> str:
    return f'"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"'


@contextmanager
def serve_s3(root: Path):
    """Serve the buckets below ``root``; yields the address and the list of requests."""
    handler = type("Handler", (S3Handler,), {"root": root, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.requests
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def bucket(root: Path, monkeypatch):
    """A served bucket `sets`, with the environment that leads s3fs to it: folder and requests."""
    s3fs = pytest.importorskip("s3fs")
    (root / "sets").mkdir(parents=True)
    for name, value in {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "REGION": "r"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with serve_s3(root) as (address, requests):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        s3fs.S3FileSystem.clear_instance_cache()
        yield root / "sets", requests
        s3fs.S3FileSystem.clear_instance_cache()
