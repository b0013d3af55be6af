"""Several hosts behind a proxy, all of them network namespaces of this computer.

One deploy and one loss of a host each; ``make cluster`` has five, and a link that is cut.
"""
