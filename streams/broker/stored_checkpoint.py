"""A query's checkpoint on S3, and which files are meant by a place."""

from functools import lru_cache

from pyarrow.fs import FileSelector, FileSystem

from thalweg.streams.broker.checkpoint_files import ASIDE, CheckpointFiles, LocalFiles


class StoredFiles:
    """A place in an object store, where a file appears whole and a folder is only the beginning of names."""

    def __init__(self, place: str, filesystem: FileSystem, root: str) -> None:
        """Name the place.

        Args:
            place: as people write it.
            filesystem: the store.
            root: of the checkpoint, as the store has it.
        """
        self.place = place
        self._filesystem = filesystem
        self._root = root
        self._begun = False

    def read(self, name: str) -> str:
        """Read an object."""
        with self._filesystem.open_input_stream(f"{self._root}/{name}") as file:
            return bytes(file.read()).decode("utf-8")

    def names(self, part: str) -> list[str]:
        """Return the names of what lies under a name."""
        return [path.rpartition("/")[2] for path in self._paths(f"{self._root}/{part}")]

    def begin(self) -> None:
        """Note it: there are no empty folders."""
        self._begun = True

    def replace(self, name: str, text: str) -> None:
        """Write an object, unless it would be the only one of what somebody has moved away."""
        if not self._begun and not self._paths(self._root):
            raise FileNotFoundError(f"there is no checkpoint at {self.place}")
        self._begun = False
        with self._filesystem.open_output_stream(f"{self._root}/{name}") as file:
            file.write(text.encode())

    def set_aside(self, last: str) -> str:
        """Copy each object and delete it."""
        parent, _, name = self._root.rpartition("/")
        taken = {path.removeprefix(f"{parent}/{ASIDE}/").partition("/")[0] for path in self._paths(f"{parent}/{ASIDE}")}
        number = next(n for n in range(1, len(taken) + 2) if f"{name}-{n}" not in taken)
        target = f"{parent}/{ASIDE}/{name}-{number}"
        for path in sorted(self._paths(self._root), key=lambda path: path == f"{self._root}/{last}"):
            self._filesystem.move(path, f"{target}{path.removeprefix(self._root)}")
        return f"{self.place.rpartition('/')[0]}/{ASIDE}/{name}-{number}"

    def _paths(self, root: str) -> list[str]:
        found = self._filesystem.get_file_info(FileSelector(root, recursive=True, allow_not_found=True))
        return [info.path for info in found if info.is_file]


def can_look_into(place: str) -> bool:
    """Tell whether files at a place can be read here: a folder's, and S3's."""
    return "://" not in place or place.startswith(("s3://", "s3a://"))


def files_at(place: str) -> CheckpointFiles:
    """Return a place's files; nothing is asked yet, but where a bucket is."""
    return LocalFiles(place) if "://" not in place else _stored(place)


@lru_cache(maxsize=16)
def _stored(place: str) -> StoredFiles:
    # Kept: opening a store asks it for its region, and a micro-batch looks twice.
    filesystem, root = FileSystem.from_uri(place.replace("s3a://", "s3://", 1))
    return StoredFiles(place, filesystem, str(root).rstrip("/"))
