"""`thalweg hooks`: tell web addresses of every task that ends."""

import logging
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import click

from thalweg.cli.reach.reading import WrongCall
from thalweg.conf.environment import state_folder
from thalweg.conf.settings import HookSettings, KafkaSettings, SettingsError, load_settings
from thalweg.hooks.hook import Hook, HookPosition
from thalweg.hooks.post import HookRefusedError, check_url, post
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.topics import RESULTS, topic_name

log = logging.getLogger("thalweg.hooks")

_AGAIN_S = 5.0
"""Before the broker is asked again, where it was away."""


@click.command(short_help="Tell web addresses of every task that ends.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="Folder of what has been told.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
def hooks(state: Path | None, config: Path | None, overrides: tuple[str, ...], bootstrap: str | None) -> None:
    """Tell web addresses of every task that succeeded, failed, was cancelled or refused, until it is stopped.

    Each of `hooks.urls` gets a POST with the event as the topic `results` has it, with its id, signed by the secret of
    `hooks.secret_file`; each at least once, after a restart, too. Stop it with Ctrl-C or SIGTERM.

    \b
    Examples:
      thalweg hooks --set 'hooks.urls=[https://example.org/thalweg]'
      thalweg hooks --config hooks.yaml --state /var/lib/thalweg/hooks
    """
    try:
        settings = with_broker(load_settings(config, with_bootstrap(overrides, bootstrap)))
        secret = _secret(settings.hooks)
        if not settings.hooks.urls:
            raise WrongCall("no address to tell: name them in hooks.urls")
        for url in settings.hooks.urls:
            check_url(url)
    except (SettingsError, NoBrokerError, HookRefusedError) as error:
        raise WrongCall(str(error)) from error
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    folder = state or state_folder() / "hooks"
    threads = [
        threading.Thread(target=_run, args=(url, settings.kafka, settings.hooks, secret, folder, stop))
        for url in settings.hooks.urls
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _secret(settings: HookSettings) -> bytes | None:
    if settings.secret_file is None:
        return None
    try:
        secret = Path(settings.secret_file).read_bytes().strip()
    except OSError as error:
        raise WrongCall(f"hooks.secret_file {settings.secret_file}: {error.strerror}") from error
    if not secret:
        raise WrongCall(f"hooks.secret_file {settings.secret_file} is empty")
    return secret


def _run(
    url: str, kafka: KafkaSettings, settings: HookSettings, secret: bytes | None, folder: Path, stop: threading.Event
) -> None:
    """Tell one address, with a new connection to the broker whenever that was lost."""
    send = partial(
        post, url, secret=secret, timeout_s=settings.timeout_s, allow_metadata=settings.allow_metadata_addresses
    )
    while not stop.is_set():
        position = HookPosition(folder, url)
        hook = Hook(
            url,
            position,
            send,
            states=frozenset(settings.states),
            give_up_after_s=settings.give_up_after_s,
            stop=stop,
        )
        try:
            reader = KafkaReader(
                kafka,
                topics=[topic_name(RESULTS, kafka.topic_prefix)],
                start=lambda topic, partition: position.offsets.get((topic, partition), 0),  # noqa: B023
                client_id="thalweg-hooks",
            )
            try:
                log.info("%s is told of ends", url)
                hook.follow(reader)
            finally:
                reader.close()
        except StreamError as error:
            log.warning("%s: %s", url, error)
            stop.wait(_AGAIN_S)
