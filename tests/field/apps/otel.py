import os

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from .base import make

_provider = TracerProvider()
_exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{os.environ['SINK']}/v1/traces")
_provider.add_span_processor(BatchSpanProcessor(_exporter, schedule_delay_millis=3_600_000))
_tracer = _provider.get_tracer(__name__)


def _trace() -> None:
    with _tracer.start_as_current_span("a-span-of-the-test"):
        pass


app = make(_trace)
