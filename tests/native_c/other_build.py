"""Runs tests on an extension built in another way, beside the ordinary one, which stays as it is.

    python -m tests.native_c.other_build --compiler clang --levels all tests/native_c
    python -m tests.native_c.other_build --sanitize tests/native_c tests/integration/test_road.py

The build lies in a directory of its own, `build/extension/<name>/native_c`, with links to the
Python modules, and stands first on the path of the tests and of every process that they start.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Folders of native_c that a build takes as they are.
LINKED = {"compiled", "fallback", "include"}
#: A report ends the program at once, wherever in the tree of processes it is.
SANITIZE = (
    "-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined,float-cast-overflow"
    " -fno-sanitize-recover=all"
)
#: Blocks that nobody frees are the interpreter's and NumPy's by the thousand. A leak is ours when
#: our extension is among the callers next to the allocation; so few frames are kept of each.
FRAMES = 5
#: A frame with its library, by which we know it.
FORMAT = "stack_trace_format='    #%n %f %S (%m)'"
#: NumPy asks for what nobody has, and takes no for an answer; so does the suite.
OPTIONS = f"detect_leaks=1:allocator_may_return_null=1:malloc_context_size={FRAMES}:{FORMAT}"


#: Calls a fault of tests/native_c/c/planted.c: a library's path and the fault's name follow.
PLANTED = """
import ctypes, sys
words = (ctypes.c_char_p * 2)(b"planted", sys.argv[2].encode())
ctypes.CDLL(sys.argv[1]).main(2, words)
"""


class OtherBuild:
    """The package native_c with an extension made by `compiler`, sanitized or not."""

    def __init__(self, compiler: str, sanitize: bool = False, emulator: str = "") -> None:
        self.compiler, self.sanitize, self.emulator = compiler, sanitize, emulator.split()
        name = f"sanitized-{compiler}" if sanitize else compiler
        self.folder = ROOT / "build" / "extension" / name
        self.package = self.folder / "native_c"
        self.reports = self.folder / "reports"

    def make(self) -> None:
        """Build the extension where it is missing or older than what it is made of."""
        self.package.mkdir(parents=True, exist_ok=True)
        for module in (ROOT / "native_c").glob("*"):
            link = self.package / module.name
            if module.suffix in {".py", ".typed"} or module.name in LINKED:
                link.unlink(missing_ok=True)
                link.symlink_to(module)
        made = list(self.package.glob("_kernels*.so"))
        inputs = [ROOT / "setup.py", ROOT / "native_c" / "_build.py"]
        inputs += [
            *(ROOT / "native_c" / "src").iterdir(),
            *(ROOT / "native_c" / "include").iterdir(),
        ]
        newest = max(path.stat().st_mtime for path in inputs)
        if made and made[0].stat().st_mtime > newest:
            return
        for old in made:
            old.unlink()
        places = ["--build-lib", str(self.folder), "--build-temp", str(self.folder / "temp")]
        environment = os.environ | {"CC": self.compiler}
        if self.sanitize:
            environment["CFLAGS"] = SANITIZE
        command = [sys.executable, "setup.py", "--quiet", "build_ext", *places]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        assert list(self.package.glob("_kernels*.so")), "the extension was not built"

    def environment(self, level: str = "") -> dict[str, str]:
        """Return the environment in which `import native_c` finds this build, on one level."""
        found = os.environ | {
            "NATIVE_C_BACKEND": "compiled",
            "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}",
            "PYTHONSAFEPATH": "1",  # or the working directory would come first
        }
        if level:
            found["NATIVE_C_SIMD"] = level
        if self.emulator:
            found["OPENBLAS_CORETYPE"] = "Nehalem"  # it misjudges emulated processors
        if self.sanitize:
            libraries = [self._library(name) for name in ("libasan.so", "libubsan.so")]
            self.reports.mkdir(exist_ok=True)
            log = f"log_path={self.reports / 'report'}"
            found |= {
                "LD_PRELOAD": " ".join(libraries),
                "ASAN_OPTIONS": f"{OPTIONS}:{log}",
                "LSAN_OPTIONS": "exitcode=0",  # whose leaks they are is read from the reports
                "PYTHONMALLOC": "malloc",  # so that each object of Python has bounds, too
                "UBSAN_OPTIONS": f"print_stacktrace=1:{log}",
            }
        return found

    def _library(self, name: str) -> str:
        command = [self.compiler, f"-print-file-name={name}"]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    def run(self, arguments: Sequence[str], level: str = "") -> int:
        """Run Python with `arguments` on this build; return its status, 1 for any of our faults."""
        for old in self.reports.glob("*"):
            old.unlink()
        command = [*self.emulator, sys.executable, *arguments]
        status = subprocess.run(command, cwd=ROOT, env=self.environment(level), check=False)
        faults = self.faults()
        for fault in faults:
            print(fault, file=sys.stderr)
        return status.returncode or int(bool(faults))

    def check_that_faults_are_seen(self) -> None:
        """Fail unless faults that are planted in a library named as ours are found."""
        library = self.folder / "_kernels_planted.so"
        source = ROOT / "tests" / "native_c" / "c" / "planted.c"
        command = [self.compiler, *SANITIZE.split(), "-w", "-shared", "-fPIC", "-pthread"]
        subprocess.run([*command, "-o", str(library), str(source)], check=True)
        for fault in ("overrun", "overflow", "leak"):
            with contextlib.redirect_stderr(io.StringIO()):
                status = self.run(["-c", PLANTED, str(library), fault])
            assert status != 0, f"a planted {fault} goes unseen"

    def faults(self) -> list[str]:
        """Return what the sanitizers reported of all processes, without the leaks of others."""
        found = []
        for report in sorted(self.reports.glob("*")):
            for part in report.read_text(errors="replace").split("\n\n"):
                is_leak = "leak of " in part.partition("\n")[0]
                marks = ("_kernels",) if is_leak else ("ERROR: AddressSanitizer", "runtime error:")
                if any(mark in part for mark in marks):
                    found.append(part)
        return found

    def levels(self) -> list[str]:
        """Return the instruction sets that this build finds on its processor."""
        program = "from native_c import extension; print(*extension.supported_simd())"
        command = [*self.emulator, sys.executable, "-c", program]
        said = subprocess.run(
            command, cwd=ROOT, env=self.environment(), capture_output=True, text=True, check=True
        )
        return said.stdout.split()


def main() -> int:
    """Build, run, and say how long it took."""
    asked, more = parse()
    build = OtherBuild(asked.compiler, asked.sanitize, asked.emulator)
    build.make()
    if asked.sanitize:
        build.check_that_faults_are_seen()
    found = build.levels()
    expected = asked.expect.split() or found
    assert found == expected, f"levels: {', '.join(found)}, expected {', '.join(expected)}"
    # Captured by pytest, the last words of a process that a sanitizer ends would be lost.
    pytest = ["-m", "pytest", "-q", "-o", "pythonpath=", "--capture=sys", *more, *asked.tests]
    status = 0
    levels = {"best": found[-1:], "below-best": found[-2:-1], "all": found}[asked.levels]
    assert levels, f"levels: {asked.levels} of {', '.join(found)} is none, expected two at least"
    for level in levels:
        started = time.monotonic()
        status |= build.run(pytest, level)
        name = f"{build.folder.name}, {level} {asked.emulator}".rstrip()
        print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
    return status


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Return what the command line asks for, and what of it is for pytest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--sanitize", action="store_true")
    parser.add_argument("--levels", choices=["best", "below-best", "all"], default="best")
    parser.add_argument("--expect", default="", help="the levels that the processor must have")
    parser.add_argument("--emulator", default="", help="the command that runs Python")
    parser.add_argument("tests", nargs="+", help="what pytest is to run")
    return parser.parse_known_args()


if __name__ == "__main__":
    sys.exit(main())
