"""Download datasets: plan, fetch, unpack into a temporary folder, compare with the labels, move into place.

The files come from the Hugging Face hub, from a URL, or from a git repository at a fixed commit. An archive
stays in the cache folder until its dataset is in place, even if a later step fails.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from liqe_core.crops import CropGeometry
from liqe_core.data.archives import DamagedArchiveError, Place, place_files, place_images, unpack
from liqe_core.data.distorted import sets_to_fetch
from liqe_core.data.label_forms import FORMS
from liqe_core.data.manifest_fields import FileFields, HubFields, RepositoryFields
from liqe_core.data.manifests import AnyPath, Manifest
from liqe_core.data.presence import MissingImagesError, find_images, refuse_missing
from liqe_core.data.released_labels import label_folder, read_released
from liqe_core.data.tables import LabelError
from liqe_core.data.verification import CORRUPT, journal_of, status
from liqe_core.files import atomic_path, cache_dir, file_sha256, first_few, only_one
from liqe_core.images import list_images
from liqe_core.intake.progress import tqdm
from liqe_core.intake.transfers import FetchError, RemoteFile, fetch_file, hub_file


class FetchPlan(NamedTuple):
    """Source and size of the download of one dataset.

    Attributes:
        source: repositories or URLs; empty if the dataset must be downloaded by hand.
        transfer, unpacked: sizes in bytes; None if the manifest does not state them.
        done: whether the dataset is already complete.
    """

    manifest: Manifest
    source: str
    transfer: int | None
    unpacked: int | None
    done: bool

    @property
    def decoded(self) -> int | None:
        """Additional bytes that training needs for decoded images; None if unknown."""
        return self.manifest.decoded_bytes(CropGeometry())

    @property
    def terms(self) -> str:
        """The licence and the page with the terms of the owners."""
        licence = self.manifest.terms.licence or "no licence stated"
        return ", see ".join(filter(None, [licence, self.manifest.page]))


def plan_fetch(manifest: Manifest, root: AnyPath = None, labels: AnyPath = None) -> FetchPlan:
    """Plan the download by `fetch_dataset` without network access."""
    if manifest.form == "distorted":  # complete once the photographs are present; images are made later
        done = manifest.name not in sets_to_fetch(manifest, manifest.folder(root))
    else:
        done = status(manifest, root, labels).state == "complete"
    if not manifest.hosted:
        urls = [source.url for source in manifest.repositories or manifest.archives]
        return FetchPlan(manifest, ", ".join(filter(None, urls)), None, None, done)
    files: list[HubFields | FileFields] = [*manifest.hosted, *manifest.files]
    fetched = sum(path.stat().st_size for path in _archives_folder(manifest).glob("*") if path.is_file())
    transfer = max(0, sum(file.bytes or 0 for file in files) - fetched)
    unpacked = sum(file.unpacked or file.bytes or 0 for file in files)
    sources = ", ".join(sorted({file.repository for file in manifest.hosted}))
    return FetchPlan(manifest, sources, transfer, unpacked, done)


def without_hub(manifest: Manifest) -> Manifest:
    """Return the manifest without its files on the hub, so that the authors' own URL is used."""
    return manifest.model_copy(update={"hosted": []})


def check_room(plans: Sequence[FetchPlan], root: AnyPath = None) -> str:
    """Compare the disk space that the plans need with the free space.

    An archive stays in the cache folder until its content is in place, so the cache holds one at a time.

    Returns:
        One line per disk with the needed and the free space.

    Raises:
        FetchError: a disk has too little space; names the disk and the space needed.
    """
    needed = Counter({disk_of(cache_dir("archives")): max(plan.transfer or 0 for plan in plans)})
    for plan in plans:
        needed[disk_of(plan.manifest.root(root))] += plan.unpacked or 0
    packed_folder, decoded = cache_dir("store"), sum(plan.decoded or 0 for plan in plans)
    lines = [f"{packed_folder}: at most {readable_size(decoded)} more if training or testing uses all images"]
    for disk, size in needed.items():
        free = shutil.disk_usage(disk).free
        lines.append(f"{disk}: at most {readable_size(size)} needed, {readable_size(free)} free")
        if size > free:
            raise FetchError(f"{lines[-1]}; make room, or set LIQE_DATA (images), LIQE_CACHE (archives)")
    return "\n".join(lines)


def readable_size(count: int | None) -> str:
    """Format a number of bytes for display."""
    return "unknown" if count is None else tqdm.format_sizeof(count, "B")


def disk_of(folder: Path) -> Path:
    """Return the mount point of the disk of a folder, which need not exist yet."""
    folder = folder.expanduser().absolute()
    return next(path for path in (folder, *folder.parents) if os.path.ismount(path))


def fetch_dataset(
    manifest: Manifest,
    root: AnyPath = None,
    source: AnyPath = None,
    labels: AnyPath = None,
    missing: str = "error",
    progress: bool = True,
) -> Path:
    """Download a dataset and move it into place.

    Images that already exist are kept, except those that `verify` found to be corrupt. Only the images that
    the labels name are unpacked from an archive; all of them are checked for presence and size before any is
    moved into place. A repository is used at the commit of the manifest.

    Args:
        root: the folder of all datasets.
        source: replaces the source of the manifest: a local archive; for a repository a clone or another URL;
            for several repositories a folder with a clone of each as ``owner/name``.
        labels: a clone of zwx8981/LIQE, see `read_labels`.
        missing: ``error``: reject an archive with missing images; ``skip``: use the images that it contains.
            Archives that are incomplete by the manifest (`HubFields.partial`) are always handled like that.

    Returns:
        The folder of the dataset.

    Raises:
        FetchError: the dataset must be downloaded by hand (the message says where); `fetch_file`, `unpack`
            or `place_images` failed; images have another size. Archives are kept, nothing is moved.
        MissingImagesError: images are missing from the archive.
        LabelError: the label files of one of the six training sets cannot be read.
    """
    if missing not in ("error", "skip"):
        raise ValueError(f"missing is {missing!r}: choose error or skip")
    now = status(manifest, root, labels)
    if not manifest.can_be_fetched:
        raise FetchError(f"{manifest.name} must be downloaded by hand: {now.next}")
    if now.state == "complete":
        return manifest.folder(root)
    missing = "skip" if any(file.partial for file in manifest.hosted) else missing
    target = manifest.folder(root).resolve()
    with only_one(target, doing="fetching"), _staged(manifest, target) as staging:
        files = {file.name: RemoteFile(file.url, file.sha256) for file in manifest.files}
        files |= {file.name: _hub_file(file) for file in manifest.hosted if file.name}
        for name, remote in files.items():  # mostly label files
            fetch_file(remote, staging / name, progress)
        find_labelled = partial(_labelled_images, manifest, [staging, target], labels)
        for archive, places in _archives(manifest, source, _places(manifest, find_labelled), progress):
            unpack(archive, staging, places, progress=progress)
        if not manifest.repositories:  # for repositories, `status` reports what is missing
            _refuse_incomplete(manifest, staging, find_labelled(), missing)
        _put_in_place(staging, target, manifest, root)
    shutil.rmtree(_archives_folder(manifest), ignore_errors=True)
    return target


def unpack_dataset(
    manifest: Manifest, archive: str | os.PathLike, root: AnyPath, password: str | None, progress: bool = True
) -> Path:
    """Unpack a local archive: its label files and the images that the labels name.

    Returns:
        The folder of the dataset.

    Raises:
        FetchError: see `unpack`.
        LabelError: the labels are neither in the archive nor in the folder.
    """
    target = manifest.folder(root)
    places = _places(manifest, partial(_labelled_images, manifest, [target], None))
    unpack(Path(archive), target, places, password, progress)
    return target


def is_hub_archive(manifest: Manifest, archive: str | os.PathLike) -> bool:
    """Whether an archive has the name of an archive on the hub; `fetch_dataset` accepts it as `source`."""
    return any(Path(file.file).name == Path(archive).name for file in manifest.hosted if not file.name)


def _archives_folder(manifest: Manifest) -> Path:
    return cache_dir("archives") / manifest.name


@contextlib.contextmanager
def _staged(manifest: Manifest, target: Path) -> Iterator[Path]:
    """Provide a hidden temporary folder beside `target`; errors name the archives that are kept."""
    archives_folder, staging = _archives_folder(manifest), target.with_name(f".{target.name}.fetching")
    shutil.rmtree(staging, ignore_errors=True)  # left by a killed process
    staging.mkdir(parents=True)
    try:
        yield staging
    except (FetchError, MissingImagesError, LabelError) as error:
        if isinstance(error, DamagedArchiveError) and not manifest.hosted:  # no checksum is known
            shutil.rmtree(archives_folder, ignore_errors=True)  # so that the next call downloads it again
        archives = [str(path) for path in sorted(archives_folder.glob("[!.]*")) if path.is_file()]
        kept = f"; kept for the next call: {', '.join(archives)}" if archives else ""
        raise type(error)(f"{error}{kept}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _hub_file(file: HubFields) -> RemoteFile:
    return hub_file(file.repository, file.file, file.revision, file.sha256)


def _places(manifest: Manifest, find_labelled: Callable[[], list[str]]) -> list[Place]:
    """Return the functions that place an archive's files: label files first, then the labelled images."""
    fields = manifest.labels
    groups = [fields.file, [fields.train], [fields.test]] if fields else []
    groups.append([manifest.reference_map or ""])
    places: list[Place] = [partial(place_files, files=group) for group in groups if any(group)]
    return [*places, lambda members: place_images(members, find_labelled(), manifest.name)]


def _archives(
    manifest: Manifest, source: AnyPath, places: list[Place], progress: bool
) -> Iterator[tuple[Path, list[Place]]]:
    """Fetch a dataset's archives one by one; yield each with the functions that place its files."""
    archives_folder, own = _archives_folder(manifest), Path(source).expanduser() if source else None
    for file in [file for file in manifest.hosted if not file.name]:
        path = own or archives_folder / Path(file.file).name
        if own is None:
            fetch_file(_hub_file(file), path, progress)
        elif own.is_file() and file.sha256 not in (None, file_sha256(own)):
            raise FetchError(
                f"{own}: SHA-256 differs from {file.file} on the hub; rename it, or download that file"
            )
        yield path, places
    if manifest.hosted:
        return
    for repository in manifest.repositories:
        yield _git_archive(manifest, repository, source, progress), [lambda names: {n: n for n in names}]
    for archive in manifest.archives:
        if archive.url:
            path = own or archives_folder / archive.name
            if own is None:
                fetch_file(RemoteFile(archive.url, archive.sha256), path, progress)
            yield path, places


def _git_archive(manifest: Manifest, repository: RepositoryFields, source: AnyPath, progress: bool) -> Path:
    """Write a repository's folder `path` at its commit, renamed to `into`, to an archive in the cache."""
    url, commit = repository.url, repository.commit
    archive = _archives_folder(manifest) / f"{'-'.join(url.split('/')[-2:])}@{commit[:12]}.tar"
    if archive.is_file():
        return archive
    clone = Path(source).expanduser() if source else archive
    if clone.is_dir() and len(manifest.repositories) > 1:
        clone = clone.joinpath(*url.split("/")[-2:])
        clone = clone if clone.is_dir() else clone.with_name(f"{clone.name}.git")  # a bare one
        if not clone.is_dir():
            raise FetchError(f"{clone}: no such clone; the dataset also needs {url}")
    if not clone.is_dir():
        clone = archive.with_suffix(".git")
        _git(clone, "init", "--quiet", "--bare", about=url)
        # With a single commit, git fetches its files without the history.
        _git(clone, "fetch", "--depth", "1", str(source or url), commit, about=url, progress=progress)
    with atomic_path(archive) as part:
        form = ["--format=tar", f"--prefix={repository.into or '.'}/", f"--output={part}"]
        _git(clone, "archive", *form, f"{commit}:{repository.path}", about=url)
    shutil.rmtree(archive.with_suffix(".git"), ignore_errors=True)
    return archive


def _git(folder: Path, *arguments: str, about: str, progress: bool = False) -> None:
    if shutil.which("git") is None:
        raise FetchError(f"{about}: git is required but not installed; install git")
    folder.mkdir(parents=True, exist_ok=True)
    # The repository may belong to another user; the commands used here run nothing in it.
    command = ["git", "-C", str(folder), "-c", "safe.directory=*", "-c", "core.autocrlf=false", *arguments]
    stderr = None if progress and sys.stderr.isatty() else subprocess.PIPE  # None: git shows its progress
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    run = subprocess.run(command, stderr=stderr, text=True, env=environment, check=False)
    if run.returncode:
        lines = (run.stderr or "").strip().splitlines() or [f"exit status {run.returncode}"]
        raise FetchError(f"{about}: git {arguments[0]}: {lines[-1]}")


def _labelled_images(manifest: Manifest, folders: Sequence[Path], labels: AnyPath) -> list[str]:
    """Return the images that the labels name, from the first of `folders` with a label file.

    Raises:
        LabelError: the label file is missing or cannot be read.
    """
    if manifest.form == "liqe":
        return read_released(manifest, label_folder(labels))["image"].tolist()
    names = manifest.labels.file if manifest.labels else []
    holding = [folder for folder in folders if any((folder / name).exists() for name in names)]
    return FORMS[manifest.form](manifest, [*holding, folders[-1]][0])["image"].tolist()


def _refuse_incomplete(manifest: Manifest, staging: Path, images: list[str], missing: str) -> None:
    """Raise an error if labelled images are missing or differ in size from the manifest."""
    found = find_images(images, staging, manifest.image_folders)
    advice = f"nothing was moved into place; get the dataset from {manifest.page or 'its authors'}"
    if missing == "error":
        refuse_missing(found, manifest.name, f"{advice}, or use the images that exist (--missing skip)")
    wrong = []
    for file in found["file"].dropna() if manifest.image_size else ():
        with contextlib.suppress(OSError), Image.open(staging / file) as image:  # `verify` opens each again
            if image.size != manifest.image_size:
                wrong.append(f"{file} is {image.width} x {image.height}")
    if wrong:
        raise FetchError(f"{manifest.name}: images with an unexpected size ({first_few(wrong)}); {advice}")


def _put_in_place(staging: Path, target: Path, manifest: Manifest, root: AnyPath) -> None:
    """Move files to the folder of the dataset; existing files are kept, except corrupt images."""
    present = {name.lower(): name for name in list_images(target)}  # names may differ in case
    entries = journal_of(manifest, root).current()
    for path in sorted(path for path in staging.rglob("*") if path.is_file()):
        staged = path.relative_to(staging).as_posix()
        name = present.get(staged.lower(), staged)
        if not (target / name).exists() or entries.get(name, {}).get("problem") in CORRUPT:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target / name)
