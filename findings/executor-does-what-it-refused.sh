#!/bin/sh
# CPython 3.13, 3.14 and 3.15: ThreadPoolExecutor.submit() raises "can't start new thread", and the job
# is done all the same, once a later job gets a thread.
#
# One would bet that a call which raises has done nothing, and that its caller may try again: a web
# framework answers such a request with 500, and the client repeats it. But submit() puts the job into
# the queue first, and then starts a thread for it. If the system refuses that, the exception goes to
# the caller, who has no future to cancel the job by, and the job stays in the queue. Nor does it matter
# that other threads of the pool are there, and could have taken it. asyncio's run_in_executor() and
# to_thread() are built on it.
#
# Seen on Linux with 3.13.0, 3.14.10 and 3.15.2, the same with each:
#   submit() raised: can't start new thread
#   done so far: []
#   done after the next job: ['the refused job', 'the next job']
#
#     PYTHON=/path/to/python3.14 findings/executor-does-what-it-refused.sh
set -eu
python=${PYTHON:-python3.14}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/program.py" <<'PY'
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

done = []
pool = ThreadPoolExecutor(2)
threading.stack_size(64 << 20)
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
with open("/proc/self/statm") as file:
    in_use = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + (32 << 20), hard))  # no room for a thread's stack
try:
    pool.submit(done.append, "the refused job")
except RuntimeError as exc:
    print("submit() raised:", exc)
print("done so far:", done)
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
pool.submit(done.append, "the next job").result()
print("done after the next job:", done)
PY
"$python" -I --version
"$python" -I "$folder/program.py" | tee "$folder/seen"

cat >"$folder/expected" <<'TXT'
submit() raised: can't start new thread
done so far: []
done after the next job: ['the refused job', 'the next job']
TXT
cmp -s "$folder/seen" "$folder/expected" && echo "AS FOUND" || { echo "CHANGED"; exit 1; }
