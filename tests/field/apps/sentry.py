import os

import sentry_sdk

from .base import make

sentry_sdk.init(
    dsn=f"http://key@127.0.0.1:{os.environ['SINK']}/1",
    default_integrations=True,
    shutdown_timeout=2,
)
app = make(lambda: sentry_sdk.capture_message("a-message-of-the-test"))
