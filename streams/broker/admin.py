"""Make topics by their contracts; safe to call again, and from several processes at once."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.connection import connection_options
from thalweg.streams.broker.errors import BrokerUnavailableError, TopicMismatchError
from thalweg.streams.contract.topics import CONTRACTS, TopicContract, contract_of, topic_name

_LIMIT: Final = "max.message.bytes"

log = logging.getLogger("thalweg.admin")


def ensure_topics(
    kafka: KafkaSettings, regions: Iterable[str] = (), contracts: Sequence[TopicContract] = CONTRACTS
) -> list[str]:
    """Create what is missing and return the names of the topics that were created, once all can be used.

    Args:
        kafka: the broker's settings.
        regions: regions whose own topics are wanted, too.
        contracts: topics wanted; all by default.

    Raises:
        BrokerUnavailableError: nobody answers.
        TopicMismatchError: a topic exists with fewer partitions than its contract says.
    """
    regions = list(regions)
    wanted: dict[str, TopicContract] = {}
    for contract in contracts:
        for region in regions if contract.per_region else [None]:
            wanted[topic_name(contract, kafka.topic_prefix, region)] = contract
    if not wanted:
        return []
    with _admin(kafka) as admin:
        existing = _existing_partitions(admin)
        for name, contract in wanted.items():
            if 0 < existing.get(name, 0) < contract.partitions:
                raise TopicMismatchError(name, existing[name], contract.partitions)
        return _create_missing(admin, wanted, existing, kafka)


def make_again(kafka: KafkaSettings, names: Iterable[str]) -> list[str]:
    """Create those of these topics that are there no more, by their contracts, and return their names.

    Who deletes a topic of ours by mistake must not stop everybody who writes to it.

    Raises:
        BrokerUnavailableError: nobody answers, or topics may not be made.
    """
    contracts = {name: contract_of(name, kafka.topic_prefix) for name in names}
    ours = {name: contract for name, contract in contracts.items() if contract is not None}
    with _admin(kafka) as admin:
        try:
            made = _create_missing(admin, ours, _existing_partitions(admin), kafka)
        except KafkaError as error:
            raise BrokerUnavailableError(kafka.bootstrap_servers, error) from error
    for name in made:
        log.warning("a topic was gone, and is made again: what it held is lost", extra={"fields": {"topic": name}})
    return made


def delete_topic(kafka: KafkaSettings, name: str) -> None:
    """Delete a topic and all that it holds; the broker takes a moment for it.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    with _admin(kafka) as admin:
        admin.delete_topics([name])


def raise_limits(kafka: KafkaSettings) -> list[str]:
    """Let topics of an earlier version take messages as large as their contract says now; return which were changed.

    Without it an event that is in the ledger might never fit its topic. A limit above the contract's stays.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    with _admin(kafka) as admin:
        contracts = {name: contract_of(name, kafka.topic_prefix) for name in _existing_partitions(admin)}
        asked = [
            ConfigResource(ConfigResourceType.TOPIC, name, [_LIMIT]) for name, contract in contracts.items() if contract
        ]
        if not asked:
            return []
        found = admin.describe_configs(asked, config_filter="all")["topic"]
        low = {
            name: contract.max_message_bytes
            for name, contract in contracts.items()
            if contract is not None and int(found[name][_LIMIT]["value"]) < contract.max_message_bytes
        }
        if not low:
            return []
        changes = [ConfigResource(ConfigResourceType.TOPIC, name, {_LIMIT: str(limit)}) for name, limit in low.items()]
        answer = admin.alter_configs(changes, raise_on_unknown=False)["topic"]
    for name, result in answer.items():
        if result != "OK":
            log.warning(
                "a topic takes smaller messages than its contract says, and its limit cannot be raised: set "
                "max.message.bytes by hand",
                extra={"fields": {"topic": name, "wanted_bytes": low[name], "error": result}},
            )
    return sorted(name for name, result in answer.items() if result == "OK")


def existing_topics(kafka: KafkaSettings) -> dict[str, int]:
    """Partitions by name of every topic under our prefix.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    own = f"{kafka.topic_prefix}."
    with _admin(kafka) as admin:
        return {name: count for name, count in _existing_partitions(admin).items() if name.startswith(own)}


def cluster_id(kafka: KafkaSettings) -> str:
    """Id of the cluster that answers: every installation's broker has its own, whatever address it listens on.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    with _admin(kafka) as admin:
        return str(admin.describe_cluster()["cluster_id"])


def identities(kafka: KafkaSettings, topics: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Id of the cluster, and of each topic: a topic deleted and made anew under its name has another.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    with _admin(kafka) as admin:
        described = admin.describe_topics(list(topics))
        return str(admin.describe_cluster()["cluster_id"]), {
            topic["name"]: str(topic["topic_id"]) for topic in described
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicsNow:
    """The cluster, and its topics of some names, at one moment."""

    cluster_id: str
    topic_ids: Mapping[str, str]
    partitions: Mapping[str, int]


def topics_now(kafka: KafkaSettings, pattern: str) -> TopicsNow:
    """Look which topics there are whose whole name matches a pattern.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    with _admin(kafka) as admin:
        try:
            cluster = str(admin.describe_cluster()["cluster_id"])
            found = [
                topic
                for topic in admin.describe_topics()
                if not topic["error_code"] and re.fullmatch(pattern, topic["name"])
            ]
        except KafkaError as error:
            raise BrokerUnavailableError(kafka.bootstrap_servers, error) from error
    return TopicsNow(
        cluster_id=cluster,
        topic_ids={topic["name"]: str(topic["topic_id"]) for topic in found},
        partitions={topic["name"]: len(topic["partitions"]) for topic in found},
    )


def bounds_now(
    kafka: KafkaSettings, places: Iterable[tuple[str, int]]
) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
    """First offset held and the one after the last, of those of these partitions that are there.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    try:
        consumer = KafkaConsumer(**connection_options(kafka))
        try:
            there = [
                TopicPartition(topic, partition)
                for topic, partition in places
                if partition in (consumer.partitions_for_topic(topic) or ())
            ]
            starts = consumer.beginning_offsets(there) if there else {}
            ends = consumer.end_offsets(there) if there else {}
        finally:
            consumer.close()
    except (KafkaError, OSError) as error:
        raise BrokerUnavailableError(kafka.bootstrap_servers, error) from error
    return (
        {(place.topic, place.partition): offset for place, offset in starts.items()},
        {(place.topic, place.partition): offset for place, offset in ends.items()},
    )


@contextmanager
def _admin(kafka: KafkaSettings) -> Iterator[KafkaAdminClient]:
    try:
        admin = KafkaAdminClient(client_id="thalweg-admin", **connection_options(kafka))
    except (KafkaError, OSError) as error:
        raise BrokerUnavailableError(kafka.bootstrap_servers, error) from error
    try:
        yield admin
    finally:
        admin.close()


def _existing_partitions(admin: KafkaAdminClient) -> dict[str, int]:
    return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics() if not topic["error_code"]}


def _create_missing(
    admin: KafkaAdminClient, wanted: Mapping[str, TopicContract], existing: Mapping[str, int], kafka: KafkaSettings
) -> list[str]:
    """Create what is missing, and wait until all of it can be used."""
    missing = {name: contract for name, contract in wanted.items() if name not in existing}
    if not missing:
        return []
    created = _create(admin, missing, kafka)
    admin.wait_for_topics(list(missing), timeout_ms=kafka.request_timeout_ms)
    return created


def _create(admin: KafkaAdminClient, wanted: dict[str, TopicContract], kafka: KafkaSettings) -> list[str]:
    # Unless more than one is asked for, the broker's own default is as good.
    in_sync = {"min.insync.replicas": str(kafka.min_insync_replicas)} if kafka.min_insync_replicas > 1 else {}
    answer = admin.create_topics(
        {
            name: {
                "num_partitions": contract.partitions,
                "replication_factor": kafka.replication_factor,
                "configs": {**contract.config(), **in_sync},
            }
            for name, contract in wanted.items()
        },
        raise_errors=False,
    )
    created = []
    for topic in answer["topics"]:
        error = for_code(topic["error_code"])
        if topic["error_code"] == 0:
            created.append(topic["name"])
        elif error is not TopicAlreadyExistsError:  # another process was faster: just as good
            raise error(f"topic {topic['name']!r}: {topic.get('error_message')}")
    return created
