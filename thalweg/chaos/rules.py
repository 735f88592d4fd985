"""What must not be, each as one SQL query over the evidence: every row it finds is a violation.

Kinds: `lost` (acknowledged, and without effect), `double` (in effect twice), `over` (more on a machine than it has),
`orphan` (in effect, and nobody decided it), `early` (before what it waits for; see `graph_rules`). What is still on
its way breaks some of them for a moment: they are asked when nothing moves any more.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from thalweg.chaos.audit_rule import GIVEN, AuditRule, both_ends, peaks
from thalweg.chaos.evidence import Evidence
from thalweg.chaos.graph_rules import GRAPH_RULES, IN_GRAPHS, OVER

RAN: Final = """
seen AS (
    SELECT number, life, at_ns, what, region, task_id, epoch,
        LEAD(at_ns) OVER (PARTITION BY life, region, task_id, epoch ORDER BY number) AS until_ns,
        MAX(at_ns) OVER (PARTITION BY life) AS died_ns
    FROM machines
), ran AS (
    SELECT number, region, task_id, epoch, at_ns AS since_ns, COALESCE(until_ns, died_ns) AS until_ns
    FROM seen WHERE what IN ('begin', 'resume')
)
"""
"""What ran on the machines, from when to when. Of a process that died, to the last that it said."""

ASKS: Final = """
asks AS (
    SELECT task_id,
        COALESCE(json_extract(request, '$.replicas'), 1) AS replicas,
        json_extract(request, '$.array') IS NOT NULL AND json_extract(request, '$.task_id') = task_id AS is_array,
        COALESCE(json_extract(request, '$.per_worker.cpus'), 0) AS cpus,
        COALESCE(json_extract(request, '$.per_worker.memory_gb'), 0) AS memory_gb
    FROM ledger WHERE transition = 'submitted'
)
"""


def _node_peak(need: str) -> str:
    has = f"(SELECT {need} + 0.05 FROM nodes n WHERE n.region = loads.region AND n.node_id = loads.node_id)"
    source = "placed p JOIN shares s ON s.position = p.since JOIN asks USING (task_id)"
    moves = both_ends("region, node_id", f"workers * {need}", "since", "until", source)
    return f"WITH {GIVEN}, {ASKS}" + peaks(moves, "region, node_id", has)


RULES: Final[Sequence[AuditRule]] = (
    AuditRule(
        kind="lost",
        words="the request of task {task_id} was acknowledged, and is neither in the ledger nor refused",
        sql="""SELECT task_id FROM asked
            WHERE task_id NOT IN (SELECT task_id FROM ledger WHERE transition = 'submitted')
            AND task_id NOT IN (SELECT key FROM refused)""",
    ),
    AuditRule(
        kind="lost",
        words="task {task_id} was refused, and its request is well formed",
        sql="SELECT DISTINCT task_id FROM asked JOIN refused ON key = task_id WHERE op = 'submit'",
    ),
    AuditRule(
        kind="lost",
        words="{key} is no request, and was not refused",
        sql="SELECT key FROM nonsense WHERE key NOT IN (SELECT key FROM refused)",
    ),
    AuditRule(
        kind="lost",
        words="the write of record {key} was acknowledged, and `records` does not have it",
        sql="SELECT key FROM written WHERE key NOT IN (SELECT key FROM records)",
    ),
    AuditRule(
        kind="lost",
        words="task {task_id} is in {region} in epoch {epoch}, says the ledger; no agent there holds it",
        sql=f"WITH {GIVEN} SELECT task_id, region, epoch FROM placed LEFT JOIN held USING (task_id, region, epoch) "
        "WHERE until IS NULL AND held.state IS NULL",
    ),
    AuditRule(
        kind="lost",
        words="task {task_id} {what} in {region} in epoch {epoch}, and the ledger still waits for it",
        sql=f"WITH {GIVEN} SELECT DISTINCT task_id, what, region, epoch FROM placed "
        "JOIN machines USING (task_id, region, epoch) WHERE until IS NULL AND what IN ('succeeded', 'failed')",
    ),
    AuditRule(
        kind="double",
        words="task {task_id} began {times} times in {region} in epoch {epoch}",
        sql="SELECT task_id, region, epoch, COUNT(*) AS times FROM machines WHERE what = 'begin' "
        "GROUP BY task_id, region, epoch HAVING COUNT(*) > 1",
    ),
    AuditRule(
        kind="double",
        words="task {task_id} began at {times} different times in {region} in epoch {epoch}, say the agents' files",
        sql="SELECT task_id, region, epoch, COUNT(DISTINCT started_ms) AS times FROM runs "
        "GROUP BY task_id, region, epoch HAVING COUNT(DISTINCT started_ms) > 1",
    ),
    AuditRule(
        kind="double",
        words="copy {copy} of task {task_id} succeeded {times} times in the ledger",
        sql="SELECT task_id, copy, COUNT(*) AS times FROM ledger WHERE transition = 'succeeded' "
        "GROUP BY task_id, copy HAVING COUNT(*) > 1",
    ),
    AuditRule(
        kind="double",
        words="epoch {epoch} of task {task_id} was given {times} times",
        sql="SELECT task_id, epoch, COUNT(*) AS times FROM ledger WHERE transition = 'assigned' "
        "GROUP BY task_id, epoch HAVING COUNT(*) > 1",
    ),
    AuditRule(
        kind="double",
        words="two events speak of epoch {epoch} of task {task_id}: {events}",
        sql="SELECT task_id, epoch, GROUP_CONCAT(event_id) AS events FROM heard WHERE type = 'assign' "
        "GROUP BY task_id, epoch HAVING COUNT(DISTINCT event_id) > 1",
    ),
    AuditRule(
        kind="double",
        words="event {event_id} is {times} times in the ledger",
        sql="SELECT event_id, COUNT(*) AS times FROM ledger WHERE event_id IS NOT NULL "
        "GROUP BY event_id HAVING COUNT(*) > 1",
    ),
    AuditRule(
        kind="double",
        words="task {task_id} was submitted {times} times in the ledger",
        sql="SELECT task_id, COUNT(*) AS times FROM ledger WHERE transition = 'submitted' "
        "GROUP BY task_id HAVING COUNT(*) > 1",
    ),
    AuditRule(
        kind="double",
        words="task {task_id} has {times} rows in `tasks` and `tasks_archive`",
        sql="SELECT task_id, COUNT(*) AS times FROM tabled GROUP BY task_id HAVING COUNT(*) > 1",
    ),
    AuditRule(
        kind="lost",
        words="task {task_id} is {state}, says its row, and {known} by the ledger",
        sql=f"""WITH {OVER}, {ASKS} SELECT task_id, tabled.state, COALESCE(over.state, 'not over') AS known
            FROM tabled JOIN asks USING (task_id) LEFT JOIN over USING (task_id)
            WHERE replicas = 1 AND NOT is_array AND COALESCE(over.state, '') <>
                CASE WHEN tabled.state IN ('succeeded', 'failed', 'cancelled') THEN tabled.state ELSE '' END""",
    ),
    AuditRule(
        kind="over",
        words="GPU {device} of node {node_id} in {region} was given {load} thousandths at once",
        sql=f"WITH {GIVEN}"
        + peaks(
            both_ends(
                "region, node_id, device",
                "milli",
                "since",
                "until",
                "placed p JOIN seats s ON s.position = p.since",
            ),
            "region, node_id, device",
            "1000",
        ),
    ),
    AuditRule(kind="over", words="node {node_id} in {region} was given {load} CPUs at once", sql=_node_peak("cpus")),
    AuditRule(kind="over", words="node {node_id} in {region} was given {load} GB at once", sql=_node_peak("memory_gb")),
    AuditRule(
        kind="over",
        words="GPU {device} of node {node_id} in {region} carried {load} thousandths at once",
        sql=f"WITH {RAN}"
        + peaks(
            both_ends(
                "region, node_id, device",
                "milli",
                "since_ns",
                "until_ns",
                "ran JOIN machine_seats USING (number)",
            ),
            "region, node_id, device",
            "1000",
        ),
    ),
    AuditRule(
        kind="over",
        words="task {task_id} was given {region} node {node_id} with GPU {device}, which is not there",
        sql=f"""WITH {GIVEN} SELECT task_id, placed.region, s.node_id, s.device FROM placed
            JOIN seats s ON s.position = since
            LEFT JOIN nodes n ON n.region = placed.region AND n.node_id = s.node_id
            WHERE n.gpus IS NULL OR s.device >= n.gpus""",
    ),
    AuditRule(
        kind="over",
        words="task {task_id} had {load} copies at once",
        sql=f"WITH {GIVEN}, {ASKS}"
        + peaks(
            both_ends("task_id", "1", "since", "until", "placed"),
            "task_id",
            "(SELECT replicas FROM asks WHERE asks.task_id = loads.task_id)",
        ),
    ),
    AuditRule(
        kind="orphan",
        words="event {event_id} tells {region} of task {task_id}, and the ledger does not have it",
        sql="SELECT event_id, region, task_id FROM heard WHERE event_id NOT IN "
        "(SELECT event_id FROM ledger WHERE event_id IS NOT NULL)",
    ),
    AuditRule(
        kind="orphan",
        words="task {task_id} ran in {region} in epoch {epoch}, which the ledger gave it nowhere there",
        sql="""SELECT DISTINCT task_id, region, epoch FROM
            (SELECT task_id, region, epoch FROM machines UNION SELECT task_id, region, epoch FROM runs) AS told
            WHERE NOT EXISTS (SELECT 1 FROM ledger WHERE transition = 'assigned' AND ledger.task_id = told.task_id
                AND ledger.epoch = told.epoch AND ledger.region = told.region)""",
    ),
    AuditRule(
        kind="orphan",
        words="{region} holds task {task_id} in epoch {epoch}, which the ledger has given up",
        sql=f"WITH {GIVEN} SELECT held.region, held.task_id, held.epoch FROM held WHERE NOT EXISTS "
        "(SELECT 1 FROM placed WHERE placed.task_id = held.task_id AND placed.epoch = held.epoch AND until IS NULL)",
    ),
    AuditRule(
        kind="orphan",
        words="task {task_id} succeeded in {region} in epoch {epoch}, says the ledger; no machine saw it",
        sql="""SELECT task_id, region, epoch FROM ledger WHERE transition = 'succeeded' AND NOT EXISTS
            (SELECT 1 FROM machines m WHERE m.task_id = ledger.task_id AND m.epoch = ledger.epoch
                AND m.region = ledger.region AND m.what = 'succeeded')
            AND task_id NOT IN (SELECT task_id FROM ledger WHERE transition = 'submitted'
                AND json_extract(request, '$.array') IS NOT NULL AND json_extract(request, '$.task_id') = task_id)""",
    ),
    *GRAPH_RULES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFindings:
    """What an audit comes to."""

    accepted: int
    """Tasks whose requests the broker acknowledged."""
    placed: int
    """Of these, tasks that were assigned at least once."""
    standing: int
    """Assignments that stand: nothing is at rest while there are some."""
    rows: int
    """Of the ledger."""
    in_graphs: int
    """Tasks that belong to graphs."""
    graphs_ended: int
    """Of these, tasks that have ended."""
    by_kind: Counter[str]
    violations: Sequence[str]


def audit(evidence: Evidence) -> AuditFindings:
    """Ask every rule."""
    by_kind: Counter[str] = Counter()
    violations = []
    for rule in RULES:
        found = evidence.db.execute(rule.sql)
        names = [column[0] for column in found.description]
        for row in found.fetchall():
            by_kind[rule.kind] += 1
            violations.append(f"{rule.kind}: {rule.words.format_map(dict(zip(names, row, strict=True)))}")
    placed = "SELECT COUNT(DISTINCT task_id) FROM ledger JOIN asked USING (task_id) WHERE transition = 'assigned'"
    return AuditFindings(
        accepted=evidence.count("SELECT COUNT(*) FROM asked"),
        placed=evidence.count(placed),
        standing=evidence.count(f"WITH {GIVEN} SELECT COUNT(*) FROM placed WHERE until IS NULL"),
        rows=evidence.count("SELECT COUNT(*) FROM ledger"),
        in_graphs=evidence.count(f"{IN_GRAPHS} SELECT COUNT(*) FROM members"),
        graphs_ended=evidence.count(f"{IN_GRAPHS} SELECT COUNT(*) FROM members JOIN over USING (task_id)"),
        by_kind=by_kind,
        violations=violations,
    )
