"""The one table of what is counted: all that is made of it follows a new row by itself."""

from __future__ import annotations

import re
import subprocess
import sys

from subinterp_asgi.control import scoreboard
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.stats import Stats
from tests.support import ROOT

WITH_TWO_ROWS_MORE = """
import importlib.util, sys

spec = importlib.util.find_spec("subinterp_asgi.control.scoreboard")
source = spec.loader.get_source(spec.name)
row = "    requests: int = counter("
assert row in source
source = source.replace(row, '    teapots: int = counter("teapots_total", "Teapots.")\\n' + row)
last = "    logs_dropped: int = counter("
source = source.replace(last, '    cups: int = gauge("cups", "Cups.")\\n' + last)
scoreboard = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = scoreboard
exec(compile(source, spec.origin, "exec"), vars(scoreboard))

from subinterp_asgi.control import prometheus
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.stats import Stats

board, index = scoreboard.private_board()
counters = Counters(board, index)
counters.teapots, counters.cups, counters.requests, counters.logs_dropped = 418, 3, 7, 5
counters.statuses[2] += 1
counters.took(0.5)
counters.turns, counters.serving = 1, True
counters.turned(10**9)
counters.flush(9)
slot = scoreboard.slot_of(board, index)
words = scoreboard.WORDS
assert slot[words["teapots"]] == 418 and slot[words["cups"]] == 3
assert slot[scoreboard.REQUESTS] == 7 and slot[scoreboard.BUSY_SINCE] == 9
assert words["cups"] < scoreboard.FIRST_COUNTER <= words["teapots"]
assert len(slot) % 8 == 0 and scoreboard.LATENCY + 17 <= len(slot)
for ended in (False, True):
    if ended:
        scoreboard.fold(board, index)
    stats = Stats.read(board)
    assert (stats.teapots, stats.requests, stats.logs_dropped) == (418, 7, 5)
    assert (stats.cups, stats.responses[2]) == (0 if ended else 3, 1)
    page = prometheus.render(board).decode()
    assert "# TYPE subinterp_asgi_teapots_total counter\\nsubinterp_asgi_teapots_total 418" in page
    assert f"# TYPE subinterp_asgi_cups gauge\\nsubinterp_asgi_cups {stats.cups}" in page
    assert "subinterp_asgi_requests_total 7" in page
    assert "subinterp_asgi_request_duration_seconds_count 1" in page
    assert "subinterp_asgi_loop_lag_seconds_count 2" in page
"""


def test_a_new_row_is_counted_summed_and_shown_without_any_other_change() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITH_TWO_ROWS_MORE],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_rows_are_attributes_of_their_own() -> None:
    counters = Counters(*scoreboard.private_board())
    assert {getattr(counters, name) for name in scoreboard.ROWS} == {0}
    assert not hasattr(counters, "__dict__")
    assert set(scoreboard.ROWS) < set(Stats.__dataclass_fields__)


def test_the_documentation_names_all_words_in_their_order() -> None:
    names = re.findall(
        r"^``(\w+)(?:\[row\])?``(?: \+ \w)?  ", scoreboard.__doc__ or "", re.MULTILINE
    )
    words = [
        min(scoreboard.WORDS.values()) if name == "WORDS" else getattr(scoreboard, name)
        for name in names
    ]
    width = {"WORDS": len(scoreboard.WORDS), "STATUS": 6, "TURNS": 17, "LATENCY": 17}
    assert words[0] == 0
    for name, word, after in zip(names, words, words[1:], strict=False):
        assert word + width.get(name, 1) == after, name
    assert words[-1] + width[names[-1]] <= scoreboard.SLOT_WORDS
