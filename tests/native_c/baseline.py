"""Holds that compiled kernels use no instruction of a level outside the functions of that level.

    python -m tests.native_c.baseline build/c/plain-gcc/kernels/*.o

A processor without AVX runs everything but the functions of the higher levels, so one such
instruction elsewhere ends the program there, and only there.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

#: The level of a function is in its name; compilers append words of their own, such as `.cold`.
LEVEL = re.compile(r"_(avx2|avx512)(\.|$)")
#: Instructions that x86-64 does not promise: those with the VEX and EVEX prefixes, which all begin
#: with a v, or with a k for masks; BMI; and SSE3 to SSE4.2. (`tzcnt` is `bsf` to older processors,
#: and compilers write it where both answer alike.)
BEYOND_SSE2 = re.compile(
    r"v(?!err|erw).*|k(add|and|andn|or|xor|xnor|not|mov|shift[lr]|unpck..|test|ortest)[bwdq]"
    r"|(andn|bextr|bzhi|blsi|blsr|blsmsk|mulx|pdep|pext|rorx|sarx|shlx|shrx|lzcnt|popcnt)[lq]?"
    r"|pshufb|palignr|pabs[bwd]|ph(add|sub)[wd]|pmulhrsw|pmaddubsw|psign[bwd]|pblend.*|blend.*"
    r"|round[ps][sd]|ptest|pmul(dq|ld)|pm(ax|in)(sb|uw|sd|ud)|pinsr[bdq]|pextr[bdq]|packusdw"
    r"|pcmp(eqq|gtq|.str.)|insertps|extractps|dpp[sd]|mpsadbw|movntdqa|pmov[sz]x.*|crc32."
    r"|addsubp[sd]|h(add|sub)p[sd]|lddqu|movddup|movs[hl]dup"
)
INSTRUCTION = re.compile(r"\s+[0-9a-f]+:\s+(?:(?:rep\w*|lock|bnd|data16|cs)\s+)*(\S+)\s*(.*)")
WIDE = re.compile(r"%[yz]mm")


def instructions(path: str) -> Iterator[tuple[str, str, str]]:
    """Yield function, mnemonic and operands of every instruction in an object file."""
    command = ["objdump", "--disassemble", "--no-show-raw-insn", path]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    function = ""
    for line in listing.splitlines():
        if header := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            function = header[1]
        elif found := INSTRUCTION.match(line):
            yield function, found[1], found[2]


def main(paths: list[str]) -> int:
    """Print what does not belong where it is; return how much of it there is."""
    wide: Counter[str] = Counter()
    wrong = []
    for path in paths:
        for function, mnemonic, operands in instructions(path):
            if of_level := LEVEL.search(function):
                wide[of_level[1]] += bool(WIDE.search(operands))
            elif BEYOND_SSE2.fullmatch(mnemonic) or WIDE.search(operands):
                wrong.append(f"{path}: {function}: {mnemonic} {operands}")
    print("\n".join(wrong[:20]))
    for level in ("avx2", "avx512"):
        print(f"{wide[level]} instructions with wide registers in the functions of {level}")
        assert wide[level] > 100, "the functions of the levels were not found"
    print(f"{len(wrong)} instructions beyond SSE2 outside of them, in {len(paths)} files")
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
