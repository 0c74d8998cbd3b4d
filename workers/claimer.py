"""Claim items for one worker process, and recover claims whose confirmation was lost.

    Claimer("host:812:9f", 15.0).claim([Infer(run="round1", item=41)])  ->  [Claim(...)]

A transaction may have committed although its confirmation was lost. After such a failure, claims of this
worker that the ledger has and this process does not know are recovered.
"""

import threading
from collections.abc import Callable, Iterable, Sequence

from shared import broker
from shared.errors import ServiceUnreachable
from shared.jobs import Job
from shared.ledger import claims
from shared.ledger.claims import Claim
from workers import instrumentation, retries


class Claimer:
    """Claims items for one worker; thread-safe. ``lease`` is in seconds."""

    def __init__(self, worker: str, lease: float) -> None:
        self._worker = worker
        self._lease = lease
        self._held: set[Job] = set()
        self._changing = threading.Lock()

    def claim(self, jobs: Sequence[Job], before_retry: Callable[[], None] = lambda: None) -> list[Claim]:
        """Claim the claimable jobs, and retry while the ledger is away; call `done` for each claim later.

        ``before_retry`` is called before each retry, and may raise to stop.
        """
        failed, queues = False, dict[str, str]()

        def attempt() -> list[Claim]:
            nonlocal failed
            if failed:
                before_retry()
            try:
                # It may read the ledger: an error after the claims would leave them unknown to this process.
                queues.update({job.run: broker.queue_for(job) for job in jobs})
                claimed = claims.claim(jobs, self._worker, self._lease)
                return claimed + (self._left_behind(jobs, claimed) if failed else [])
            except ServiceUnreachable:
                failed = True
                raise

        new_claims = retries.until_done(attempt)
        for claim in new_claims:
            instrumentation.CLAIMS.labels(queues[claim.job.run]).inc()
        with self._changing:
            self._held.update(claim.job for claim in new_claims)
        return new_claims

    def done(self, ended: Iterable[Claim]) -> None:
        """Record that some claims have ended."""
        with self._changing:
            self._held.difference_update(claim.job for claim in ended)

    def _left_behind(self, jobs: Sequence[Job], claimed: Sequence[Claim]) -> list[Claim]:
        new = {claim.job for claim in claimed}
        ours = claims.held_by(self._worker, jobs)
        with self._changing:
            return [claim for claim in ours if claim.job not in new | self._held]
