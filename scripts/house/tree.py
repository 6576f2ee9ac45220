"""Write the captioned file tree into the READMEs, or check that it is up to date.

    python scripts/house/tree.py [--check]

A caption is the first sentence of a module's docstring, so the tree cannot drift from the code.
"""

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.ru.md")
OPEN, CLOSE = "<!-- tree -->", "<!-- /tree -->"
FOLDERS = {
    "src/kamerton/demo_desk": "the bundled support desk of a fictional company",
    "src/kamerton/cases": "business cases with made-up examples, for kamerton new --recipe",
    "benchmarks": "speed, memory and quality: scripts, recipes, results",
    "docs": "documentation; docs/reference is generated, docs/decisions holds one page each",
    "scripts/demo": "makes the demo's desk",
    "scripts/house": "generated parts: this tree, the reference pages",
    "scripts/peers": "compares with other libraries in their own environments",
    "scripts/nano": "makes builtin:nano: corpus, tokenizer, pretraining",
    "tests": "unit, parity with Transformers and PEFT, contract, golden, property, end to end",
}


def caption(path: Path) -> str:
    """Give the first line of a module's docstring, without floor number and full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0].rstrip(".") if text else ""


def tree() -> str:
    """Draw the tree."""
    lines = ["```"]
    lines.append("src/kamerton/")
    package = ROOT / "src" / "kamerton"
    order = {name: number for number, name in enumerate(
        ("cli", "flows", "serving", "training", "variants", "advisor", "inference", "adapters", "objectives", "models",
         "evaluation", "labelling", "data", "prompting", "store", "wire", "core")
    )}  # fmt: skip
    found = [path.parent for path in package.glob("*/__init__.py")]
    for folder in sorted(found, key=lambda path: order.get(path.name, 99)):
        lines.append(f"  {folder.name + '/':<14}{caption(folder / '__init__.py')}")
        lines += [f"    {inner.parent.name + '/':<12}{caption(inner)}"
                  for inner in sorted(folder.glob("*/__init__.py"))]  # fmt: skip
    for name, text in FOLDERS.items():
        shown = name.removeprefix("src/kamerton/")
        indent = "  " if shown != name else ""
        lines.append(f"{indent}{shown + '/':<{16 - len(indent)}}{text}")
    return "\n".join([*lines, "```"])


def main() -> int:
    """Write or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    only_check = parser.parse_args().check
    stale = []
    for name in READMES:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        before, rest = text.split(OPEN)
        wanted = f"{before}{OPEN}\n{tree()}\n{CLOSE}{rest.split(CLOSE)[1]}"
        if wanted != text:
            stale.append(name)
            if not only_check:
                path.write_text(wanted, encoding="utf-8")
    if only_check and stale:
        print(f"out of date: {', '.join(stale)}; run make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
