"""What worker and beat know of the broker."""

import http.client
import os


def ask(path: str) -> str:
    connection = http.client.HTTPConnection(os.environ["BROKER"], timeout=60)
    connection.request("GET", f"/{path}")
    return connection.getresponse().read().decode()
