"""What must not be with graphs of tasks, arrays and tries; as in `rules`, each query finds violations.

Whether a parent's condition was met is read from the ledger's own order, never from a clock: clocks are set wrong here.
"""

from collections.abc import Sequence
from typing import Final

from thalweg.chaos.audit_rule import GIVEN, AuditRule, both_ends, peaks

_BEGUN: Final = """
begun AS MATERIALIZED (
    SELECT task_id, position, request, json_extract(request, '$.task_id') AS whole,
        json_extract(request, '$.task_id') = task_id AND json_extract(request, '$.array') IS NOT NULL AS is_array
    FROM ledger WHERE transition = 'submitted'
)
"""
"""Every task; `whole` names the array of an element, and itself of any other."""

_WANTS: Final = """
wants AS MATERIALIZED (
    SELECT task_id, CASE named.type WHEN 'object' THEN json_extract(named.value, '$.task_id') ELSE named.value END
            AS parent,
        COALESCE(CASE named.type WHEN 'object' THEN json_extract(named.value, '$.on') END, 'success') AS wanted
    FROM begun, json_each(begun.request, '$.after') AS named
)
"""
"""Who waits for whom, and for which end of it: success, or end."""

OVER: Final = """
over AS MATERIALIZED (
    SELECT task_id, MIN(position) AS at, CASE transition WHEN 'succeeded' THEN 'succeeded' WHEN 'failed' THEN 'failed'
            ELSE 'cancelled' END AS state
    FROM ledger
    WHERE transition IN ('succeeded', 'cancelled') OR (transition = 'failed' AND reason LIKE 'gave up%')
    GROUP BY task_id
)
"""
"""How a task ended, and with which row. (Of tasks with copies, the first of these; no graph has such.)"""

_FAILURES: Final = """
failures AS (
    SELECT task_id, position, COALESCE(cause, 'exit') AS cause, exit_code, reason LIKE 'gave up%' AS is_last,
        COUNT(*) OVER (PARTITION BY task_id ORDER BY position) AS nth,
        COUNT(*) OVER (PARTITION BY task_id, COALESCE(cause, 'exit') ORDER BY position) AS nth_of_cause
    FROM ledger WHERE transition = 'failed' AND task_id NOT IN (SELECT task_id FROM begun WHERE is_array)
), judged AS (
    SELECT failures.*, nth <= COALESCE(json_extract(request, '$.retries.at_most'), 2)
        AND nth_of_cause <= COALESCE(
            json_extract(request, '$.retries.by_cause.' || cause), CASE cause WHEN 'time_limit' THEN 0 ELSE nth END)
        AND NOT EXISTS (SELECT 1 FROM json_each(request, '$.retries.not_on') AS code WHERE code.value = exit_code)
        AS is_tried_again
    FROM failures JOIN begun USING (task_id)
)
"""
"""Every failure, and whether the request lets the task be tried again after it; three tries where it does not say."""

_HELD_NOW: Final = """
held_now AS (
    SELECT task_id FROM (
        SELECT task_id, transition, MAX(position) FROM ledger WHERE transition IN ('held', 'released') GROUP BY task_id
    ) WHERE transition = 'held'
)
"""

_WHO: Final = f"WITH {_BEGUN}, {_WANTS}, {OVER}"

IN_GRAPHS: Final = f"""WITH {_BEGUN}, {OVER},
members AS (SELECT task_id FROM begun WHERE whole IN (SELECT task_id FROM graphed) AND NOT is_array)"""
"""The tasks of graphs that could run, and their ends."""

GRAPH_RULES: Final[Sequence[AuditRule]] = (
    AuditRule(
        kind="early",
        words="task {task_id} was {transition} in epoch {epoch} before its parent {parent} had come to its {wanted}",
        sql=f"""{_WHO} SELECT DISTINCT ledger.task_id, epoch, transition, parent, wanted
            FROM ledger JOIN wants USING (task_id) LEFT JOIN over ON over.task_id = parent
            WHERE transition IN ('assigned', 'accepted', 'running')
            AND (at IS NULL OR at > position OR (wanted = 'success' AND state <> 'succeeded'))""",
    ),
    AuditRule(
        kind="early",
        words="a machine began task {task_id} in epoch {epoch} before one had seen its parent {parent} succeed",
        sql=f"""{_WHO} SELECT DISTINCT began.task_id, began.epoch, parent.task_id AS parent
            FROM machines AS began JOIN wants USING (task_id)
            JOIN begun AS parent ON parent.whole = wants.parent AND NOT parent.is_array
            WHERE began.what IN ('begin', 'resume') AND wanted = 'success' AND NOT EXISTS (
                SELECT 1 FROM machines AS seen
                WHERE seen.task_id = parent.task_id AND seen.what = 'succeeded' AND seen.at_ns <= began.at_ns)""",
    ),
    AuditRule(
        kind="early",
        words="array {task_id} {state} before its elements had",
        sql=f"""{_WHO} SELECT array.task_id, over.state FROM begun AS array JOIN over USING (task_id)
            WHERE is_array AND state <> 'cancelled' AND (
                SELECT COUNT(*) FROM begun AS element JOIN over AS its ON its.task_id = element.task_id
                WHERE element.whole = array.task_id AND NOT element.is_array AND its.at < over.at
                AND its.state = over.state
            ) < CASE state WHEN 'failed' THEN 1 ELSE json_extract(array.request, '$.array.count') END""",
    ),
    AuditRule(
        kind="over",
        words="array {whole} had {load} elements at once",
        sql=f"WITH {GIVEN}, {_BEGUN}"
        + peaks(
            both_ends("whole", "1", "since", "until", "placed JOIN begun USING (task_id)"),
            "whole",
            "(SELECT json_extract(request, '$.array.at_most') FROM begun WHERE task_id = loads.whole)",
        ),
    ),
    AuditRule(
        kind="lost",
        words="task {task_id} waits for ever: its parent {parent} {state}",
        sql=f"""{_WHO} SELECT wants.task_id, parent, parents.state FROM wants JOIN over AS parents ON
            parents.task_id = parent LEFT JOIN over AS own ON own.task_id = wants.task_id
            WHERE wanted = 'success' AND parents.state <> 'succeeded' AND own.state IS NULL""",
    ),
    AuditRule(
        kind="lost",
        words="task {task_id} waits for {parent}, which nobody has submitted",
        sql=f"""{_WHO} SELECT task_id, parent FROM wants
            WHERE parent NOT IN (SELECT task_id FROM begun) AND task_id NOT IN (SELECT task_id FROM over)""",
    ),
    AuditRule(
        kind="lost",
        words="task {task_id} has nothing in front of it any more, and is forgotten",
        sql=f"""{_WHO}, {GIVEN}, {_HELD_NOW} SELECT task_id FROM begun
            WHERE whole IN (SELECT task_id FROM graphed) AND NOT is_array
            AND task_id NOT IN (SELECT task_id FROM over)
            AND task_id NOT IN (SELECT task_id FROM placed WHERE until IS NULL)
            AND task_id NOT IN (SELECT task_id FROM held_now) AND whole NOT IN (SELECT task_id FROM held_now)
            AND NOT EXISTS (SELECT 1 FROM wants WHERE wants.task_id = begun.task_id
                AND parent NOT IN (SELECT task_id FROM over))""",
    ),
    AuditRule(
        kind="lost",
        words="array {task_id} goes on, and all of its elements have ended",
        sql=f"""{_WHO} SELECT task_id FROM begun AS array
            WHERE is_array AND task_id NOT IN (SELECT task_id FROM over) AND NOT EXISTS (
                SELECT 1 FROM begun AS element WHERE element.whole = array.task_id AND NOT element.is_array
                AND element.task_id NOT IN (SELECT task_id FROM over))""",
    ),
    AuditRule(
        kind="lost",
        words="the release of task {task_id} was acknowledged, and it is held",
        sql=f"""{_WHO} SELECT key AS task_id FROM releases
            WHERE key IN (SELECT task_id FROM ledger WHERE transition = 'held')
            AND key NOT IN (SELECT task_id FROM ledger WHERE transition = 'released')
            AND key NOT IN (SELECT task_id FROM over)""",
    ),
    AuditRule(
        kind="orphan",
        words="task {task_id} was cancelled for no cause that is to be seen: {reason}",
        sql=f"""{_WHO} SELECT gone.task_id, gone.reason FROM ledger AS gone JOIN begun USING (task_id)
            WHERE transition = 'cancelled'
            AND NOT (gone.reason = 'cancelled by request'
                AND (task_id IN (SELECT key FROM cancels) OR whole IN (SELECT key FROM cancels)))
            AND NOT (is_array AND gone.reason LIKE 'array: of %')
            AND NOT EXISTS (
                SELECT 1 FROM wants JOIN over ON over.task_id = parent
                WHERE wants.task_id = begun.task_id AND wanted = 'success' AND at < gone.position
                AND gone.reason = 'cancelled: its parent ' || parent
                    || CASE state WHEN 'failed' THEN ' failed' WHEN 'cancelled' THEN ' was cancelled' END)
            AND NOT EXISTS (
                SELECT 1 FROM wants WHERE wants.task_id = begun.task_id AND parent NOT IN (SELECT task_id FROM asked)
                AND gone.reason LIKE 'cancelled: its parent ' || parent || ' was not submitted within %')""",
    ),
    AuditRule(
        kind="lost",
        words="task {task_id} was given up after failure {nth} ({cause}), after which it was to be tried again",
        sql=f"{_WHO}, {_FAILURES} SELECT task_id, nth, cause FROM judged WHERE is_last AND is_tried_again",
    ),
    AuditRule(
        kind="double",
        words="task {task_id} was tried again after failure {nth} ({cause}), after which it was to be given up",
        sql=f"{_WHO}, {_FAILURES} SELECT task_id, nth, cause FROM judged WHERE NOT is_last AND NOT is_tried_again",
    ),
)
