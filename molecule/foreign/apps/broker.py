"""Stands in for a broker on the host: hands out tasks, and remembers who had which and when."""

import itertools
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

numbers = itertools.count(1)
given: dict[str, float] = {}
done: dict[str, float] = {}
beats: dict[str, list[float]] = {}
runs: dict[str, list[float]] = {}


class Server(ThreadingHTTPServer):
    """Workers, beats and jobs of two releases ask at once, and one that got no answer would end."""

    request_queue_size = 128


class Broker(BaseHTTPRequestHandler):
    """next, done/TASK, beat/NAME, run/NAME, and told for all of it."""

    def do_GET(self) -> None:
        what, _, who = self.path.strip("/").partition("/")
        answer = ""
        if what == "next":
            given[answer := str(next(numbers))] = time.time()
        elif what == "done":
            done[who] = time.time()
        elif what in ("beat", "run"):
            (beats if what == "beat" else runs).setdefault(who, [time.time(), 0.0])[1] = time.time()
        else:
            answer = json.dumps({"given": given, "done": done, "beats": beats, "runs": runs})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


Server(("", int(sys.argv[1])), Broker).serve_forever()
