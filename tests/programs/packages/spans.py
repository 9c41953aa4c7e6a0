"""OpenTelemetry: spans of several threads, exported by a thread of the SDK's."""

import threading
import time

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


class Exporter(SpanExporter):
    def export(self, spans):
        for span in spans:
            print(span.name, hex(span.context.trace_id), span.end_time - span.start_time)
        return SpanExportResult.SUCCESS


provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Exporter(), schedule_delay_millis=50))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("here")


def work(number):
    with tracer.start_as_current_span(f"work {number}"):
        time.sleep(0.02)
        with tracer.start_as_current_span("inside"):
            pass


threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
provider.shutdown()
