"""`thalweg topics`, `tables`, `graph`: the contracts, as the code declares them."""

import re
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
import yaml

from thalweg.cli.reach.reading import WrongCall
from thalweg.cli.terminal.render import Column, Fit, print_json, print_table
from thalweg.conf.settings import KafkaSettings, SettingsError, load_settings
from thalweg.query.sql.type_names import type_name
from thalweg.stack.connection import NoBrokerError, bootstrap_option, with_bootstrap, with_broker
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.contract.asyncapi import PUBLISHED, asyncapi, message_schema
from thalweg.streams.contract.topics import CONTRACTS as TOPICS
from thalweg.streams.contract.topics import TopicContract
from thalweg.sync.delta.contracts import CONTRACTS as TABLES
from thalweg.sync.delta.contracts import TableContract
from thalweg.sync.delta.plain_arrow import fields

_DAY_MS: Final = 86_400_000
_REGION_NAME: Final = re.compile(r"[^\W_][\w.:-]*")


@click.command(short_help="Print the Kafka topics and their messages.")
@click.option("--make", "regions", multiple=True, metavar="REGION", help="Make this region's topics; repeatable.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@bootstrap_option
@click.option("--asyncapi", "as_asyncapi", is_flag=True, help="Print the AsyncAPI 3.0 document (YAML).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with each message's JSON Schema.")
def topics(
    regions: tuple[str, ...],
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    as_asyncapi: bool,
    as_json: bool,
) -> None:
    """Print the Kafka topics: name, key, writer, partitions, retention, and with --json or --asyncapi their messages.

    With --make it speaks to the broker: a plain producer of a new region has no topic to write to before. An agent
    makes its own.

    \b
    Examples:
      thalweg topics
      thalweg topics --json | jq '.topics[0].message'
      thalweg topics --asyncapi > asyncapi.yaml
      thalweg topics --make lab
    """
    try:
        settings = load_settings(config, with_bootstrap(overrides, bootstrap))
        if regions:
            _make(with_broker(settings).kafka, regions, as_json)
            return
    except (SettingsError, NoBrokerError, ValueError) as error:
        raise WrongCall(str(error)) from error
    except StreamError as error:
        raise click.ClickException(str(error)) from error
    prefix = settings.kafka.topic_prefix
    if as_asyncapi:
        click.echo(asyncapi_yaml(prefix), nl=False)
        return
    rows = [_topic_row(contract, prefix) for contract in TOPICS]
    if as_json:
        print_json({"topics": rows})
        return
    for row in rows:
        del row["message"], row["config"]
    print_table(_columns_of(rows[0]), rows)


def _columns_of(row: dict[str, Any]) -> list[str | Column]:
    """Let the words go on in the lines below."""
    return [Column(name=name, fit=Fit.WRAP) if name == "meaning" else name for name in row]


def _make(kafka: KafkaSettings, regions: tuple[str, ...], as_json: bool) -> None:
    """Make the topics of regions, and say which were not there before.

    Raises:
        ValueError: one is not named as a region is; a typing error would leave five topics behind.
    """
    for region in regions:
        if not _REGION_NAME.fullmatch(region):
            raise ValueError(
                f"--make {region!r} is no region's name: it begins with a letter or digit, and has letters, digits and "
                ". _ : - behind it, such as aws:us-east-1"
            )
    made = ensure_topics(kafka, regions, [contract for contract in TOPICS if contract.per_region])
    if as_json:
        print_json({"made": made})
    else:
        click.echo("\n".join(made) or "all are there already")


@click.command(short_help="Print the Delta tables and their columns.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with all columns.")
def tables(name: str | None, as_json: bool) -> None:
    """Print the Delta tables: key, writer, retention, meaning; with NAME the columns of one table.

    \b
    Examples:
      thalweg tables
      thalweg tables decisions
      thalweg tables --json
    """
    chosen = [contract for contract in TABLES if name in (None, contract.name)]
    if not chosen:
        raise WrongCall(f"there is no table {name!r}; there are: {', '.join(sorted(t.name for t in TABLES))}")
    if as_json:
        print_json({"tables": [_table_row(contract) | {"columns": _columns(contract)} for contract in chosen]})
    elif name is not None:
        print_table(["name", "type", "nullable", "key"], _columns(chosen[0]))
    else:
        rows = [_table_row(contract) for contract in chosen]
        print_table(_columns_of(rows[0]), rows)


@click.command(short_help="Print which job reads and writes what.")
@click.option("--mermaid", "as_mermaid_text", is_flag=True, help="Print a Mermaid flowchart.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def graph(as_mermaid_text: bool, as_json: bool) -> None:
    """Print the flows that the jobs declare: topics and tables -> job -> tables and topics.

    \b
    Examples:
      thalweg graph
      thalweg graph --mermaid
      thalweg graph --json
    """
    from thalweg.jobs.runtime.flows import all_jobs, as_mermaid, as_text  # late: it imports every job

    declared = all_jobs()
    if as_json:
        print_json({"jobs": [{"job": job.module, **asdict(job.flow)} for job in declared]})
    else:
        click.echo(as_mermaid(declared) if as_mermaid_text else as_text(declared))


def asyncapi_yaml(prefix: str) -> str:
    """Write the AsyncAPI document as YAML."""
    document = asyncapi(prefix, version("thalweg"))
    return yaml.dump(document, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Without anchors: a shared value is written out wherever it occurs."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _topic_row(contract: TopicContract, prefix: str) -> dict[str, Any]:
    return {
        "topic": f"{prefix}.{contract.topic}" + (".<region>" if contract.per_region else ""),
        "key": contract.key,
        "writer": contract.writer,
        "partitions": contract.partitions,
        "kept": "latest per key" if contract.compacted else f"{contract.retention_ms // _DAY_MS} days",
        "meaning": contract.meaning,
        "config": dict(contract.config()),
        "message": message_schema(contract.topic) if contract.topic in PUBLISHED else None,
    }


def _table_row(contract: TableContract) -> dict[str, Any]:
    return {
        "table": contract.name,
        "key": list(contract.key),
        "writer": contract.writer,
        "append_only": contract.append_only,
        "partitioned_by": list(contract.partition_by),
        "retention_days": contract.retention_days,
        "meaning": contract.meaning,
    }


def _columns(contract: TableContract) -> list[dict[str, Any]]:
    return [
        {
            "name": field.name,
            "type": type_name(field.type).removeprefix("large_"),
            "nullable": field.nullable,
            "key": field.name in contract.key,
        }
        for field in fields(contract.columns)
    ]
