"""Which broker a command means: what the settings say, else the local stack that runs now."""

from conf.environment import state_folder
from conf.settings import Kafka, Settings
from thalweg.stack import running_bootstrap


def with_broker(settings: Settings) -> Settings:
    """Point settings that keep the default address to the local stack's broker, where one runs."""
    if settings.kafka.bootstrap_servers != Kafka().bootstrap_servers:
        return settings
    found = running_bootstrap(state_folder())
    if found is None:
        return settings
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": found})
    return settings.model_copy(update={"kafka": kafka})
