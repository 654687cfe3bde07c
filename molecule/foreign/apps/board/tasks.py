"""What the board does in the background, by Celery: more than one worker can do, so one task is always in hand."""

import os
import time
from typing import Any

from celery import Celery
from redis import Redis

app = Celery("board", broker=os.environ["BROKER"])
# A task is taken off the queue when it has ended, and none is taken before its turn.
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    beat_schedule={"digest": {"task": "tasks.digest", "schedule": 2.0}},
)


@app.task(bind=True)
def digest(self: Any) -> None:
    redis = Redis.from_url(os.environ["BROKER"])
    redis.rpush("begun", self.request.id)
    time.sleep(4)
    redis.rpush("done", self.request.id)
