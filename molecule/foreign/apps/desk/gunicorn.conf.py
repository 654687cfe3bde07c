import os

bind = f"127.0.0.1:{os.environ.get('PORT', '5000')}"
worker_class = "uvicorn_worker.UvicornWorker"
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
worker_tmp_dir = "/dev/shm"
preload_app = True
