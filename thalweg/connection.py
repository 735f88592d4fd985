"""Which broker a command means: what the settings say, else that of the local stack or the demo that runs now."""

from conf.environment import state_folder
from conf.settings import Kafka, Settings
from thalweg.stack import running_bootstrap
from thalweg.state import running_in


def with_broker(settings: Settings) -> Settings:
    """Point settings that keep the default address to the broker of what runs here, where something does."""
    if settings.kafka.bootstrap_servers != Kafka().bootstrap_servers:
        return settings
    folder = running_in(state_folder())
    found = running_bootstrap(folder.path) if folder is not None else None
    if found is None:
        return settings
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": found})
    return settings.model_copy(update={"kafka": kafka})
