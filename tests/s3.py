"""Serve S3 on 127.0.0.1, by moto, to this process and those that it starts."""

import os
from contextlib import contextmanager
from unittest import mock
from urllib.request import Request, urlopen

import fsspec

BUCKET = "s3://sweeps"


@contextmanager
def served():
    """Give the URL of an empty bucket, and the environment by which clients find it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    found = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with mock.patch.dict(os.environ, found):
            with urlopen(Request(f"{found['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")):
                pass  # what this process served before
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir(BUCKET)
            yield BUCKET
    finally:
        server.stop()
