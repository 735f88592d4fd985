"""`thalweg backup` and `restore`: a consistent copy of the local stack, and a stack made of one."""

import json
from pathlib import Path
from typing import Any, Final

import click

from thalweg.backup.make import StackPlaces, make_backup
from thalweg.backup.manifest import BackupError, Manifest
from thalweg.backup.restore import KEEPABLE, restore_backup
from thalweg.cli.reach.ending import FAILED, WRONG_CALL, end
from thalweg.cli.reach.standard_output import note_done
from thalweg.conf.environment import state_folder
from thalweg.conf.settings import Settings, SettingsError, load_settings
from thalweg.scheduling.counted import counted
from thalweg.stack.state import StateFolder, StateFolderError, running_in
from thalweg.sync.clock import steady_clock, system_clock
from thalweg.sync.ledger.put_back import put_back_in

MB: Final = 1_000_000


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--without-records", is_flag=True, help="Of the broker only its identity, not the records it holds.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def backup(folder: Path, without_records: bool, config: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Copy the local stack into the new folder DIR, consistently, while it runs or not.

    Ledger and tables, checkpoints, the snapshot, the files of this machine's agents, the broker's records and its
    identity; with a manifest, written last, of versions, ids and the hash of every file. What is cut off has no
    manifest, and is no backup. Nothing is held up meanwhile.

    \b
    Examples:
      thalweg backup /backups/2026-11-30
      thalweg backup /backups/tables-only --without-records --json
    """
    try:
        settings = load_settings(config, overrides)
        state = _running(state_folder())
        made = make_backup(
            StackPlaces(
                state=state,
                warehouse=_local(state / "warehouse", settings.warehouse.path, Settings().warehouse.path),
                checkpoints=_local(state / "checkpoints", settings.spark.checkpoints, Settings().spark.checkpoints),
            ),
            folder,
            now_ms=system_clock(),
            steady=steady_clock,
            with_records=not without_records,
        )
    except (BackupError, SettingsError, StateFolderError) as error:
        end(str(error), WRONG_CALL)
    except OSError as error:
        end(
            f"{error.strerror} ({error.filename or folder}): the backup was not finished and is none. Remove {folder} "
            "and make it again",
            FAILED,
        )
    _say(made, as_json, f"Copied into {folder} in {made.seconds:.1f} s", {"folder": str(folder)})


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--keep",
    multiple=True,
    type=click.Choice(KEEPABLE),
    help="Leave what the state folder has of this: the broker went on, or the agents did; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def restore(folder: Path, keep: tuple[str, ...], as_json: bool) -> None:
    """Make a stack of the backup in DIR, in an empty state folder (THALWEG_STATE).

    Every file is compared with the manifest before anything is touched, and nothing is overwritten. It is put in place
    as a whole: cut off, it is begun or finished by the same call, and no stack starts there until then. The next start
    says what it found and what it does about it.

    \b
    Examples:
      THALWEG_STATE=/srv/thalweg thalweg restore /backups/2026-11-30
      thalweg restore /backups/2026-11-30 --keep broker      # its tables are lost, its broker went on
    """
    state = state_folder()
    try:
        made = restore_backup(folder, state, keep=keep)
    except (BackupError, StateFolderError) as error:
        end(str(error), WRONG_CALL)
    except OSError as error:
        end(
            f"{error.strerror} ({error.filename or state}): nothing was put in place. Free space, and call it again",
            FAILED,
        )
    put_back = put_back_in(state / "warehouse")
    sentence = put_back.sentence if put_back is not None else "the backup holds no ledger: the stack begins anew"
    _say(made, as_json, f"Restored into {state}: {sentence}", {"state": str(state), "found": sentence})


def _running(state: Path) -> Path:
    """Return the folder whose stack runs (the state folder's own, else its demo's), else the state folder itself."""
    if not state.is_dir():
        return state
    StateFolder.check(state)
    running = running_in(state)
    return running.path if running is not None else state


def _local(default: Path, configured: str, unchanged: str) -> Path:
    """Return where a part lies; an object store keeps its own versions.

    Raises:
        BackupError: it is in an object store.
    """
    if configured == unchanged:
        return default
    if "://" in configured:
        raise BackupError(
            f"{configured} is no local folder: copies of an object store are its own to make (versioning, "
            "replication). Leave that setting away to copy what is local"
        )
    return Path(configured)


def _say(made: Manifest, as_json: bool, words: str, more: dict[str, Any]) -> None:
    note_done(words)
    if as_json:
        document = made.as_document()
        del document["files"]
        click.echo(json.dumps({**document, **more, "files": len(made.files), "bytes": made.size}))
        return
    tables = ", ".join(f"{name} {version}" for name, version in sorted(made.tables.items()))
    click.echo(f"{words}.")
    click.echo(
        f"{counted(len(made.files), 'file')}, {made.size / MB:.1f} MB; cluster {made.cluster_id or 'none yet'}; ledger "
        f"{made.warehouse_id or 'none yet'} at version {made.ledger_version}; tables: {tables or 'none'}."
    )
