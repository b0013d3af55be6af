import debugpy

from .base import make

debugpy.configure(subProcess=False)
debugpy.listen(("127.0.0.1", 0), in_process_debug_adapter=True)
app = make()
