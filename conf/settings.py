"""Settings: one group per stage, each field with its unit, its default's reason and its off-value.

Read from, weakest first: the defaults here, a YAML file (`--config` or THALWEG_CONFIG), environment variables
(`THALWEG_PLACE__TRIGGER_MS=50`), and `--set place.trigger_ms=50`. Unknown keys are refused. Outside the file a setting
that is text is taken as it is written; numbers, booleans, lists and mappings are read as YAML. A key that stands twice
is refused; so is true for a number, and a number for true.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

ENVIRONMENT_PREFIX = "THALWEG_"
# Variables of ours that name places, read by `conf.environment`, not settings.
RESERVED = frozenset(
    {"THALWEG_CONFIG", "THALWEG_STATE", "THALWEG_CACHE", "THALWEG_DATA", "THALWEG_JAVA", "THALWEG_IVY_SETTINGS"}
)

PositiveMs = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class SettingsError(Exception):
    """A setting is unknown or has a value that is not allowed; the message names each."""


class _Group(BaseModel):
    # A limit that is no number would limit nothing, and no setting says "never" by infinity.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_other_kind(cls, value: Any, asked: ValidationInfo) -> Any:
        """Refuse what Python would take for the same: true is no 1, and 1 is not true. Messages refuse it, too."""
        kinds = _leaves(cls.model_fields[str(asked.field_name)].annotation)
        if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
            raise PydanticCustomError("number_type", "Input should be a number")
        if bool in kinds and value is not None and not isinstance(value, bool):
            raise PydanticCustomError("truth_type", "Input should be true or false")
        return value


class KafkaSettings(_Group):
    """The broker and how we speak to it."""

    bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated host:port list. The default is nobody's word: unless it is said, nothing connects there."""
    topic_prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9-]{1,40}$")] = "thalweg"
    """First part of every topic's name; two installations on one broker take two prefixes."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """PLAINTEXT fits the local broker on loopback only."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """null: no SASL."""
    sasl_username: str | None = None
    """User name for SASL."""
    sasl_password: SecretStr | None = None
    """Only from the environment (THALWEG_KAFKA__SASL_PASSWORD) or a file outside the repository; never logged."""
    ssl_cafile: str | None = None
    """PEM file of the certificate authority; null takes the system's."""
    ssl_certfile: str | None = None
    """PEM file with our own certificate and its private key (PKCS #8, not encrypted), where the broker asks for one."""
    replication_factor: Annotated[int, Field(ge=1)] = 1
    """Copies of each topic that we create; 3 on a cluster."""
    min_insync_replicas: Annotated[int, Field(ge=1)] = 1
    """Copies that must have a record before it counts as written, of topics that we create; 2 on a cluster."""
    request_timeout_ms: PositiveMs = 10_000
    """How long one request to the broker may take before it is tried again."""
    leader_wait_ms: int | None = Field(default=None, gt=0)
    """How long a query waits for a partition that nobody leads, before it ends and begins anew. null: 10 s, as nobody
    takes over; where topics have copies 30 s, more than the brokers' `broker.session.timeout.ms` and an election."""

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError(
                f"min_insync_replicas {self.min_insync_replicas}: allowed are at most replication_factor "
                f"({self.replication_factor}), else nothing could ever be written"
            )
        return self

    @property
    def patience_ms(self) -> int:
        """Return how long a query waits for a partition that nobody leads."""
        if self.leader_wait_ms is not None:
            return self.leader_wait_ms
        return 30_000 if self.replication_factor > 1 else 10_000

    @property
    def is_named(self) -> bool:
        """Tell whether a file, the environment or an option named the broker."""
        return "bootstrap_servers" in self.model_fields_set


class WarehouseSettings(_Group):
    """Where the Delta tables lie."""

    path: str = ".thalweg/warehouse"
    """Folder, or an object-store URI such as s3://bucket/thalweg."""
    min_free_gb: Annotated[float, Field(ge=0)] = 1.0
    """Jobs warn below this much free disk; 0 never warns."""


class SparkSettings(_Group):
    """The Spark application, where we start it ourselves (`thalweg up`, `python -m jobs.…`)."""

    master: str = "local[2]"
    """Ignored under spark-submit, which names its own."""
    driver_memory: str = "2g"
    """Heap of the local JVM: three queries on two cores stay below 1 GB; the rest is room for a backlog."""
    conf: dict[str, str] = {}
    """More Spark settings, over conf/spark-defaults.conf."""
    checkpoints: str = ".thalweg/checkpoints"
    """Folder or URI for the queries' checkpoints."""


class ObserveSettings(_Group):
    """`jobs/observe`: telemetry into Delta."""

    trigger_ms: PositiveMs = 505
    """Commit interval of `telemetry`: two commits a second, compaction's included, keep the log small."""
    max_records_per_batch: Annotated[int, Field(gt=0)] = 400_000
    """Bounds one micro-batch's memory after an outage."""
    writer: Literal["auto", "driver", "executors"] = "auto"
    """Who writes the Parquet files: the driver (lowest latency), the executors (bulk), or chosen by batch size."""
    executors_from_mb: Annotated[float, Field(gt=0)] = 64
    """With `auto`: batches of at least this many megabytes of records are taken in by the executors."""
    read_ahead: bool = True
    """Take a small micro-batch's records from a consumer on the driver that is ahead; false reads all through Spark."""
    latest_every_ms: PositiveMs = 1_000
    """How often `nodes`, `links` and `prices` are brought up to date."""
    compact_every_s: Annotated[int, Field(ge=0)] = 60
    """How often small telemetry files are compacted beside the writer; 0 never."""
    rules: str | None = None
    """YAML file of the value rules; null takes the shipped conf/rules/telemetry.yaml, which shows how to write one."""
    future_limit_ms: PositiveMs = 60_000
    """A sample stamped further ahead of the micro-batch's time than this is quarantined, never obeyed."""


class WeightSettings(_Group):
    """Weights of the placement objective, all in US dollars (docs/explanation/cost-model.md)."""

    rtt: Weight = 0.0001
    """Per millisecond of round trip and expected hour; 0 ignores latency below the hard limit."""
    risk: Weight = 1.0
    """Scale of the expected loss on spot capacity; 0 ignores it."""
    move: Weight = 1.0
    """Price of moving one running task; 0 lets tasks wander for cents."""
    balance: Weight = 0.0
    """Weight of squared deviation from mean utilisation; 0 places at least cost alone."""
    wait: Weight = 1_000_000.0
    """Price of one task left waiting; far above any placement, so that a task waits only if it must."""


class TenantSettings(_Group):
    """What a tenant may hold."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Its fair share, against the weights of the other tenants that want something."""
    quota_gpus: Annotated[float, Field(ge=0)] | None = None
    """Most GPUs it holds at any moment, even when others are idle; null for no limit."""
    budget_usd_per_hour: Annotated[float, Field(ge=0)] | None = None
    """Most that all its copies together cost an hour, in US dollars; null for no limit."""
    most_tasks: Annotated[int, Field(ge=0)] | None = None
    """So many of its tasks may not have ended at once, array elements among them; what comes beyond is refused. null is
    `place.most_tasks`."""


class PlaceSettings(_Group):
    """`jobs/place`: requests and status into assignments."""

    trigger_ms: Annotated[int, Field(ge=0)] = 0
    """Micro-batch interval; 0 starts the next batch as soon as the last ended (lowest latency)."""
    max_records_per_batch: Annotated[int, Field(gt=0)] = 20_000
    """Bounds one micro-batch after an outage."""
    read_ahead: bool = True
    """Take a micro-batch's records from a consumer on the driver that is ahead of it; false reads all through Spark."""
    strategy: Literal["flow", "greedy", "genetic", "anneal", "lp"] = "flow"
    """Global placement strategy."""
    seed: int = 0
    """Seed of the randomised strategies; the same seed and input give the same plan."""
    plan_deadline_ms: PositiveMs = 2_000
    """A plan that takes longer stops with its incumbent."""
    window_tasks: Annotated[int, Field(gt=0)] = 4_096
    """Most waiting tasks considered by one plan, by rank; keeps a plan flat however long the queue."""
    most_tasks: Annotated[int, Field(ge=0)] = 1_000_000
    """So many tasks of a tenant may not have ended at once, unless `place.tenants` gives it a number; what comes beyond
    is refused with that reason, and can be sent again when some have ended."""
    heartbeat_timeout_ms: PositiveMs = 10_000
    """A region silent this long is lost and its tasks are placed again; ten missed heartbeats."""
    node_timeout_ms: PositiveMs = 60_000
    """A node without a sample this long is taken as gone."""
    max_attempts: Annotated[int, Field(ge=1)] = 3
    """How often a task is placed in all before it is given up as failed."""
    parent_wait_ms: PositiveMs = 60_000
    """A task waits so long for a parent that nobody has submitted; producers repeat what got lost after 30 s."""
    accept_timeout_ms: PositiveMs = 15_000
    """An assignment that a live region does not hold after this long, in two lists, is lost and placed again."""
    world_every_ms: PositiveMs = 500
    """How often nodes, links and prices are read from their tables."""
    folds_every_ms: PositiveMs = 2_000
    """How often `tasks` and `placements` are brought up to date beside the stream."""
    compact_every_s: Annotated[int, Field(ge=0)] = 60
    """How often the ledger's small files are compacted, from the writer's own thread; 0 never."""
    archive_after_s: Annotated[int, Field(ge=0)] = 86_400
    """A task that ended so long ago is moved from `tasks` to `tasks_archive`, when files are compacted; 0 never."""
    snapshot_every_rows: Annotated[int, Field(ge=0)] = 100_000
    """A snapshot of the world is made when the ledger has grown by so many rows, seconds of a restart; 0 never."""
    snapshot_every_s: Annotated[float, Field(gt=0)] = 600.0
    """A snapshot is made after this long, too, where the ledger has grown at all."""
    snapshot_niceness: Annotated[int, Field(ge=0, le=19)] = 10
    """Of the process that makes one: placement on the same machine goes first. The first of a life that had to follow
    twice `snapshot_every_rows` is not niced."""
    standby: bool = False
    """Two drivers: the second follows the ledger and takes over in seconds when the first is gone. `up` starts both."""
    takeover_ms: PositiveMs = 10_000
    """A standby takes over from a driver that lives but has not shown for so long that it works."""
    max_task_gpus: Annotated[int, Field(ge=1)] = 100_000
    """A request for more GPUs in all is refused: no plan could hold it, and it is most likely a slip."""
    assumed_usd_per_gpu_hour: float | None = Field(default=None, ge=0, le=1e6)
    """Price of pools that nobody names one of, as in a machine room of one's own; null places nothing there."""
    longest_wait_h: Annotated[float, Field(gt=0)] = 1_080.0
    """The promise of the longest wait, in hours: what has waited so long goes before all that has not. In 45 days a
    queue passes in which a quarter more is asked for than there is; a promise shorter than the queue makes it first
    come, first served."""
    lost_spot_per_hour: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Chance that a spot node is taken away within an hour: what spot saves is weighed against the work it loses."""
    tenants: dict[str, TenantSettings] = {}
    """Weight and limits by tenant; one that is not listed has weight 1 and no limit."""
    fair_share: bool = True
    """Competing tenants share by weight (dominant resource fairness) and lend what they leave; false turns it off."""
    most_preempted: Annotated[int, Field(ge=0)] = 32
    """Copies that one plan may stop for tasks of higher priority; 0 turns preemption off."""
    most_moved: Annotated[int, Field(ge=0)] = 32
    """Copies that one look moves: at what is drained, once a second, and at what runs, every `look_again_every_s`. 0
    moves none, out of a drained place none before its moment."""
    look_again_every_s: Annotated[float, Field(ge=0)] = 60.0
    """How often what runs is planned again, beside the stream, and moved where that pays; 0 never."""
    move_again_after_s: Annotated[float, Field(ge=0)] = 600.0
    """A copy that was placed more recently is not moved by such a look, so that prices which swing swing nobody."""
    start_up_s: Annotated[float, Field(ge=0)] = 60.0
    """What a move loses beside the work since the last checkpoint: GPUs are paid until the task works again."""
    resize_every_ms: Annotated[int, Field(ge=0)] = 60_000
    """Least time between two growths of an elastic task into idle GPUs, since each restarts it; 0 never grows one."""
    publish_timeout_ms: PositiveMs = 10_000
    """How long a batch waits for the broker to acknowledge its events before it fails and is tried again."""
    weights: WeightSettings = WeightSettings()
    """Weights of the objective."""


class ReplicateSettings(_Group):
    """`jobs/replicate`: state changes of every region into the same records everywhere."""

    trigger_ms: Annotated[int, Field(ge=0)] = 0
    """Micro-batch interval; 0 starts the next batch as soon as the last ended (lowest latency)."""
    max_records_per_batch: Annotated[int, Field(gt=0)] = 20_000
    """Kafka records a micro-batch takes; one may carry hundreds of updates."""
    read_ahead: bool = True
    """Take a micro-batch's records from a consumer on the driver that is ahead of it; false reads all through Spark."""
    compact_every_s: Annotated[int, Field(gt=0)] = 30
    """How often small files are merged."""
    park_ms: PositiveMs = 60_000
    """A stamp further ahead than this waits: more than a disciplined clock drifts, less than a wrong time zone."""
    warn_ms: PositiveMs = 500
    """A stamp further ahead than this is merged and its region's clock reported."""
    refuse_ms: PositiveMs = 86_400_000
    """A stamp further ahead than this is refused: a day is no clock error."""
    tombstone_age_ms: Annotated[int, Field(ge=0)] = 3_600_000
    """A delete is remembered at least this long, for plain producers that are late; 0 until every region has it."""
    ask_again_ms: PositiveMs = 2_000
    """A missing sequence range is asked for again after this long."""
    digest_every_ms: PositiveMs = 5_000
    """How often the centre publishes its digests for the regions to compare."""
    merge: Literal["auto", "driver", "spark"] = "auto"
    """Who merges: the driver (lowest latency), Spark's tasks and its MERGE (bulk), or chosen by batch size."""
    spark_from_keys: Annotated[int, Field(gt=0)] = 50_000
    """With `auto`: a batch that changes at least this many keys is merged by Spark."""
    policies: dict[str, dict[str, Literal["last_writer", "max", "min", "add_wins_set", "counter"]]] = {
        "dataset/": {"copies": "add_wins_set", "version": "max"}
    }
    """Key prefix to field policies, for plain producers; a field without one is last-writer-wins."""


class FederateSettings(_Group):
    """`jobs/federate`: rounds of learning, from the regions' updates to new versions of models."""

    enabled: bool = False
    """Whether `thalweg up` starts it, as a process of its own; off, because who learns nothing needs none."""
    payloads: str = ".thalweg/payloads"
    """Folder or URI of parameters and large updates, by their digest; regions that send by reference reach it, too."""
    inline_bytes: Annotated[int, Field(ge=0, le=700_000)] = 524_288
    """Payloads up to this size travel in the message; larger ones lie in the store. A topic takes 1 MiB, in base64."""
    look_every_ms: PositiveMs = 100
    """How long the job waits for records before it looks at deadlines."""
    max_records_per_batch: Annotated[int, Field(gt=0)] = 2_000
    """Records of one commit."""
    noise_key: SecretStr | None = None
    """Secret of private runs: it makes the noise and draws who is called, so that a round closed again after a crash
    is the same. Null refuses private runs. Only from the environment (THALWEG_FEDERATE__NOISE_KEY) or a file."""

    def payloads_of(self, warehouse: str) -> str:
        """Say where payloads lie: where the setting says, else in a folder beside a warehouse.

        Args:
            warehouse: folder or URI.
        """
        if self.payloads != type(self).model_fields["payloads"].default:
            return self.payloads
        return f"{warehouse.rstrip('/').rpartition('/')[0] or '.'}/payloads"


class RolloutSettings(_Group):
    """`jobs/roll_out`: versions of models to edges, wave by wave."""

    enabled: bool = False
    """Whether `thalweg up` starts it, as a process of its own; off, because who serves no models needs none."""
    look_every_ms: PositiveMs = 5_000
    """How long it waits for records before it looks at what edges have reported. Looking often costs no certainty."""


class AgentSettings(_Group):
    """The regional agent."""

    heartbeat_ms: PositiveMs = 1_000
    """Interval of heartbeats."""
    telemetry_ms: PositiveMs = 1_000
    """Interval of node samples."""
    inventory_ms: PositiveMs = 10_000
    """Interval of the list of held tasks, by which lost assignments and stale tasks are found."""
    progress_ms: PositiveMs = 10_000
    """Interval of progress reports of a running task."""
    links_ms: PositiveMs = 10_000
    """Interval of link probes and prices: they change slowly, and each change makes waiting tasks be tried again."""
    preparation: Annotated[str, Field(min_length=1)] | None = None
    """Key of the record of the sync plane that declares how telemetry is prepared before it leaves; that of one region
    is KEY/REGION. Null sends every sample."""
    task_timeout_s: Annotated[float, Field(gt=0)] = 86_400
    """A process that runs longer is killed and reported failed; a task's own `time_limit_s` may be shorter."""
    kill_grace_s: Annotated[float, Field(ge=0)] = 5
    """Between the polite signal and the hard one."""
    secrets: str | None = None
    """Secrets of the region's tasks: a folder with a file for each, or a file of NAME=VALUE lines; null has none."""
    artefacts: str | None = None
    """Where logs and artefacts are copied: file:///FOLDER or s3://BUCKET/PREFIX; null leaves them on its disk."""
    log_mb: Annotated[float, Field(ge=0.01)] = 16
    """Longest log of a worker, in MB; of a longer one the beginning and the newest lines are kept."""
    keep_runs: Annotated[int, Field(ge=0)] = 10_000
    """Ended runs whose folders stay on the agent's disk; the oldest go first. Checked every minute."""
    keep_runs_s: Annotated[float, Field(ge=0)] = 604_800
    """How long the folder of an ended run stays, in seconds."""
    keep_runs_mb: Annotated[float, Field(ge=0)] = 10_000
    """What the folders of ended runs may take together, in MB (10⁶ bytes)."""
    spot_notices: Literal["aws", "gcp", "azure"] | None = None
    """Whose metadata service is asked, every five seconds, whether this machine is taken away; null asks nobody."""
    metadata_url: str = "http://169.254.169.254"
    """Address of that service: the clouds' own, which only their machines reach."""
    time_scale: Annotated[float, Field(gt=0)] = 1.0
    """The simulate runner runs this many times faster than real time."""


class MetricSettings(_Group):
    """Prometheus metrics."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Port on which a job serves /metrics; 0 serves none."""
    host: str = "127.0.0.1"
    """Address to bind; loopback unless you mean to be scraped from elsewhere."""


class LogSettings(_Group):
    """Structured logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity written."""
    form: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""


class HookSettings(_Group):
    """`thalweg hooks`: ends of tasks, told to web addresses."""

    urls: list[str] = []
    """Each gets a POST for every end; empty tells nobody."""
    states: list[Literal["succeeded", "failed", "cancelled", "refused"]] = [
        "succeeded",
        "failed",
        "cancelled",
        "refused",
    ]
    """Which ends are told."""
    secret_file: str | None = None
    """File with the secret that signs what is sent (HMAC, SHA-256); null sends it unsigned."""
    timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """How long one address may take to answer."""
    give_up_after_s: Annotated[float, Field(ge=0)] = 86_400.0
    """An end that an address did not take for so long is left out and said in the log: later ones wait behind it."""
    allow_metadata_addresses: bool = False
    """Whether link-local addresses, and those where clouds answer with credentials, may be sent to."""


class WindowKey(_Group):
    """A key of the window."""

    tenant: str | None = None
    """Whose tasks it shows, and whose it may ask for; null means all tenants'."""
    acts: bool = False
    """Whether it may submit tasks and act on them, and with no `tenant` give orders; false only reads."""
    secret_file: str | None = None
    """File with the secret, of 16 characters and more."""
    secret: SecretStr | None = None
    """The secret itself, only from the environment (THALWEG_WINDOW__KEYS__NAME__SECRET); never logged."""


class WindowSettings(_Group):
    """`thalweg serve`: the page and the HTTP door."""

    enabled: bool = True
    """Whether `up` and `demo` start it."""
    host: str = "127.0.0.1"
    """Address to bind; loopback unless you mean to be asked from elsewhere."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Port; 0 takes one that is free (`thalweg open` finds it), in a stack the one that it had before."""
    names: list[str] = []
    """Names by which it is asked for (`Host`), beside localhost and `host`: behind a proxy, the proxy's."""
    open: bool | None = None
    """Whether it may be read without a key; null means: on loopback, and nowhere else."""
    keys: dict[str, WindowKey] = {}
    """Keys by name; whoever has none may read, where that is open, and never act."""
    look_ms: PositiveMs = 200
    """How often it looks whether the ledger has grown."""
    forecasts: list[str] = []
    """Files of forecasts (`thalweg forecast … --out`): the page says what they rest on, and how good they were."""
    classifiers: list[str] = []
    """Files of reasons (`thalweg explain-model … --out`): the page says what they rest on, and why one answer."""
    anew_s: Annotated[float, Field(gt=0)] = 3_600
    """How often it looks whether a tenth of its tasks was archived; then it reads all anew, so that they are gone."""
    listeners: Annotated[int, Field(ge=1)] = 1_000
    """Most that follow the events at once; one more is told to come back."""
    acts_at_once: Annotated[int, Field(ge=1)] = 64
    """Most requests to submit or to act that are under way at once; one more is told to come back (429)."""


class ServingKey(_Group):
    """A key of a model server."""

    secret_file: str | None = None
    """File with the secret, of 16 characters and more."""
    secret: SecretStr | None = None
    """The secret itself, only from the environment (THALWEG_SERVING__KEYS__NAME__SECRET); never logged."""


class ServingSettings(_Group):
    """`thalweg model serve`: who may ask a model, and by what."""

    open: bool | None = None
    """Whether it may be asked without a key; null means: on loopback, and nowhere else."""
    keys: dict[str, ServingKey] = {}
    """Keys by name; each asks, tells outcomes and reads figures. Whether a server is ready is told to anybody."""
    tls_certfile: str | None = None
    """PEM file with the server's certificate and those up to the authority's; null speaks HTTP without TLS."""
    tls_keyfile: str | None = None
    """PEM file with the certificate's private key, not encrypted; null where it is in `tls_certfile`."""

    @model_validator(mode="after")
    def _belongs_to_a_certificate(self) -> Self:
        if self.tls_keyfile is not None and self.tls_certfile is None:
            raise ValueError("tls_keyfile is the key of tls_certfile: allowed beside it")
        return self


class Settings(_Group):
    """Everything an operator may change."""

    kafka: KafkaSettings = KafkaSettings()
    """The broker."""
    warehouse: WarehouseSettings = WarehouseSettings()
    """The Delta tables."""
    spark: SparkSettings = SparkSettings()
    """The Spark application."""
    observe: ObserveSettings = ObserveSettings()
    """`jobs/observe`."""
    place: PlaceSettings = PlaceSettings()
    """`jobs/place`."""
    replicate: ReplicateSettings = ReplicateSettings()
    """`jobs/replicate`."""
    federate: FederateSettings = FederateSettings()
    """`jobs/federate`."""
    rollout: RolloutSettings = RolloutSettings()
    """`jobs/roll_out`."""
    agent: AgentSettings = AgentSettings()
    """The regional agent."""
    hooks: HookSettings = HookSettings()
    """`thalweg hooks`."""
    window: WindowSettings = WindowSettings()
    """`thalweg serve`."""
    serving: ServingSettings = ServingSettings()
    """`thalweg model serve`."""
    metrics: MetricSettings = MetricSettings()
    """Prometheus metrics."""
    logs: LogSettings = LogSettings()
    """Structured logs."""


def load_settings(
    config: Path | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings.

    Args:
        config: YAML file; None takes THALWEG_CONFIG where set.
        overrides: `group.field=value` items, strongest; read like the environment's.
        environment: None takes the process's.

    Raises:
        SettingsError: a file cannot be read, a key is unknown, or a value is not allowed.
    """
    environment = os.environ if environment is None else environment
    tree: dict[str, Any] = {}
    said_by: dict[tuple[str, ...], str] = {}
    path = config or (Path(environment["THALWEG_CONFIG"]) if environment.get("THALWEG_CONFIG") else None)
    if path is not None:
        tree, lines = _read_file(path)
        said_by |= {key: f"{path}, line {line}" for key, line in lines.items()}
    for name, value in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in RESERVED and "__" in name:
            step = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            _put(tree, step, value, source=name)
            said_by[tuple(step)] = f"environment variable {name}"
    for item in overrides:
        key, separator, value = item.partition("=")
        if not separator:
            raise SettingsError(f"--set {item!r}: allowed is group.field=value, for example place.trigger_ms=50")
        _put(tree, key.split("."), value, source=f"--set {key}")
        said_by[tuple(key.split("."))] = f"--set {key}"
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_explain(error, said_by)) from None


def _read_file(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """Read a file, and in which line each of its settings begins."""
    from thalweg.conf.yaml_tree import YamlTreeError, read_tree  # late: most commands are given no settings to read

    try:
        tree = read_tree(path.read_text(encoding="utf-8"))
    except YamlTreeError as error:  # whose details stay out: what is written there may be a secret
        raise SettingsError(f"settings file {path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path}: {error}") from error
    if tree.value is None:
        return {}, {}
    if not isinstance(tree.value, dict):
        raise SettingsError(f"settings file {path}: allowed is a mapping of groups, seen {type(tree.value).__name__}")
    return tree.value, tree.lines


def _put(tree: dict[str, Any], path: Sequence[str], value: str, source: str) -> None:
    """Set one leaf: text is itself, whatever it looks like; all else is read as YAML, so that numbers are numbers."""
    from thalweg.conf.yaml_tree import YamlTreeError, read_tree  # late, as above

    for step in path[:-1]:
        tree = tree.setdefault(step, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"{source}: {step!r} is a value, not a group")
    try:
        tree[path[-1]] = value if _takes_text(path) else read_tree(value).value
    except YamlTreeError as error:
        raise SettingsError(f"{source}: {value!r:.80} cannot be read: {error}") from None


def _annotation(path: Sequence[str]) -> Any:
    """Type of a setting, or None where there is none of this name."""
    group: Any = Settings
    for step in path:
        if get_origin(group) is dict:  # entries of any name
            group = get_args(group)[1]
            continue
        fields = group.model_fields if isinstance(group, type) and issubclass(group, BaseModel) else {}
        if step not in fields:
            return None
        group = fields[step].annotation
    return group


def _leaves(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, and of an annotated type the type."""
    if get_origin(annotation) is Annotated:
        return _leaves(get_args(annotation)[0])
    if get_origin(annotation) in (UnionType, Union):
        return tuple(leaf for part in get_args(annotation) for leaf in _leaves(part))
    return (annotation,)


def _takes_text(path: Sequence[str]) -> bool:
    """Tell whether a setting is text: a word, a path, a password. An unknown one is left as it is, to be refused."""
    annotation = _annotation(path)
    if annotation is None:
        return True
    return any(
        leaf in (str, SecretStr) or (get_origin(leaf) is Literal and all(isinstance(v, str) for v in get_args(leaf)))
        for leaf in _leaves(annotation)
    )


def _is_secret(path: Sequence[object]) -> bool:
    return SecretStr in _leaves(_annotation([str(step) for step in path]))


def _explain(error: ValidationError, said_by: Mapping[tuple[str, ...], str]) -> str:
    """Say of each problem which setting it is, what was seen, what is allowed, and where it was said."""
    lines = []
    for problem in error.errors(include_url=False):
        path = [str(step) for step in problem["loc"]]
        is_key = path[-1:] == ["[key]"]
        where = ".".join(path[:-2] if is_key else path)
        source = _source(path, said_by)
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: no such setting (docs/reference/settings.md lists all){source}")
            continue
        seen = "***" if _is_secret(problem["loc"]) else repr(problem["input"])
        of = "the name of an entry: " if is_key else ""
        lines.append(f"{where}: {of}{problem['msg']}, seen {seen}{source}{_quotes(problem['type'], problem['input'])}")
    return "settings: " + "; ".join(lines)


def _source(path: Sequence[str], said_by: Mapping[tuple[str, ...], str]) -> str:
    """Say who said a setting, or the nearest group around it; "" where nobody did."""
    for length in range(len(path), 0, -1):
        if (source := said_by.get(tuple(path[:length]))) is not None:
            return f" ({source})"
    return ""


def _quotes(kind: str, seen: object) -> str:
    """Tell whoever wanted a word what YAML made of it."""
    if kind == "number_type":
        return "; YAML reads no, off, yes and on as false or true"
    if kind != "string_type" or not isinstance(seen, bool | int | float):
        return ""
    what = "no, off, yes and on as false or true" if isinstance(seen, bool) else "digits as a number"
    return f"; YAML reads {what}: put the word into quotes"
