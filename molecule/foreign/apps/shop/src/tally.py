"""A job: takes longer than the time between two of its starts, and says all the while that it is there."""

import os
import socket
import time

from src.broker import ask

assert os.environ["PAYMENT_KEY"]
print("counting", flush=True)
for _ in range(120):
    ask(f"run/{socket.gethostname()}-{os.getpid()}/{os.environ['RELEASE_ID']}")
    time.sleep(0.1)
print("counted all", flush=True)
