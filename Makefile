# The map of daily work: `make help` lists it. Nothing needs preparing: each target first makes the
# virtual environment (.venv, or .venv-X.Y when PYTHON is given) if it isn't there or is out of date.

# Set on the command line (make serve PORT=9000); what the environment calls HOST is something else.
APP     = examples.site:app
HOST    = 127.0.0.1
PORT    = 8000
WORKERS = 2
N       = 2
ARGS    =
PEERS     =
WORKLOADS =

# `exec`: the program takes the shell's place, so that a signal reaches it and its exit code is ours.
with_examples = @venv=$$(scripts/setup-venv serve) && exec "$$venv/bin/python"
with_tools    = @venv=$$(scripts/setup-venv dev) && exec "$$venv/bin/python"
with_field    = @venv=$$(scripts/setup-venv field) && FIELD=1 exec "$$venv/bin/python"
with_tools_of_cluster = @venv=$$(scripts/setup-venv dev) && CLUSTER=1 exec "$$venv/bin/python"
with_sphinx   = @venv=$$(scripts/setup-venv docs) && "$$venv/bin/python"
with_peers    = @venv=$$(scripts/setup-venv bench) && exec "$$venv/bin/python"

.DEFAULT_GOAL := help
.PHONY: help serve test field cluster lint format docs diagrams bench conformance autobahn fuzz soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Options: PYTHON=/path/to/python3.14 (any target), ARGS='...' (passed to the program)"

serve: ## serve examples/ on http://127.0.0.1:8000 (APP=pkg.mod:app WORKERS=4 PORT=9000 HOST=...)
	$(with_examples) -m subinterp_asgi $(APP) --host $(HOST) --port $(PORT) --workers $(WORKERS) $(ARGS)

# In the order of the folders, where little files are last; by default those with few tests would be,
# among them the longest.
test: ## run every test (N=0: one process; ARGS='-k name')
	$(with_tools) -m pytest -n $(N) --dist loadfile --no-loadscope-reorder $(ARGS)

field: ## run the tests with real libraries that take long (tests/field)
	$(with_field) -m pytest -n $(N) tests/field $(ARGS)

cluster: ## deploy to, and lose, hosts behind HAProxy and nginx, in network namespaces (needs root)
	$(with_tools_of_cluster) -m pytest -s tests/cluster $(ARGS)

lint: ## ruff check, ruff format --check, lint-imports, mypy --strict (also as on macOS and Windows)
	@venv=$$(scripts/setup-venv dev) && \
	"$$venv/bin/python" -m ruff check && \
	"$$venv/bin/python" -m ruff format --check && \
	"$$venv/bin/lint-imports" --no-logo --no-cache && \
	"$$venv/bin/python" -m mypy --strict $(wildcard subinterp_asgi conformance benchmarks) && \
	for platform in darwin win32; do \
	  "$$venv/bin/python" -m mypy --strict --no-warn-unreachable --platform $$platform \
	    --cache-dir .mypy_cache/$$platform $(wildcard subinterp_asgi conformance) || exit; \
	done

format: ## let ruff mend what it can
	@venv=$$(scripts/setup-venv dev) && \
	"$$venv/bin/python" -m ruff check --fix-only && \
	exec "$$venv/bin/python" -m ruff format

docs: ## make the site of docs/ in build/site, without network; warnings and dead links are errors
	$(with_sphinx) -m sphinx -b html -W --keep-going -q -E -d build/doctrees $(ARGS) docs build/site && \
	"$$venv/bin/python" scripts/check-site build/site

diagrams: ## render docs/diagrams/*.dot to SVG (needs Graphviz)
	@venv=$$(scripts/setup-venv serve) && exec "$$venv/bin/python" scripts/diagrams

bench: ## measure this server beside others (PEERS=uvicorn,granian WORKLOADS=hello,tls)
	$(with_peers) -m benchmarks $(if $(PEERS),--peers $(PEERS)) $(if $(WORKLOADS),--workloads $(WORKLOADS)) $(ARGS)

# With ARGS, which are the HTTP suite's, only that one: they may well name another server.
conformance: ## check a running server against the RFCs (conformance/)
ifeq ($(strip $(ARGS)),)
	@venv=$$(scripts/setup-venv dev) && \
	"$$venv/bin/python" -m conformance && \
	exec "$$venv/bin/python" -m conformance.autobahn --quick --optional
else
	$(with_tools) -m conformance $(ARGS)
endif

autobahn: ## run all of Autobahn's WebSocket cases, for some minutes (ARGS='--cases 1.*,7.*')
	$(with_tools) -m conformance.autobahn $(ARGS)

fuzz: ## feed the parsers generated input (tests/fuzz)
	$(with_tools) -m tests.fuzz $(ARGS)

soak: ## crash, freeze, reload and scale under load for a minute (ARGS='--seconds 600', 'reloads', 'copies')
	$(with_tools) -m tests.soak $(ARGS)

clean: ## remove the virtual environments, caches and builds
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
