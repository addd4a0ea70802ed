"""Runs the benchmarks: called by `run`, inside of the root with the peers.

Every work is done RUNS times by each tool, in turn (peer, mkgold, peer, ...), and
the median counts. What a work starts from is made before the clock starts, and is the
same for both: packages and indices downloaded, nothing unpacked ("first"); the project
built ("added", "extra", "nothing").
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
PROJECT = HERE / "project"
ADDED = "curl"
# work: (peer's name, floor on tmpfs, floor on disk)
FLOORS = {
    "first": (3, 4),
    "added": (8, 8),
    "extra": (8, 15),
    "nothing": (50, 100),
    "tree": (2, 3),
    "summary": (10, 10),
}
IMAGES = 25


class Tool:
    """A tool with its project and directories under one root."""

    def __init__(self, name, root, mirror):
        self.name, self.root, self.mirror = name, root / name, mirror
        self.project = self.root / "project"

    def reset(self):
        """Nothing but the downloads is left."""
        for path in self.root.glob("*") if self.root.exists() else []:
            if path.name != "downloads":
                shutil.rmtree(path)
        for name in ["out", "cache", "work", "downloads"]:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        shutil.copytree(PROJECT, self.project)
        self.sources()

    def sources(self):
        """Release, updates and security of the mirror: all mirrors have these."""
        directory = self.project / "mkosi.sandbox/etc/apt/sources.list.d"
        directory.mkdir(parents=True)
        key = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
        suites = [(self.mirror, "trixie trixie-updates"), (self.mirror + "-security", "trixie-security")]
        stanzas = [
            f"Types: deb\nURIs: {uri}\nSuites: {names}\nComponents: main\n{key}\n" for uri, names in suites
        ]
        (directory / "mkosi.sources").write_text("\n".join(stanzas))

    def add_package(self):
        with open(self.project / "mkosi.conf", "a") as file:
            file.write(f"        {ADDED}\n")

    def change_extra(self, text):
        (self.project / "mkosi.extra/etc/motd").write_text(text)

    def directories(self):
        return [
            f"--output-directory={self.root}/out",
            f"--package-cache-directory={self.root}/downloads",
            f"--mirror={self.mirror}",
        ]


class Mkosi(Tool):
    def build(self, incremental=False, only="always"):
        more = [f"--cache-directory={self.root}/cache", "--incremental=yes"] if incremental else []
        return (
            ["mkosi", "--force", *self.directories(), f"--workspace-directory={self.root}/work"]
            + [f"--cache-only={only}", *more, "build"],
            self.project,
        )


class Mkgold(Tool):
    def build(self, *options, only="always"):
        return (
            ["mkgold", "--force", *self.directories(), f"--cache-directory={self.root}/cache"]
            + [f"--cache-only={only}", *options, "build"],
            self.project,
        )


class Mmdebstrap(Tool):
    """Its packages lie in a local repository: nothing is downloaded, but copied."""

    def packages(self):
        lines = (PROJECT / "mkosi.conf").read_text().split("Packages=")[1].split()
        return ",".join(lines)

    def build(self, tar=False):
        target = self.root / ("out/tree.tar" if tar else "out/tree")
        mode = "unshare" if tar else "root"
        return (
            ["mmdebstrap", f"--mode={mode}", "--variant=essential", "--format=" + ("tar" if tar else "directory")]
            + [f"--include={self.packages()}", '--aptopt=Apt::Install-Recommends "false"']
            + ["--dpkgopt=path-exclude=/usr/share/doc/*", "trixie", str(target)]
            + [f"deb [trusted=yes] copy://{self.root}/repository ./"],
            self.root,
        )

    def reset(self):
        shutil.rmtree(self.root / "out", ignore_errors=True)
        (self.root / "out").mkdir(parents=True)

    def repository(self, debs):
        """Makes it of the .debs that mkosi downloaded."""
        directory = self.root / "repository"
        directory.mkdir(parents=True, exist_ok=True)
        for deb in debs:
            shutil.copy(deb, directory)
        index = subprocess.run(
            ["dpkg-scanpackages", "--multiversion", "."], cwd=directory, check=True,
            capture_output=True, text=True,
        ).stdout
        (directory / "Packages").write_text(index)
        digest = hashlib.sha256(index.encode()).hexdigest()
        # mmdebstrap finds the essential packages by the name of the release.
        (directory / "Release").write_text(
            f"Suite: stable\nCodename: trixie\nDate: {time.strftime('%a, %d %b %Y %H:%M:%S UTC', time.gmtime())}\n"
            f"SHA256:\n {digest} {len(index.encode())} Packages\n"
        )
        for path in [self.root, *self.root.parents]:
            path.chmod(path.stat().st_mode | 0o055)


def run(work, log, settle=0):
    """Wall time, CPU time and the largest process of a command, after `settle` seconds."""
    command, cwd = work
    os.sync()
    time.sleep(settle)
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    if status != 0:
        log.flush()
        sys.exit(f"{' '.join(command)}: failed, see {log.name}")
    return {
        "wall": round(wall, 3),
        "user": round(usage.ru_utime, 3),
        "system": round(usage.ru_stime, 3),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
    }


def many(project):
    """A project of many images, each with drop-ins, conditions and packages of its own."""

    def write(name, *lines):
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")

    images = [f"image{number:02}" for number in range(IMAGES - 1)]
    write(
        "mkosi.conf", "[Config]", f"Dependencies={','.join(images)}", "[Distribution]", "Distribution=debian",
        "Release=trixie", "[Output]", "ImageId=fleet", "[Content]", "Packages=systemd,udev,dbus",
        "[Build]", "Environment=FLEET=yes",
    )  # fmt: skip
    write("mkosi.conf.d/10-arch.conf", "[Match]", "Architecture=x86-64", "[Content]", "Packages=linux-image-amd64")
    write("mkosi.profiles/debug/mkosi.conf", "[Content]", "Packages=gdb,strace")
    for number, name in enumerate(images):
        directory = f"mkosi.images/{name}"
        write(
            f"{directory}/mkosi.conf", "[Output]", "Format=directory", f"Output=%i-{name}", "[Content]",
            *[f"Packages=package{number}-{other}" for other in range(20)],
        )  # fmt: skip
        write(f"{directory}/mkosi.conf.d/10-old.conf", "[Match]", "Release=bookworm", "[Content]", "Packages=old")
        write(f"{directory}/mkosi.conf.d/20-new.conf", "[Match]", "Release=trixie", "[Content]", f"KernelCommandLine=role={name}")
        write(f"{directory}/mkosi.extra/etc/role", name)


class Bench:
    def __init__(self, root, mirror, runs, settle, log):
        self.mkosi = Mkosi("mkosi", root, mirror)
        self.mkgold = Mkgold("mkgold", root, mirror)
        self.mmdebstrap = Mmdebstrap("mmdebstrap", root, mirror)
        self.runs, self.settle, self.log, self.results = runs, settle, log, {}

    def download(self):
        """What is not measured: everything that later runs find in their caches."""
        self.mkosi.reset()
        self.mkosi.add_package()
        run(self.mkosi.build(only="never"), self.log)
        self.mkgold.reset()
        self.mkgold.add_package()
        run(self.mkgold.build(only="never"), self.log)
        self.mmdebstrap.repository((self.mkosi.root / "downloads").rglob("*.deb"))

    def record(self, work, who, result):
        self.results.setdefault(work, {}).setdefault(who, []).append(result)
        print(f"  {work:8} {who:24} {result['wall']:8.2f} s {result['peak_mib']:7.0f} MiB", flush=True)

    def first(self):
        for tool, name in [(self.mkosi, "mkosi"), (self.mkgold, "mkgold")]:
            tool.reset()
            self.record("first", name, run(tool.build(), self.log, self.settle))
        # Built once: one package more, mkosi's plain way.
        self.mkosi.add_package()
        self.record("added", "mkosi", run(self.mkosi.build(), self.log, self.settle))

    def steps(self):
        mkosi, mkgold = self.mkosi, self.mkgold
        mkosi.reset()
        run(mkosi.build(incremental=True), self.log, self.settle)
        mkgold.reset()
        run(mkgold.build(), self.log, self.settle)
        for work, change in [
            ("nothing", lambda tool: None),
            ("extra", lambda tool: tool.change_extra(f"A golden image, {time.time()}.\n")),
            ("added", lambda tool: tool.add_package()),
        ]:
            for tool in [mkosi, mkgold]:
                change(tool)
            self.record(work, "mkosi Incremental=yes", run(mkosi.build(incremental=True), self.log, self.settle))
            self.record(work, "mkgold", run(mkgold.build(), self.log, self.settle))

    def tree(self):
        self.mmdebstrap.reset()
        self.record("tree", "mmdebstrap", run(self.mmdebstrap.build(), self.log, self.settle))
        self.mmdebstrap.reset()
        self.record("tree", "mmdebstrap to tar", run(self.mmdebstrap.build(tar=True), self.log, self.settle))
        self.mmdebstrap.reset()
        for output, options in [("directory", []), ("tar", ["--compress-output=no"])]:
            self.mkgold.reset()
            name = "mkgold" if output == "directory" else "mkgold to tar"
            plain = [f"--format={output}", "--bootable=no", *options]
            self.record("tree", name, run(self.mkgold.build(*plain), self.log, self.settle))

    def summary(self):
        """The configuration of a project of many images, read and written as JSON."""
        for tool, name in [(self.mkosi, "mkosi"), (self.mkgold, "mkgold")]:
            shutil.rmtree(tool.root / "many", ignore_errors=True)
            many(tool.root / "many")
            work = ([name, "--json", "summary"], tool.root / "many")
            self.record("summary", name, run(work, self.log, self.settle))

    def all(self, only, save):
        """`save`s what was measured after each run."""
        if only != ["summary"]:
            self.download()
        for number in range(self.runs):
            print(f" run {number + 1} of {self.runs}", flush=True)
            for part in [self.first, self.steps, self.tree, self.summary]:
                if not only or part.__name__ in only:
                    part()
            save(self.results)


def median(results):
    return statistics.median(result["wall"] for result in results)


def table(media):
    """Medians, mkgold's against the peer's best of the same kind."""
    lines = ["| work | medium | peer's best | s | mkgold s | ratio | floor |", "|---|---|---|---|---|---|---|"]
    peaks = {}
    for number, (medium, results) in enumerate(sorted(media.items(), reverse=True)):
        for work, floors in FLOORS.items():
            if work not in results:
                continue
            # A tar is compared with a tar; the smallest ratio counts.
            pairs = []
            for kind in [False, True]:
                same = {n: median(r) for n, r in results[work].items() if n.endswith(" to tar") == kind}
                peers = {n: s for n, s in same.items() if not n.startswith("mkgold")}
                pairs += [(min(peers, key=peers.get), same, peers)] if peers else []
            ratios = [(p[n] / max(s for m, s in same.items() if m not in p), n, same, p) for n, same, p in pairs]
            ratio, peer, same, peers = min(ratios, key=lambda r: r[0])
            mine = max(s for n, s in same.items() if n not in peers)
            floor = floors[medium == "disk"]
            mark = "" if ratio >= floor else " MISSED"
            lines.append(
                f"| {work} | {medium} | {peer} | {peers[peer]:.2f} | {mine:.2f} | {ratio:.1f}× | {floor}×{mark} |"
            )
            for name, runs in results[work].items():
                who = name.split()[0]
                peaks[who] = max(peaks.get(who, 0), *(r["peak_mib"] for r in runs))
    lines += ["", "Largest process: " + ", ".join(f"{n} {p:.0f} MiB" for n, p in sorted(peaks.items()))]
    return "\n".join(lines)


def version(command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip().splitlines()[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mirror", required=True)
    parser.add_argument("--media", default="tmpfs,disk")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    results, only = {}, [name for name in arguments.only.split(",") if name]
    versions = {
        "mkgold": version(["mkgold", "--version"]),
        "mkosi": version(["mkosi", "--version"]),
        "mmdebstrap": version(["mmdebstrap", "--version"]),
        "kernel": os.uname().release,
        "cpus": os.cpu_count(),
    }
    stamp = time.strftime("%Y-%m-%dT%H%M", time.gmtime())

    def save(medium, measured):
        results[medium] = measured
        report = json.dumps({"versions": versions, "media": results}, indent=1)
        (HERE / "results" / f"{stamp}.json").write_text(report + "\n")

    for medium in arguments.media.split(","):
        print(medium, flush=True)
        # Making a file, ext4 looks at every inode near it that was removed within the last
        # minute: up to five seconds for a tree, billed to whoever comes after a deletion.
        settle = 0 if medium == "tmpfs" else 65
        if medium == "tmpfs":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=14G,mode=755", "tmpfs", "/bench"], check=True)
        else:
            subprocess.run(["mount", "--bind", "/disk", "/bench"], check=True)
        with open("/disk/log", "a") as log:
            bench = Bench(pathlib.Path("/bench/b"), arguments.mirror, arguments.runs, settle, log)
            bench.all(only, lambda measured: save(medium, measured))
        shutil.rmtree("/bench/b")
        subprocess.run(["umount", "/bench"], check=True)
    print(table(results))


main()
