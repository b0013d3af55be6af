from tqdm import tqdm

from .base import make

bar = tqdm(total=10, disable=False, file=open("/dev/null", "w"))  # noqa: SIM115
app = make(bar.update)
