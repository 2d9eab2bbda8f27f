"""What is counted for whoever watches the server: Prometheus, no names and no ids in it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from annotate_server.api.services import Services
from annotate_server.domain.job import JobState

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LIVE = (JobState.QUEUED, JobState.RUNNING)
_MOST_JOBS = 10_000


class _OfTheMoment(Collector):
    """What is asked when somebody scrapes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterable[Metric]:
        """Name the metrics without asking for their values."""
        names = ("annotate_jobs", "annotate_labels_to_archive", "annotate_worker_restarts")
        return tuple(GaugeMetricFamily(name, "") for name in names)

    def collect(self) -> Iterable[Metric]:
        """Count the jobs that have not ended, and the workers that were replaced."""
        jobs = GaugeMetricFamily("annotate_jobs", "Jobs that have not ended, by state.", labels=["state"])
        for state in _LIVE:
            jobs.add_metric([str(state)], len(self._services.jobs.all(state, _MOST_JOBS)))
        yield jobs
        labels = GaugeMetricFamily("annotate_labels_to_archive", "Labels that go back, by state.", labels=["state"])
        for sending, count in self._services.sendings().items():
            labels.add_metric([str(sending)], count)
        yield labels
        yield GaugeMetricFamily(
            "annotate_worker_restarts", "Worker processes replaced.", value=self._services.worker_restarts()
        )


@dataclass
class Metrics:
    """Counters of one server."""

    registry: CollectorRegistry = field(default_factory=lambda: CollectorRegistry(auto_describe=False))
    requests: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    in_flight: Gauge = field(init=False)
    prompts: Gauge = field(init=False)

    def __post_init__(self) -> None:
        """Register everything that is counted as it happens."""
        labels = ["method", "route"]
        self.requests = Counter("annotate_requests", "Requests by status.", [*labels, "status"], registry=self.registry)
        self.seconds = Histogram(
            "annotate_request_seconds", "Time to the last byte.", labels, buckets=_LATENCY_S, registry=self.registry
        )
        self.in_flight = Gauge("annotate_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.prompts = Gauge("annotate_prompts_waiting", "Prompts that wait for an answer.", registry=self.registry)
        ProcessCollector(registry=self.registry)

    def watch(self, services: Services) -> None:
        """Also report what the services know."""
        self.registry.register(_OfTheMoment(services))

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
