"""Sends a tick all the time; two of it would do everything twice."""

import os
import time
import urllib.request

BROKER, NAME = os.environ["BROKER_URL"], os.environ["HOSTNAME"]

while True:
    urllib.request.urlopen(f"{BROKER}/beat/{NAME}", timeout=10).close()
    time.sleep(0.1)
