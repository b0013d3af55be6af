"""An application with a daemon thread that never ends, as many are."""

import sys
import threading
import time

from plain import app as app

threading.Thread(target=time.sleep, args=(3600,), name="endless", daemon=True).start()
sys.stdout.write("not lost\n")
