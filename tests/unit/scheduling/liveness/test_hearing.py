"""What a sounding proves, and what it does not."""

from thalweg.scheduling.liveness.hearing import BEAT_MS, Hearing, RecordPosition, Sounding, covers
from thalweg.scheduling.liveness.patience import LONGEST, Patience
from thalweg.scheduling.liveness.told import Told

TOPIC, ASSIGNED = "status.r", "assignments.r"
TIMEOUT_MS = 10_000


class Ear:
    """A hearing of one region, with topics as numbers of records."""

    def __init__(self, status: int = 0, assigned: int = 0) -> None:
        self.ends = {TOPIC: status, ASSIGNED: assigned}
        self.steady_ms = 0
        self.read = status
        start = Sounding(number=0, made_ms=0, ends=self._ends())
        self.hearing = Hearing(timeout_ms=TIMEOUT_MS, life="me", start=start)
        self.told = Told(self.hearing, 15_000)

    def _ends(self) -> dict[str, dict[int, int | None]]:
        return {topic: {0: end} for topic, end in self.ends.items()}

    def speak(self) -> RecordPosition:
        self.ends[TOPIC] += 1
        return RecordPosition(topic=TOPIC, partition=0, offset=self.ends[TOPIC] - 1)

    def sound(self, after_ms: int = BEAT_MS) -> int:
        self.steady_ms += after_ms
        number = self.hearing.begin()
        self.hearing.sounded(Sounding(number=number, made_ms=self.steady_ms, ends=self._ends()))
        return number

    def judge(self, read_to: int | None = None) -> dict[str, int]:
        self.read = self.ends[TOPIC] if read_to is None else read_to
        return self.hearing.silent({"r": TOPIC}, lambda: {(TOPIC, 0): self.read})

    def seconds(self, count: int, *, speaks: bool = False) -> dict[str, int]:
        """Soundings a second, each read back and judged; the last judgement."""
        found: dict[str, int] = {}
        for _ in range(count):
            if speaks:
                self.hearing.hear("r", self.speak(), "agent")
            self.hearing.read_back(self.sound())
            found = self.judge()
        return found


def test_a_region_is_silent_after_the_timeout_and_not_before() -> None:
    ear = Ear()
    ear.seconds(5, speaks=True)
    assert ear.seconds(10) == {}
    assert ear.seconds(1) == {"r": 11_000}


def test_without_soundings_read_back_nobody_grows_silent() -> None:
    ear = Ear()
    ear.seconds(5, speaks=True)
    for _ in range(60):
        ear.sound()
        assert ear.judge() == {}
    assert ear.hearing.now_ms == 5_000


def test_between_two_soundings_the_hearing_clock_advances_by_two_intervals_at_most() -> None:
    ear = Ear()
    ear.seconds(1, speaks=True)
    ear.hearing.read_back(ear.sound(after_ms=TIMEOUT_MS - 1))
    assert ear.hearing.now_ms == 1_000 + 2 * BEAT_MS
    ear.hearing.read_back(ear.sound(after_ms=-5))
    assert ear.hearing.now_ms == 1_000 + 2 * BEAT_MS


def test_an_interruption_as_long_as_the_timeout_gives_everybody_the_full_timeout_again() -> None:
    ear = Ear()
    ear.seconds(5, speaks=True)
    assert ear.seconds(9) == {}
    ear.hearing.read_back(ear.sound(after_ms=TIMEOUT_MS))
    assert ear.judge() == {}
    assert ear.seconds(10) == {}
    assert ear.seconds(1) == {"r": 11_000}


def test_heartbeats_of_other_lives_or_repeated_ones_count_for_nothing() -> None:
    ear = Ear()
    number = ear.sound()
    for _ in range(3):
        ear.hearing.read_back(number)
    ear.hearing.read_back(number + 50)
    assert ear.hearing.now_ms == 1_000


def test_a_region_whose_topic_is_not_read_up_to_the_sounding_is_not_judged() -> None:
    ear = Ear()
    ear.seconds(5, speaks=True)
    behind = ear.read
    for _ in range(60):
        ear.speak()
        ear.hearing.read_back(ear.sound())
        assert ear.judge(read_to=behind) == {}
    ear.hearing.hear("r", RecordPosition(topic=TOPIC, partition=0, offset=ear.ends[TOPIC] - 1))
    assert ear.seconds(1) == {}, "what lay unread was a sign of life"


def test_a_partition_without_a_leader_judges_nobody() -> None:
    hearing = Hearing(timeout_ms=TIMEOUT_MS)
    for second in range(1, 60):
        number = hearing.begin()
        hearing.sounded(Sounding(number=number, made_ms=second * BEAT_MS, ends={TOPIC: {0: 0, 1: None}}))
        hearing.read_back(number)
        assert hearing.silent({"r": TOPIC}, dict) == {}


def test_a_sign_of_life_is_as_old_as_the_first_sounding_that_ends_behind_it() -> None:
    """Also where one batch brings it with many soundings: the batch was long, not the region alive."""
    ear = Ear()
    ear.seconds(1, speaks=True)
    ear.hearing.hear("r", ear.speak())
    for _ in range(12):
        ear.hearing.read_back(ear.sound())
    assert ear.judge() == {"r": 11_000}


def test_what_was_there_at_the_start_is_no_sign_of_life() -> None:
    ear = Ear(status=3)
    assert not ear.hearing.hear("r", RecordPosition(topic=TOPIC, partition=0, offset=2))
    assert ear.hearing.hear("r", ear.speak())


def test_at_a_start_nobody_is_judged_before_the_backlog_is_read_and_then_has_the_full_timeout() -> None:
    ear = Ear(status=100)
    for read in range(40):
        ear.hearing.read_back(ear.sound())
        assert ear.judge(read_to=read) == {}
    assert ear.seconds(11) == {}
    assert ear.seconds(1) == {"r": 11_000}


def test_patience_is_learned_from_gaps_within_bounds() -> None:
    patience = Patience()
    assert patience.limit_ms(TIMEOUT_MS) == TIMEOUT_MS
    for _ in range(300):
        patience.note(1_000)
    assert patience.limit_ms(TIMEOUT_MS) == TIMEOUT_MS
    for _ in range(100):
        patience.note(1_000)
        patience.note(9_000)
    assert 2 * TIMEOUT_MS < patience.limit_ms(TIMEOUT_MS) < 3 * TIMEOUT_MS
    for _ in range(100):
        patience.note(1)
        patience.note(500_000)
    assert patience.limit_ms(TIMEOUT_MS) == LONGEST * TIMEOUT_MS
    for _ in range(200):
        patience.note(1_000)
    assert patience.limit_ms(TIMEOUT_MS) == TIMEOUT_MS, "what is long ago is forgotten, exactly"


def inventory(ear: Ear, read_to: int | None) -> bool:
    """Whether the region, with an inventory it makes now, is taken to know of task t."""
    return ear.told.knew(ASSIGNED, ear.speak(), None if read_to is None else [read_to])("t", for_ms=15_000)


def test_an_inventory_knows_what_lies_before_where_its_region_had_read() -> None:
    ear = Ear(assigned=7)
    ear.seconds(3, speaks=True)
    ear.ends[ASSIGNED] = 8
    ear.told.note(ASSIGNED, "t")
    ear.seconds(20, speaks=True)
    assert not inventory(ear, 7), "it had not read the assignment, however long ago that was"
    assert inventory(ear, 8)
    assert inventory(ear, None), "a producer that does not say had the time to accept"


def test_no_inventory_is_judged_before_the_time_to_accept_has_passed_on_the_hearing_clock() -> None:
    ear = Ear()
    ear.ends[ASSIGNED] = 1
    ear.told.note(ASSIGNED, "t")
    for _ in range(30):
        ear.hearing.read_back(ear.sound(after_ms=400))
    assert not inventory(ear, 1)
    assert not inventory(ear, None)
    ear.seconds(10, speaks=True)
    assert inventory(ear, 1)


def test_an_inventory_of_a_backlog_is_as_old_as_its_place_in_the_topic() -> None:
    ear = Ear(status=5)
    ear.ends[ASSIGNED] = 1
    old = ear.speak()
    ear.told.note(ASSIGNED, "t")
    ear.seconds(20, speaks=True)
    assert not ear.told.knew(ASSIGNED, old, None)("t", for_ms=0), "made before the first sounding after the assignment"
    assert not ear.told.knew(ASSIGNED, RecordPosition(topic=TOPIC, partition=0, offset=4), [1])("t", for_ms=0), (
        "of an earlier life"
    )


def test_a_sounding_under_way_while_an_event_was_published_proves_nothing_of_it() -> None:
    ear = Ear()
    number = ear.hearing.begin()
    ends = {TOPIC: {0: 0}, ASSIGNED: {0: 0}}  # looked at before the event was there
    ear.told.note(ASSIGNED, "t")
    ear.ends[ASSIGNED] = 1
    ear.hearing.sounded(Sounding(number=number, made_ms=1_000, ends=ends))
    ear.hearing.read_back(number)
    ear.seconds(20, speaks=True)
    assert not inventory(ear, 0)
    assert inventory(ear, 1)


def test_what_was_told_long_ago_is_not_kept() -> None:
    ear = Ear()
    ear.told.note(ASSIGNED, "t")
    ear.seconds(100, speaks=True)
    assert inventory(ear, None)
    assert ear.told._told == {}


def test_what_was_told_long_ago_is_not_kept_of_regions_that_send_no_inventories_either() -> None:
    ear = Ear()
    for number in range(200):
        ear.told.note(ASSIGNED, f"t{number}")
        ear.seconds(1, speaks=True)
    assert 15 <= len(ear.told._told) < 50


def test_what_a_region_holds_too_much_is_judged_as_soon_as_it_knew() -> None:
    ear = Ear()
    ear.ends[ASSIGNED] = 1
    ear.told.note(ASSIGNED, "t")
    at_once = ear.told.knew(ASSIGNED, ear.speak(), None)
    ear.seconds(1, speaks=True)
    assert not at_once("t", for_ms=0)
    assert ear.told.knew(ASSIGNED, ear.speak(), None)("t", for_ms=0)
    assert not ear.told.knew(ASSIGNED, ear.speak(), [0])("t", for_ms=0)
    assert ear.told.knew(ASSIGNED, ear.speak(), [1])("t", for_ms=0)


def test_of_what_is_decided_and_not_told_yet_no_list_can_know() -> None:
    ear = Ear()
    ear.ends[ASSIGNED] = 1
    ear.told.note(ASSIGNED, "t")
    ear.seconds(20, speaks=True)
    assert inventory(ear, 1)
    ear.told.decided(ASSIGNED, "t")
    ear.seconds(20, speaks=True)
    assert not inventory(ear, 1) and not inventory(ear, None)
    ear.ends[ASSIGNED] = 2
    ear.told.note(ASSIGNED, "t")
    ear.seconds(20, speaks=True)
    assert inventory(ear, 2) and not inventory(ear, 1)


def test_a_topic_is_read_up_to_the_newest_sounding_whose_ends_were_read() -> None:
    ear = Ear(status=3, assigned=5)
    assert ear.hearing.read_up_to_ms(ASSIGNED) is None, "nothing is known to be read"
    for read_to, up_to_ms in ((4, None), (5, 2_000), (5, 3_000)):
        ear.hearing.read_back(ear.sound())
        ear.hearing.silent({}, lambda read_to=read_to: {(ASSIGNED, 0): read_to})
        assert ear.hearing.read_up_to_ms(ASSIGNED) == up_to_ms
    ear.ends[ASSIGNED] += 1
    ear.hearing.read_back(ear.sound())
    ear.hearing.silent({}, lambda: {(ASSIGNED, 0): 5})
    assert ear.hearing.now_ms == 4_000
    assert ear.hearing.read_up_to_ms(ASSIGNED) == 3_000, "what came since is not read"
    assert ear.hearing.read_up_to_ms("unknown") == 4_000, "of what is not looked at, all that is read counts"


def test_who_has_read_all_that_lay_before_the_ends_has_read_it_in_every_partition() -> None:
    assert covers([], {}) and covers([3], {}) and covers([3, 0], {0: 3, 1: 0}) and covers([4], {0: 3})
    assert covers([], {0: 0}), "nothing lay there"
    assert not covers([], {0: 1}), "a partition that it does not know it has not read"
    assert not covers([3], {0: 3, 1: 1})
    assert not covers([2], {0: 3})
    assert not covers([9], {0: None}), "nobody knows where it ends"
