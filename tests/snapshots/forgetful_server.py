"""An S3 server that heeds no conditions of a request, as some that speak S3 do not. Only what the tests ask of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class ForgetfulServer:
    """The running server, and what it holds: path → bytes."""

    port: int
    objects: dict[str, bytes]

    @property
    def environment(self) -> dict[str, str]:
        """What clients read their settings from."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }


@contextmanager
def forgetful_server() -> Iterator[ForgetfulServer]:
    """A server, while this lasts."""
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            objects[urlsplit(self.path).path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200, b"", etag=True)

        def do_DELETE(self) -> None:
            objects.pop(urlsplit(self.path).path, None)
            self.answer(204, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()  # of a deletion of several
            bucket = urlsplit(self.path).path
            keys = [part.split("</Key>")[0] for part in body.split("<Key>")[1:]]
            for key in keys:
                objects.pop(f"{bucket}/{key}", None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if "list-type" in parse_qs(parts.query):
                prefix = f"{parts.path}/{parse_qs(parts.query)['prefix'][0]}"
                found = "".join(
                    f"<Contents><Key>{escape(path.removeprefix(parts.path + '/'))}</Key><Size>{len(data)}</Size>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
                    for path, data in sorted(objects.items())
                    if path.startswith(prefix)
                )
                listing = f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
                self.answer(200, listing.encode())
            elif parts.path in objects:
                self.answer(200, objects[parts.path], etag=True)
            else:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

        do_HEAD = do_GET  # noqa: N815

        def answer(self, status: int, body: bytes, *, etag: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            if etag:
                self.send_header("ETag", '"x"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield ForgetfulServer(server.server_address[1], objects)
        finally:
            server.shutdown()
            thread.join()
