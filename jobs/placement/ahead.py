"""What is done ahead of a start of `place`: while its JVM begins, or while another driver works."""

import logging
from typing import TYPE_CHECKING

from deltalake.exceptions import DeltaError

from thalweg.conf.readiness import announce_progress
from thalweg.conf.settings import Settings
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.placement import standby
from thalweg.jobs.placement.edge import input_pattern
from thalweg.jobs.placement.refusals import FLOW_NAME
from thalweg.jobs.placement.settings import plan_settings
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.live.warm_up import warm_up
from thalweg.sync.clock import Clock

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger("thalweg.place")


def prepare(settings: Settings, clock: Clock, host: Host) -> None:
    """Do ahead of a start, while its JVM begins, what needs none: nothing is claimed, and nothing written.

    Args:
        settings: everything.
        clock: the wall clock.
        host: is given the world as far as the ledger is now, for the start.
    """
    if settings.place.standby:
        return  # it is done when it is clear that another driver works
    try:
        host.followed = standby.followed(None, settings, clock)
    except (OSError, DeltaError) as error:  # the start will say what is wrong, and wait
        log.warning(f"the ledger cannot be read yet: {error}")
    have_compiled(settings)


def have_compiled(settings: Settings) -> None:
    """Have compiled what a plan calls, and say which part: minutes on a busy machine that keeps no machine code yet."""
    announce_progress("place: compiling what a plan calls")
    warm_up(plan_settings(settings.place), tell=lambda kernel: announce_progress(f"place: compiling {kernel}"))


def stand_by(spark: "SparkSession", settings: Settings, clock: Clock, stop: Stop, host: Host) -> None:
    """Wait until no other driver works, following what it does; returns at once where there is none.

    Args:
        spark: the session, which is made ready meanwhile.
        settings: everything.
        clock: the wall clock.
        stop: ends the waiting.
        host: is given what was followed, for the start that comes next.
    """

    def make_ready() -> None:
        have_compiled(settings)
        standby.warm(spark, settings, input_pattern(settings.kafka.topic_prefix))

    standby.stand_by(settings, FLOW_NAME, clock, stop, host, make_ready)
