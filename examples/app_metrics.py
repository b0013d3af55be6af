"""Metrics of the application, by prometheus_client, of all workers on one page.

    pip install prometheus-client
    PROMETHEUS_MULTIPROC_DIR=$(mktemp -d) subinterp-asgi examples.app_metrics:app --workers 4
    curl http://127.0.0.1:8000/app-metrics

prometheus_client keeps the figures of each process in files of its own, named by the process. Here
all workers are one process, so each takes a number instead. Import this before whatever else makes
metrics.
"""

import atexit
import fcntl
import itertools
import os

from prometheus_client import multiprocess, values


def take_number():
    """Take the lowest number that no worker has, and give it back when this worker has ended.

    Whoever takes it next counts on in the files that it finds: nothing that was counted is lost.
    """
    for number in itertools.count():
        path = os.path.join(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"{number}.lock")
        lock = open(path, "w")  # noqa: SIM115  (closed when the worker has crashed, too)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        atexit.register(lock.close)
        atexit.register(multiprocess.mark_process_dead, number)  # before that
        multiprocess.mark_process_dead(number)  # "live" gauges of one that has crashed
        return number, lock


NUMBER, LOCK = take_number()
values.ValueClass = values.MultiProcessValue(lambda: NUMBER)

# --- the application

from prometheus_client import (  # noqa: E402
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

ORDERS = Counter("shop_orders_total", "Orders that were placed.")
AMOUNT = Histogram("shop_order_items", "Items in an order.", buckets=(1, 2, 5, 10))
OPEN = Gauge("shop_orders_open", "Orders being placed.", multiprocess_mode="livesum")


async def place_order():
    with OPEN.track_inprogress():
        ORDERS.inc()
        AMOUNT.observe(3)
        return b"thank you\n"


def page():
    """The metrics of all workers, whichever of them is asked."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"] == "/app-metrics":
        body, kind = page(), CONTENT_TYPE_LATEST.encode()
    else:
        body, kind = await place_order(), b"text/plain"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
