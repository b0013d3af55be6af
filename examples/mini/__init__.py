"""A small web framework that serves itself; ``docs/framework.md`` builds it step by step.

python -m examples.mini examples.shop:app --reload
"""

from .application import Mini
from .serving import serve
from .streams import until_drain

__all__ = ["Mini", "serve", "until_drain"]
