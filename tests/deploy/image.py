"""The steps of deploy/Dockerfile, done one by one in a directory that stands for the image's root.

There is no container engine here, so what an engine would do is done by hand, and what belongs to
the distribution (its packages, its users) is taken from the host. Absolute paths in the file become
paths below the root; both stages have the same root, so what names a path stays right.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: The user and group that a container's own user stands for: nobody, without any privilege.
NOBODY = 65534

#: What an image of Python brings: the programs that our commands and health checks use.
PROGRAMS = ("sh", "cat", "grep", "hostname", "env", "sleep", "uname")

#: Steps that change the distribution itself.
_OF_THE_HOST = re.compile(r"(apt-get|useradd|rm -rf /var/lib/apt)\b")

_ABSOLUTE = re.compile(r"(?<![\w./$}])/(?=(?:opt|source|usr/local|etc|run|data|tmp)\b)")


class Image:
    """What `docker build` makes of the Dockerfile, in `base`/root."""

    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.base = base
        self.environment: dict[str, str] = {}
        self.directory = "/"
        self._stage = ""
        self.user = ""
        self.entrypoint: list[str] = []
        self.ran: list[str] = []

    def build(self) -> None:
        """Do every step; fail with the output of the one that fails."""
        for word, argument in instructions((ROOT / "deploy" / "Dockerfile").read_text()):
            getattr(self, f"_{word.lower()}")(argument)

    def at(self, text: str) -> str:
        """Return a text of the Dockerfile or a service with its paths below the root."""
        return re.sub(r"\bcd /(?=\s|$)", f"cd {self.root}", _ABSOLUTE.sub(f"{self.root}/", text))

    def variables(self) -> dict[str, str]:
        """Return the environment of a program in the container."""
        return {"PATH": self._path(), "HOME": "/nonexistent"} | self.environment

    def _path(self) -> str:
        return f"{self.root}/usr/local/bin:{self.root}/bin"

    def _from(self, argument: str) -> None:
        if self.root.exists():
            self.root.rename(self.base / self._stage)
        self._stage = argument.partition(" AS ")[2] or "last"
        self.environment = {}
        for folder in ("usr/local/bin", "bin", "tmp", "etc", "run/secrets"):
            (self.root / folder).mkdir(parents=True)
        for name in PROGRAMS:
            (self.root / "bin" / name).symlink_to(shutil.which(name) or f"/bin/{name}")
        python = self.root / "usr/local/bin/python"
        python.write_text(f'#!/bin/sh\nexec "{interpreter()}" "$@"\n')
        python.chmod(0o755)

    def _run(self, argument: str) -> None:
        steps = [step.strip() for step in argument.split("&&")]
        ours = " && ".join(self.at(step) for step in steps if not _OF_THE_HOST.match(step))
        if not ours:
            return
        self.ran.append(ours)
        kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_"))}
        kept |= {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
        variables = {**kept, **self.variables()}
        if self._stage == "build":  # with the compiler; the last stage has none
            variables["PATH"] += ":/usr/bin:/bin"
        done = subprocess.run(
            ["sh", "-ec", ours],
            cwd=self.root,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{ours}\n{done.stdout}"

    def _copy(self, argument: str) -> None:
        *sources, target = [word for word in argument.split() if not word.startswith("--")]
        stage = re.search(r"--from=(\w+)", argument)
        to = self.root / target.lstrip("/")
        for source in sources:
            if stage:
                origin = self.base / stage[1] / source.lstrip("/")
                shutil.copytree(origin, to, symlinks=True)
            else:
                self._copy_from_context(source, to, is_folder=target.endswith("/"))

    def _copy_from_context(self, source: str, to: Path, is_folder: bool) -> None:
        found = [path for path in context() if source == "." or path == Path(source)]
        assert found, f"COPY {source}: not in the context, which .dockerignore limits"
        for path in found:
            place = to / path if source == "." else to / path.name if is_folder else to
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, place)
            if place.parent.name == "bin":  # a program of ours: its paths are below the root too
                place.write_text(self.at(place.read_text()))

    def _env(self, argument: str) -> None:
        for pair in shlex.split(argument):
            name, _, value = pair.partition("=")
            self.environment[name] = self.at(value).replace("$PATH", self._path())

    def _user(self, argument: str) -> None:
        self.user = argument

    def _workdir(self, argument: str) -> None:
        self.directory = argument
        (self.root / argument.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _entrypoint(self, argument: str) -> None:
        self.entrypoint = eval(argument)  # a list of texts

    def _cmd(self, argument: str) -> None:
        pass  # the services of docker-compose.yml say their commands


def interpreter() -> str:
    """Return a Python that builds extensions and that nobody may run: root's own may lie hidden."""
    needs = (
        "import ensurepip, os, sys, sysconfig;"
        "os.stat(sysconfig.get_path('include') + '/Python.h'); sys.exit(sys.version_info < (3, 11))"
    )
    # Not that of the environment in which the tests run.
    found = [sys._base_executable, "/usr/local/bin/python3", "/usr/bin/python3"]  # type: ignore[attr-defined]
    for program in found:
        if Path(program).exists():
            # By a shell, for setpriv still has its privileges where it looks for the program.
            command = [*as_nobody(), "sh", "-c", 'exec "$0" -c "$1"', program, needs]
            tried = subprocess.run(command, capture_output=True, check=False, cwd="/")
            if tried.returncode == 0:
                return str(program)
    raise AssertionError(
        f"python: {', '.join(found)}, expected one of 3.11 or later with ensurepip and headers "
        "that every user may run; on Debian: apt-get install python3-venv python3-dev"
    )


def as_nobody() -> list[str]:
    """Return the start of a command that runs without privileges; nothing where we have none."""
    if os.getuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    assert setpriv, "setpriv: not found, expected it on PATH; on Debian: apt-get install util-linux"
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [setpriv, *ids, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction of a Dockerfile as its word and the rest."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, re.sub(r"\s+", " ", rest).strip()


def context() -> list[Path]:
    """Return the files that .dockerignore lets into the build, relative to the tree."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    kept = {pattern[1:].partition("/")[0] for pattern in patterns if pattern.startswith("!")}
    files = [
        path.relative_to(ROOT)
        for top in ROOT.iterdir()
        if top.name in kept
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.is_file()
    ]
    return [path for path in files if not _is_ignored(path, patterns)]


def _is_ignored(path: Path, patterns: list[str]) -> bool:
    """Judge as Docker does: the last pattern that matches the path or a parent of it decides."""
    names = ["/".join(path.parts[: k + 1]) for k in range(len(path.parts))]
    ignored = False
    for pattern in patterns:
        bare = re.escape(pattern.removeprefix("!"))
        regex = bare.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(regex, name) for name in names):
            ignored = not pattern.startswith("!")
    return ignored
