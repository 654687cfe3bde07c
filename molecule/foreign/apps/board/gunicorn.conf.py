import os

bind = f"0.0.0.0:{os.environ.get('PORT', '5000')}"
worker_class = "uvicorn_worker.UvicornWorker"
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
