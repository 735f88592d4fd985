"""An edge in a roll-out: what is desired of it is carried out by its model server, and what came of it is reported."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from thalweg.learning.rollout.records import DesiredModel, ServedVersion, reported_key, value_of
from thalweg.serving.candidate import candidate, declared
from thalweg.serving.edge_records import EdgeRecords
from thalweg.serving.loaded_model import ModelRefusedError
from thalweg.serving.model_server import ModelServer
from thalweg.serving.transfer import TransferError, fetched
from thalweg.serving.version_record import ModelVersion
from thalweg.serving.version_trial import VersionTrial
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.learning.payloads import PayloadError
from thalweg.streams.learning.rollout_writes import state_record
from thalweg.sync.clock import Clock

log: Final = logging.getLogger("thalweg.serving")

REPORT_EVERY_MS: Final = 10_000
"""A roll-out looks at sums of hours: what is told more often only fills the topics."""


@dataclass(slots=True, kw_only=True)
class RolloutFollower:
    """Of one server. One thread."""

    server: ModelServer
    records: EdgeRecords
    region: str
    """On whose topic `state` it reports."""
    prefix: str
    """Of the topics."""
    clock: Clock
    new_id: Callable[[], str]
    """Names a request that has no id."""
    _trial: VersionTrial | None = None
    _wanted: DesiredModel | None = None
    _refused: dict[ServedVersion, str] = field(default_factory=dict)
    """Why what is desired does not serve: the last one alone."""

    @property
    def leads(self) -> bool:
        """Whether roll-outs say what serves, or may yet: until all records are read, nobody knows that none does."""
        return not self.records.complete or self._wanted is not None

    @property
    def trouble(self) -> str:
        """Why what is desired is not carried out; empty where it is."""
        told = "" if self._trial is None else self._trial.trouble
        return told or next(iter(self._refused.values()), "") or self.server.candidate_trouble

    def look(self) -> bool:
        """Look for what is desired; return whether it has changed."""
        if not self.records.complete:
            return False
        if self._trial is None:
            self._trial = VersionTrial(self.records, new_id=self.new_id)
            self.server.watch(self._trial)
        before, self._wanted = self._wanted, self._trial.look()
        return self._wanted != before

    def carry_out(self, get: Callable[[str], bytes]) -> bool:
        """Let the last good version serve, and hold what is tried beside it; return whether anything was loaded.

        Args:
            get: reads a payload by its digest.

        Raises:
            PayloadError: the store does not have it; it is worth trying again.
            OSError: the store does not answer; it is worth trying again.
        """
        wanted = self._wanted
        if wanted is None:
            return False
        # First what serves: it may be the one that was tried until now, and then its bytes are at hand.
        is_new = self._serve(wanted.serve, get)
        serving, held = self.server.serving, self.server.candidate
        if wanted.beside is None or serving is None:
            self.server.hold(None)
            return is_new
        if held is not None and held.sha256 == wanted.beside.sha256:
            return is_new
        raw = self._bytes(wanted.beside.sha256, get)
        self.server.hold(candidate(wanted.beside, raw, serving.version))
        return True

    def report(self) -> list[OutgoingRecord]:
        """Write what is to be told: one record, or none where the last one still says it."""
        if self._trial is None:
            return []
        serving = self.server.serving
        said = self._trial.report(
            self.clock(),
            version="" if serving is None else str(serving.version.version),
            sha256="" if serving is None else serving.version.sha256,
        )
        key = reported_key(self.records.model, self.records.edge)
        value = value_of(said)
        told = self.records.read(key)
        if told is not None and {**told, "at_ms": said.at_ms} == value:
            return []
        return [state_record(key, value, said.at_ms, self.prefix, self.region)]

    def _serve(self, wanted: ServedVersion, get: Callable[[str], bytes]) -> bool:
        serving = self.server.serving
        if wanted in self._refused or (serving is not None and _is(serving.version, wanted)):
            return False
        self._refused.clear()
        raw = self._bytes(wanted.sha256, get)
        try:
            version = declared(wanted, raw)
        except ModelRefusedError as error:
            self._refused[wanted] = str(error)
            return False
        is_new = self.server.want(version) and self.server.load_bytes(raw)
        if not is_new:
            self._refused[wanted] = self.server.trouble or f"version {wanted.version} cannot be served"
        return is_new

    def _bytes(self, sha256: str, get: Callable[[str], bytes]) -> bytes:
        """Fetch a version's bytes: by the smallest way that is said, else as they are."""
        known = self.server.known()
        if sha256 in known:
            return known[sha256]
        said = self.records.stored(sha256)
        if said is not None:
            try:
                raw, transferred = fetched(said, get, known)
            except (TransferError, PayloadError) as error:
                log.warning("version %d of %s is fetched as it is: %s", said.version, self.server.name, error)
            else:
                self.server.transferred(transferred)
                return raw
        raw = get(sha256)
        self.server.transferred(len(raw))
        return raw


def _is(version: ModelVersion, wanted: ServedVersion) -> bool:
    return (str(version.version), version.sha256) == (wanted.version, wanted.sha256)
