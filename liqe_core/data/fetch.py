"""Getting a data set: the ones that are open by themselves, the others from archives that you have."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from liqe_core.data.archives import DamagedArchiveError, member_names, unpack
from liqe_core.data.hosted import fetch_hosted
from liqe_core.data.manifests import Manifest
from liqe_core.files import atomic_path, cache_dir, only_one
from liqe_core.intake.downloads import download
from liqe_core.intake.hub import FetchError, check, note


def fetch_dataset(
    manifest: Manifest,
    root: str | os.PathLike | None = None,
    how: str = "archive",
    mirror: str | os.PathLike | None = None,
    progress: bool = True,
    labels: str | os.PathLike | None = None,
    missing: str = "error",
) -> Path:
    """Get a data set that a program may get.

    A set that the hub has comes from there (`fetch_hosted`). A set from a public repository is unpacked
    beside its place, compared with the pinned commit file by file (the hash that git itself keeps of all of
    them), and only then put in its place. Archives from the authors' own address stay in the cache folder, so
    that a second call has nothing to fetch.

    Args:
        root: the folder that data sets are in.
        how: ``archive``; ``git``, for a set in a repository; ``direct``: from the authors' own address where
            the hub has it too.
        mirror: in place of the address in the manifest: a clone or an archive on this machine, or an address.
            For a set from several repositories, a folder with a clone of each as ``owner/name``; for a set of
            the hub, the archive.
        labels, missing: see `fetch_hosted`.

    Returns:
        The data set's folder.

    Raises:
        FetchError: it has no address for programs (says where it is), something else lies in its place, or
            the transfer fails; what came is kept and the next call goes on.
    """
    if how not in ("archive", "git", "direct"):
        raise ValueError(f"how is {how!r}: choose archive or git, or direct")
    if manifest.hosted and how != "direct":
        return fetch_hosted(manifest, root, mirror, labels, missing, progress)
    target = manifest.folder(root)
    for repository in manifest.repositories:
        of = mirror if mirror is None or len(manifest.repositories) == 1 else _clone_in(mirror, repository)
        _fetch_repository(manifest, repository, target / repository.get("into", ""), how, of, progress)
    if manifest.repositories:
        return target
    archives = [a for a in manifest.fields.get("archives", ()) if a.get("url")]
    if not archives:
        raise FetchError(
            f"{manifest.name} cannot be fetched without you: get it from {manifest.where or 'its authors'}"
            + (" (a form asks who you are)" if manifest.access == "form" else "")
            + f", then: liqe data unpack {manifest.argument} ARCHIVE"
        )
    for archive in archives:
        path = cache_dir("archives") / archive["name"]
        if archive.get("sha256") or not path.is_file():
            download(archive["url"], path, sha256=archive.get("sha256"), progress=progress)
        check(path, archive["url"], archive.get("sha256"))
        with _thrown_away_if_damaged(path):
            unpack_dataset(manifest, path, root, progress=progress)
        note(path, archive["url"], archive.get("sha256"))
    return target


def unpack_dataset(
    manifest: Manifest,
    archive: str | os.PathLike,
    root: str | os.PathLike | None = None,
    password: str | None = None,
    progress: bool = True,
    labels: str | os.PathLike | None = None,
    missing: str = "error",
) -> Path:
    """Unpack an archive that you have to where the labels expect its pictures.

    One that is called like the hub's is taken for that, checked, and unpacked as `fetch_hosted` does.

    Archives differ in how many folders they put around the pictures; as many are left off as needed for the
    manifest's picture folder to lie right below the data set's.

    Args:
        labels, missing: see `fetch_hosted`.

    Returns:
        The data set's folder.

    Raises:
        FetchError: see `unpack`.
    """
    target = manifest.folder(root)
    if any(Path(of["file"]).name == Path(archive).name for of in manifest.hosted if "take" in of):
        return fetch_hosted(manifest, root, archive, labels, missing, progress)
    strip = _strip(manifest, member_names(archive, password))
    unpack(archive, target, strip=strip, password=password, progress=progress)
    return target


def _strip(manifest: Manifest, names: Sequence[tuple[str, ...]]) -> int:
    """How many leading folders of an archive's members to leave off."""
    picture_folders = {folder.lower() for folder in manifest.pictures if folder != "."}
    depths = {
        depth for name in names for depth, part in enumerate(name[:-1]) if part.lower() in picture_folders
    }
    if depths:
        return min(depths)
    tops = {name[0].lower() for name in names if len(name) > 1}
    own = {folder.lower() for folder in (*manifest.folders, manifest.name)}
    return 1 if len(tops) == 1 and tops <= own and all(len(name) > 1 for name in names) else 0


def git_tree(folder: str | os.PathLike[str]) -> str:
    """The hash that git gives the content of a folder: of every name and every byte in it.

    Files count as not executable; hidden ones and empty folders are left out.
    """
    entries = []
    for entry in os.scandir(os.fspath(folder)):
        if entry.name.startswith("."):
            continue
        name = os.fsencode(entry.name)
        if entry.is_dir(follow_symlinks=False):
            # git sorts a folder as if its name ended in a slash.
            entries.append((name + b"/", b"40000 " + name + b"\0" + bytes.fromhex(git_tree(entry.path))))
        else:
            content = Path(entry.path).read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
            entries.append((name, b"100644 " + name + b"\0" + blob.digest()))
    body = b"".join(entry for _, entry in sorted(entries))
    return hashlib.sha1(b"tree %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def _clone_in(mirror: str | os.PathLike, repository: Mapping[str, str]) -> Path:
    """The clone of one of several repositories; a bare one may have ``.git`` after its name."""
    place = Path(mirror).expanduser().joinpath(*repository["url"].split("/")[-2:])
    found = next((p for p in (place, place.with_name(f"{place.name}.git")) if p.is_dir()), None)
    if found is None:
        raise FetchError(f"{place}: no such clone; the set comes from {repository['url']} too")
    return found


def _fetch_repository(
    manifest: Manifest, repository: Mapping[str, str], target: Path, how: str, mirror, progress: bool
) -> None:
    commit, path = repository["commit"], repository.get("path", "")
    with only_one(target, doing="fetching"):
        if target.is_dir() and any(target.iterdir()):
            if git_tree(target) == repository["tree"]:
                return
            raise FetchError(
                f"{target}: there already, and not what commit {commit[:7]} holds; if it is your own copy, "
                "run verify, else move it away and fetch again"
            )
        staging = target.with_name(f".{target.name}.fetching")
        local = Path(mirror).expanduser() if mirror is not None else None
        if local and local.is_dir():
            archive = _git_archive(local, commit, path)
        elif local and local.is_file():
            archive = local
        elif how == "git":
            clone = _shallow_clone(str(mirror or repository["url"]), commit, progress)
            archive = _git_archive(clone, commit, path)
        else:
            archive = cache_dir("archives") / f"{manifest.name}-{commit[:12]}.zip"
            if not archive.is_file():
                download(str(mirror or repository["archive"]), archive, progress=progress)
        folders = tuple(path.split("/")) if path else ()
        with _thrown_away_if_damaged(archive):
            # An archive made by a web server has one folder around everything, one made by git has none.
            names = member_names(archive)
            around = len({name[0] for name in names}) == 1 and names[0][:1] != folders[:1]
            unpack(archive, staging, strip=int(around), only=folders, progress=progress)
            if git_tree(staging) != repository["tree"]:
                shutil.rmtree(staging)
                raise DamagedArchiveError(
                    f"{archive}: not the content of commit {commit[:7]}; fetch it again"
                )
        if target.is_dir():
            target.rmdir()
        os.replace(staging, target)
        if _is_ours(archive):
            archive.unlink()  # its content is in place now


def _is_ours(archive: Path) -> bool:
    return archive.is_relative_to(cache_dir("archives"))


@contextlib.contextmanager
def _thrown_away_if_damaged(archive: Path) -> Iterator[None]:
    """So that the next call fetches it again; an archive of the user's own stays."""
    try:
        yield
    except DamagedArchiveError:
        if _is_ours(archive):
            archive.unlink()
        raise


def _git_archive(repository: Path, commit: str, path: str = "") -> Path:
    """An archive of one commit, or a folder of it, of a clone (bare or not) on this machine."""
    archive = cache_dir("archives") / f"{'-'.join([commit, *filter(None, path.split('/'))])}.tar"
    if not archive.is_file():
        what = ("archive", "--format=tar", "-o")
        with atomic_path(archive) as part:
            _git(*what, str(part), commit, *filter(None, [path]), what=str(repository), folder=repository)
    return archive


def _shallow_clone(url: str, commit: str, progress: bool) -> Path:
    """A bare repository in the cache with that one commit in it."""
    path = cache_dir("git") / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.git"
    if not path.is_dir():
        _git("init", "--quiet", "--bare", str(path), what=str(path))
    quiet = () if progress else ("--quiet",)
    # Pointed at one commit, git fetches its files and no history.
    _git("fetch", *quiet, "--depth", "1", url, commit, what=url, folder=path)
    return path


def _git(verb: str, *arguments: str, what: str, folder: Path = Path()) -> None:
    if shutil.which("git") is None:
        raise FetchError("git is not installed; install it, or fetch the archive (how='archive')")
    # The repository may belong to somebody else; nothing in it is run by the commands used here.
    command = ["git", "-C", str(folder), "-c", "safe.directory=*", verb, *arguments]
    run = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"GIT_TERMINAL_PROMPT": "0"}, check=False
    )
    if run.returncode:
        said = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        raise FetchError(f"{what}: git {verb}: {said}")
