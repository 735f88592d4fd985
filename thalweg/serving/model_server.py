"""A model that is served: requests in, answers out, on whichever version serves at that moment.

Everything that is shared is under one lock; loading and computing are outside of it.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from thalweg.scheduling.counted import counted
from thalweg.serving.candidate import Candidate
from thalweg.serving.figures import ServerFigures
from thalweg.serving.kept_model import KeptModel
from thalweg.serving.loaded_model import LoadedModel, ModelRefusedError
from thalweg.serving.repeated_answers import RepeatedAnswers, answer_key
from thalweg.serving.swap import Swap
from thalweg.serving.tensors import Array, InferRequest, TensorError, from_array
from thalweg.serving.transfer import TransferError, fetched
from thalweg.serving.version_record import ModelVersion
from thalweg.serving.version_trial import VersionTrial

log: Final = logging.getLogger("thalweg.serving")


class NothingServesError(Exception):
    """No version is there yet; the text says why."""


class TooBusyError(Exception):
    """So many requests are under way that one more would only wait."""


class WrongVersionError(Exception):
    """A version was asked for by its number, and another one serves."""


class ModelServer:
    """One model. Threads may share it."""

    def __init__(
        self,
        name: str,
        kept: KeptModel | None,
        *,
        timer: Callable[[], float],
        cache_bytes: int = 0,
        most_in_flight: int = 64,
    ) -> None:
        """Begin with nothing.

        Args:
            name: of the model.
            kept: where what served last is kept; None keeps nothing.
            timer: steady, in seconds: how long answers take.
            cache_bytes: of answers that are kept; 0 for none.
            most_in_flight: requests under way, above which one more is turned away.
        """
        self.name = name
        self.figures = ServerFigures()
        self.answers = RepeatedAnswers(cache_bytes)
        self.leaving = False
        """Whether the server is about to end: it answers, and says that it is not ready."""
        self._kept = kept
        self.timer = timer
        """Steady, in seconds."""
        self._most = most_in_flight
        self._lock = threading.Lock()
        self._swap: Swap[ModelVersion] = Swap()
        self._loaded: dict[ModelVersion, LoadedModel] = {}
        self._candidate: Candidate | None = None
        self._trial: VersionTrial | None = None

    # Versions

    def take_up(self) -> ModelVersion | None:
        """Serve what served last, from the own disk; return it, or None where nothing is that can be served."""
        found = None if self._kept is None else self._kept.newest()
        if found is None:
            return None
        version, raw = found
        self.want(version)
        try:
            self._switch(LoadedModel(version, raw))
        except ModelRefusedError as error:
            log.error("what was kept of %s is not served: %s", self.name, error)
            self._refuse(version, str(error))
            return None
        return version

    def want(self, version: ModelVersion) -> bool:
        """Say what is to be served; return whether it is still to be loaded (`load`)."""
        with self._lock:
            return self._swap.want(version)

    def load(self, get: Callable[[str], bytes]) -> bool:
        """Fetch what is wanted, try it, let it take over, and keep it.

        Args:
            get: reads a payload by its digest.

        Returns:
            Whether it serves now. What is no such model is refused, and not tried again until another is wanted.

        Raises:
            PayloadError: the store does not have it; it is worth trying again.
            OSError: the store does not answer; it is worth trying again.
        """
        version = self._to_load()
        if version is None:
            return False
        try:
            raw, transferred = fetched(version, get, self.known())
        except TransferError as error:
            self._say_refused(version, error)
            return False
        self.transferred(transferred)
        return self._take_over(version, raw)

    def load_bytes(self, raw: bytes) -> bool:
        """Try what is wanted, whose bytes are at hand and have its digest, as `load` does."""
        version = self._to_load()
        return version is not None and self._take_over(version, raw)

    def transferred(self, size_bytes: int) -> None:
        """Count bytes of a version that were fetched."""
        with self._lock:
            self.figures.fetched_bytes += size_bytes

    def _to_load(self) -> ModelVersion | None:
        with self._lock:
            return self._swap.wanted if self._swap.must_load else None

    def _take_over(self, version: ModelVersion, raw: bytes) -> bool:
        try:
            loaded = LoadedModel(version, raw)
        except ModelRefusedError as error:
            self._say_refused(version, error)
            return False
        if not self._switch(loaded):
            return False
        self._keep(version, raw)
        return True

    def _say_refused(self, version: ModelVersion, error: Exception) -> None:
        log.error("version %d of %s is refused: %s", version.version, self.name, error)
        self._refuse(version, str(error))

    def known(self) -> Mapping[str, bytes]:
        """Return the bytes of versions that are here, by their digest."""
        found, tried = None if self._kept is None else self._kept.newest(), self.candidate
        here = {} if tried is None else {tried.sha256: tried.raw}
        return here if found is None else here | {found[0].sha256: found[1]}

    def _switch(self, loaded: LoadedModel) -> bool:
        """Let it take over; return whether it serves, which it does not where another one is wanted by now."""
        with self._lock:
            before = self._swap.serving
            self._loaded[loaded.version] = loaded
            self._let_go(self._swap.loaded(loaded.version))
            now = self._swap.serving
            self.figures.swaps += before is not None and now != before
        if now != before:
            log.info("version %d of %s serves", loaded.version.version, self.name)
        return now == loaded.version

    def _keep(self, version: ModelVersion, raw: bytes) -> None:
        if self._kept is None:
            return
        try:
            self._kept.keep(version, raw)
        except OSError as error:
            log.error("version %d of %s serves, and is not kept for later: %s", version.version, self.name, error)

    def _refuse(self, version: ModelVersion, reason: str) -> None:
        with self._lock:
            self._swap.refuse(version, reason)

    def _let_go(self, version: ModelVersion | None) -> None:
        if version is not None:
            self._loaded.pop(version, None)

    # A version that is tried beside the one that serves

    def watch(self, trial: VersionTrial) -> None:
        """Let a trial say which version answers, whenever two are here."""
        with self._lock:
            self._trial = trial

    def hold(self, candidate: Candidate | None) -> None:
        """Hold a version beside the one that serves; None for none. Requests that are on the one before end on it."""
        with self._lock:
            self._candidate = candidate

    @property
    def candidate(self) -> Candidate | None:
        """What is held beside."""
        with self._lock:
            return self._candidate

    @property
    def candidate_trouble(self) -> str:
        """Why what is held beside cannot answer; empty where it can, or nothing is."""
        held = self.candidate
        return "" if held is None else held.trouble

    def judged(self, request: str, *, correct: bool) -> bool:
        """Take the truth of an answer; return whether it counts: the request is remembered, and of a trial."""
        with self._lock:
            trial = self._trial
        return trial is not None and trial.judged(request, correct=correct)

    # Requests

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request as under way until the block ends: from its arrival on, not only while it is computed.

        Raises:
            TooBusyError: too many are under way.
        """
        with self._lock:
            if self.figures.in_flight >= self._most:
                self.figures.shed += 1
                raise TooBusyError(f"{counted(self._most, 'request')} under way; allowed are no more")
            self.figures.in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self.figures.in_flight -= 1

    def turned_away(self) -> None:
        """Count a request that was not let in."""
        with self._lock:
            self.figures.shed += 1

    def answer(self, asked: InferRequest, version: int | None = None, began: float | None = None) -> bytes:
        """Answer a request.

        Args:
            asked: the request.
            version: number that must serve it; None takes what serves.
            began: when it arrived, by `timer`; None for now.

        Returns:
            The answer as JSON.

        Raises:
            NothingServesError: there is no version yet.
            WrongVersionError: another version serves.
            TensorError: the model cannot answer this.
        """
        began = self.timer() if began is None else began
        loaded = self._begin(version)
        try:
            answering, outputs, request = self._tried(loaded, asked) if version is None else self._plain(loaded, asked)
        except TensorError:
            with self._lock:
                self.figures.refused += 1
            raise
        except BaseException:
            with self._lock:
                self.figures.failed += 1
            raise
        else:
            with self._lock:
                self.figures.answered((self.timer() - began) * 1_000)
        finally:
            self._end(loaded)
        told: dict[str, Any] = {"model_name": self.name, "model_version": str(answering.version.version)}
        if request:
            told["id"] = request
        return msgspec.json.encode({**told, "outputs": msgspec.Raw(outputs)})

    def _plain(self, loaded: LoadedModel, asked: InferRequest) -> tuple[LoadedModel, bytes, str]:
        return loaded, self._outputs(loaded, loaded.taken(asked.inputs), _names(asked)), asked.id

    def _tried(self, last: LoadedModel, asked: InferRequest) -> tuple[LoadedModel, bytes, str]:
        """Let the version answer that the coin says, and the last good one where the new one cannot.

        Returns:
            The version that has answered, its outputs, and the request's id, under which its truth may be told.
        """
        with self._lock:
            trial, held = self._trial, self._candidate
        if trial is None or held is None:
            return self._plain(last, asked)
        arrays = last.taken(asked.inputs)  # what no version can take says nothing of any
        toss = trial.toss(asked.id, last.version.sha256, held.sha256)
        if toss is None:
            return self._plain(last, asked)
        chosen, began = held.loaded if toss.arm == "new" else last, self.timer()
        try:
            if chosen is None:
                raise TensorError(held.trouble)
            outputs = self._outputs(chosen, arrays, _names(asked))
        except BaseException as error:
            trial.failed(toss)
            if toss.arm == "last" or not isinstance(error, TensorError):
                raise
            return last, self._outputs(last, arrays, _names(asked)), toss.request
        trial.answered(toss, (self.timer() - began) * 1_000)
        return chosen, outputs, toss.request

    def _outputs(self, loaded: LoadedModel, arrays: Mapping[str, Array], wanted: Sequence[str]) -> bytes:
        key = b""
        if self.answers.limit_bytes:
            key = answer_key(loaded.version.sha256, arrays, wanted)
            with self._lock:
                before = self.answers.get(key)
            if before is not None:
                return before
        found = loaded.infer(arrays, wanted)
        answer = msgspec.json.encode([from_array(name, array) for name, array in found.items()])
        if key:
            with self._lock:
                self.answers.put(key, answer)
        return answer

    def _begin(self, number: int | None) -> LoadedModel:
        with self._lock:
            serving = self._swap.serving
            if serving is None:
                raise NothingServesError(self._why_nothing())
            if number is not None and number != serving.version:
                raise WrongVersionError(f"version {number} is asked for; version {serving.version} serves")
            self._swap.begin()
            return self._loaded[serving]

    def _end(self, loaded: LoadedModel) -> None:
        with self._lock:
            self._let_go(self._swap.end(loaded.version))

    # What is told

    @property
    def serving(self) -> LoadedModel | None:
        """What serves now."""
        with self._lock:
            return None if self._swap.serving is None else self._loaded[self._swap.serving]

    @property
    def trouble(self) -> str:
        """Why what is wanted is not what serves; empty where it is, or nothing is known against it yet."""
        with self._lock:
            return next(iter(self._swap.refused.values()), "")

    def told(self) -> dict[str, float]:
        """Say what it has done, as figures by name."""
        with self._lock:
            serving, wanted, tried = self._swap.serving, self._swap.wanted, self._candidate
            figures = self.figures
            return {
                "version": 0 if serving is None else serving.version,
                "wanted_version": 0 if wanted is None else wanted.version,
                "tried_version": 0 if tried is None or tried.loaded is None else tried.loaded.version.version,
                "requests": figures.requests,
                "refused": figures.refused,
                "failed": figures.failed,
                "shed": figures.shed,
                "in_flight": figures.in_flight,
                "p50_ms": round(figures.quantile_ms(0.5), 3),
                "p99_ms": round(figures.quantile_ms(0.99), 3),
                "swaps": figures.swaps,
                "repeated": self.answers.hits,
                "fetched_bytes": figures.fetched_bytes,
            }

    def _why_nothing(self) -> str:
        wanted = self._swap.wanted
        if wanted is None:
            return f"no version of {self.name} has been declared here"
        refused = self._swap.refused.get(wanted)
        return f"version {wanted.version} of {self.name} " + (f"is refused: {refused}" if refused else "is on its way")


def _names(asked: InferRequest) -> list[str]:
    return [output.name for output in asked.outputs]
