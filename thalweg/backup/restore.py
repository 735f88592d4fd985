"""Put a backup into a state folder: verified as a whole before anything is touched, and put in place by renames.

What is copied lies in `restoring/` until it is whole and on the disk. A restore that is cut off before that has touched
nothing; one that is cut off afterwards is finished by calling it again. Until then no stack starts there.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from thalweg.backup.copying import PIECE, Copier, Progress
from thalweg.backup.make import PARTS
from thalweg.backup.manifest import MANIFEST, BackupError, Manifest, manifest_text, read_manifest
from thalweg.stack.broker import CLUSTER_ID, cluster_id
from thalweg.stack.state import RESTORING, StateFolder, write_json
from thalweg.sync.delta.durable import sync_folder
from thalweg.sync.ledger.put_back import FILE_NAME as PUT_BACK
from thalweg.sync.ledger.put_back import PutBack

WHOLE: Final = "whole.json"
"""In `restoring/`: everything of it is on the disk."""
KEEPABLE: Final = ("broker", "agents")


def verify(folder: Path, progress: Progress = lambda _: None) -> Manifest:
    """Look whether a backup is what its manifest says, file by file.

    Raises:
        BackupError: it is not; up to five files are named.
    """
    manifest = read_manifest(folder)
    there = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} - {MANIFEST}
    wrong = [f"{name} is missing" for name in sorted(manifest.files.keys() - there)]
    wrong += [f"{name} is not of it" for name in sorted(there - manifest.files.keys())]
    for name in sorted(there & manifest.files.keys()):
        wanted = manifest.files[name]
        if (folder / name).stat().st_size != wanted.size:
            wrong.append(f"{name} has {(folder / name).stat().st_size} bytes, not {wanted.size}")
        elif _hash(folder / name, progress) != wanted.sha256:
            wrong.append(f"{name} has other content")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise BackupError(
            f"{folder} is not the backup that was made: {'; '.join(wrong[:5])}{more}. Nothing was touched. Restore "
            "another one"
        )
    return manifest


def _hash(file: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as reader:
        while piece := reader.read(PIECE):
            digest.update(piece)
            progress(len(piece))
    return digest.hexdigest()


def restore_backup(
    folder: Path, state: Path, *, keep: Sequence[str] = (), progress: Progress = lambda _: None
) -> Manifest:
    """Verify a backup and make a state folder of it.

    Args:
        folder: the backup's.
        state: where its stack is to be; parts of one that are there and not to be kept are in the way.
        keep: of `broker` and `agents`, what stays as it is there.
        progress: told of bytes as they are read.

    Raises:
        BackupError: the backup is none, or something is in the way; nothing was touched.
        StateFolderError: the folder is somebody else's, or a stack runs in it.
    """
    manifest = verify(folder, progress)
    if state.exists():
        StateFolder.check(state)
    if (state / RESTORING / WHOLE).exists():
        return _finish(state, manifest)
    _refuse_what_is_there(state, keep)
    with StateFolder(state).held():
        restoring = state / RESTORING
        shutil.rmtree(restoring, ignore_errors=True)
        restoring.mkdir()
        copier = Copier(restoring)
        for name, wanted in manifest.files.items():
            if name.partition("/")[0] in keep:
                continue
            copier.copy(folder / name, name)
            if copier.marks[name] != wanted:
                raise BackupError(f"{folder / name} changed while it was read. Nothing was touched. Try again")
        if "broker" not in keep and not manifest.has_records and manifest.cluster_id is not None:
            copier.write(f"broker/{CLUSTER_ID}", manifest.cluster_id.encode())
        if manifest.ledger_version is not None:
            mark = PutBack(made_ms=manifest.made_ms, sentence=_sentence(manifest, state, keep))
            copier.write(f"warehouse/{PUT_BACK}", mark.as_bytes())
        copier.settle()
        write_json(restoring / WHOLE, {"of": json.loads(manifest_text(manifest))["sha256"]})
        sync_folder(restoring)
        sync_folder(state)
        return _finish_held(state, manifest)


def _refuse_what_is_there(state: Path, keep: Sequence[str]) -> None:
    there = [part for part in PARTS if part not in keep and (state / part).is_dir() and any((state / part).iterdir())]
    if there:
        keepable = [part for part in there if part in KEEPABLE]
        or_keep = f", or keep what is there: {' '.join(f'--keep {part}' for part in keepable)}" if keepable else ""
        raise BackupError(
            f"{state} holds {', '.join(there)} already, and nothing is overwritten. Restore beside it "
            f"(THALWEG_STATE=/another/folder thalweg restore …), move that away{or_keep}"
        )


def _finish(state: Path, manifest: Manifest) -> Manifest:
    with StateFolder(state).held():
        return _finish_held(state, manifest)


def _finish_held(state: Path, manifest: Manifest) -> Manifest:
    """Put what is whole into place. Each step can be repeated, in any state that a kill leaves."""
    restoring = state / RESTORING
    said = json.loads((restoring / WHOLE).read_text(encoding="utf-8"))
    if said["of"] != json.loads(manifest_text(manifest))["sha256"]:
        raise BackupError(
            f"{state} is half made of another backup. Finish that one (thalweg restore with its folder), or move "
            f"{restoring} and what it has put beside it away"
        )
    for part in PARTS:
        if (restoring / part).is_dir():
            if (state / part).is_dir():
                (state / part).rmdir()  # empty: looked at before
            (restoring / part).rename(state / part)
    sync_folder(state)
    (restoring / WHOLE).unlink()
    restoring.rmdir()
    sync_folder(state)
    return manifest


def _sentence(manifest: Manifest, state: Path, keep: Sequence[str]) -> str:
    """Say what the next start finds, and what it will do."""
    found = (
        f"the ledger is a copy of {_moment(manifest.made_ms)} (version {manifest.ledger_version}, driver "
        f"{manifest.driver_epoch})"
    )
    here = cluster_id(state / "broker") if "broker" in keep else None
    if "broker" in keep and here == manifest.cluster_id:
        return (
            f"{found} and the broker has gone on since: requests it holds since then are taken again, and what regions "
            "were told since then is read back, so that what runs goes on and what has ended does not run again"
        )
    if "broker" in keep:
        return (
            f"{found} and the broker is another cluster ({here or 'not made yet'}, it was {manifest.cluster_id}): its "
            "topics are read from their earliest record; what was asked or done in between is known only where they "
            "hold it"
        )
    if manifest.has_records:
        return (
            f"{found} with the broker's records of that moment: what was asked before it is taken; what was asked or "
            "done after it is not known here, and agents that went on give back what they hold beyond it"
        )
    return (
        f"{found} and the broker begins empty under its old identity: what was asked and not in the ledger yet, or "
        "after the copy, must be sent again; regions are compared with the ledger and give back what it does not have"
    )


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
