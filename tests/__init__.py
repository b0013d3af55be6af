"""The tests, in the same folders as what they test. ``make test`` runs all of them.

Without a server, in milliseconds each:

- ``config``, ``control``, ``extensions``, ``http1``, ``websocket``, ``supervisor`` and ``worker``
  mirror the package. Parsers are also held against other implementations (``test_differential``)
  and given generated input (``test_properties``, made by ``strategies``).
- ``test_layout`` checks the plan of the package, ``test_readme`` the page of options, and
  ``test_docs`` that files, modules and links named in documents are there. ``documents`` runs the
  code that they show, in processes.

With sockets, interpreters and processes:

- ``integration`` has the same two sides. ``worker``, ``http``, ``websocket`` and ``tls`` are about
  what one worker does, mostly on a loop of this process (``serving``), with clients that can
  misbehave (``rawclient``, ``wsclient``). ``supervisor`` is about many workers and their lives
  (``supervising``), ``process`` about the command line and what else needs a process of its own.
  What they serve is in ``apps``.
- ``frameworks`` has each framework keep the same contract, and FastAPI answer as under uvicorn.
- ``testing`` is about servers for tests of users: what they tell, and what a fresh one finds.
- ``conformance`` checks the suite of that name, and this server by it.
- ``fuzz`` and ``soak`` run as long as they are told to (``make fuzz``); here briefly.

``support`` is what all share: waiting for what is to come, requests, and checks that no thread,
interpreter or descriptor is left. A test doesn't sleep to let something happen, it waits for the
event. Modules are divided by subject, and not too long: one process runs all tests of a module.
"""
