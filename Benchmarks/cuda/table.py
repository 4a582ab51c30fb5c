"""One table of a folder of results: table.py FOLDER writes FOLDER/table.md and prints it."""
import json
import os
import sys

LIMITS = {"dit-train": (0.7, 0.95), "dit-lora": (0.6, 0.9), "vocoder-train": (0.6, 0.9), "sample": (0.5, None),
          "dit-train-host": (None, None)}


def lines(folder, name):
    try:
        with open(os.path.join(folder, name)) as file:
            return [json.loads(line) for line in file if line.strip()]
    except FileNotFoundError:
        return []


def gib(value):
    return "-" if value is None else f"{value / 2**30:.2f}"


def ratio(mine, theirs, limit):
    if not mine or not theirs:
        return "-"
    text = f"{mine / theirs:.2f}"
    return text if limit is None else text + (" (≤ " if mine / theirs <= limit else " (not ≤ ") + f"{limit})"


def speed(folder, out):
    flow = {line["case"]: line for line in lines(folder, "flow.jsonl")}
    peer = {line["case"]: line for line in lines(folder, "peer.jsonl")}
    if not flow and not peer:
        return
    gemm, copy = peer.get("machine/gemm", {}).get("tflops"), peer.get("machine/copy", {}).get("gbs")
    if gemm:
        out.append(f"bf16 GEMM of 8192: {gemm:.0f} TFLOP/s; copy: {copy:.0f} GB/s, read and written\n")
    out += ["| case | flow ms | eager ms | compile ms | to eager | to compile | flow GiB | eager GiB | compile GiB | MFU |",
            "|---|---|---|---|---|---|---|---|---|---|"]
    for case, limits in LIMITS.items():
        mine, eager = flow.get(case, {}), peer.get(case + "/eager", {})
        ways = [line for name, line in peer.items() if name.startswith(case + "/compile") and line.get("ms")]
        compiled = min(ways, key=lambda line: line["ms"]) if ways else {}
        ms = [line.get("ms") for line in (mine, eager, compiled)]
        shown = [f"{value:.1f}" if value else line.get("error", "-")[:60] for value, line in zip(ms, (mine, eager, compiled))]
        rate = f"{mine['flop'] / mine['ms'] / 1e9 / gemm:.0%}" if gemm and mine.get("flop") and mine.get("ms") else "-"
        out.append(
            f"| {case} | {shown[0]} | {shown[1]} | {shown[2]} | {ratio(ms[0], ms[1], limits[0])} |"
            f" {ratio(ms[0], ms[2], limits[1])} | {gib(mine.get('used'))} | {gib(eager.get('used'))} |"
            f" {gib(compiled.get('used'))} | {rate} |")
    out.append("")


def profile(folder, out):
    """Steps beside their floors: operations at the GEMM's rate, or bytes at the copy's."""
    peer = {line["case"]: line for line in lines(folder, "peer.jsonl")}
    gemm, copy = peer.get("machine/gemm", {}).get("tflops"), peer.get("machine/copy", {}).get("gbs")
    found = [line for line in lines(folder, "profiled.jsonl") if line.get("part") == "profile"]
    if not found:
        return
    out += ["| case | step | number | ms in all | FLOP floor ms | byte floor ms | of the floor |", "|---|---|---|---|---|---|---|"]
    for line in found:
        flop = line["flop"] / gemm / 1e9 if gemm and line.get("product") else None
        data = line["bytes"] / copy / 1e6 if copy else None
        floor = max(flop or 0, data or 0)
        name = f"{line['op']} {line['inputs']} → {line['outputs']}"[:160] if "op" in line else "all, one by one"
        def ms(value):
            return "-" if value is None else f"{value:.3f}"
        share = f"{floor / line['ms']:.0%}" if floor and line["ms"] and "op" in line else "-"
        number = line.get("count", line.get("steps"))
        out.append(f"| {line['case']} | {name} | {number} | {line['ms']:.3f} | {ms(flop)} | {ms(data)} | {share} |")
    out.append("")


def checks(folder, out):
    for line in lines(folder, "libraries.jsonl"):
        out.append(f"- {line['name']}: {line.get('version', '')} {line.get('path', '')} {line.get('problem', '')}".rstrip())
    if out:
        out.append("")
    rows = []
    for line in lines(folder, "ops.jsonl"):
        if "cases" in line:
            rows.append(f"| op table, {line['device']} | {line['cases']} cases, {line['wrong']} wrong | seed {line['seed']} |")
    for line in lines(folder, "train.jsonl"):
        found = f"{line['worst']:.2e} (bound {line['bound']:.0e})" if "worst" in line else ("yes" if line["ok"] else "NO")
        rows.append(f"| training, {line['device']}: {line['what']} | {found} | {'right' if line['ok'] else 'WRONG'} |")
    for line in lines(folder, "nccl.jsonl"):
        found = line.get("problem") or line.get("version") or (f"worst {line['worst']:.2e}" if "worst" in line else "")
        rows.append(f"| NCCL, {line['device']}: {line['what']} | {found[:160]} | {'right' if line['ok'] else 'WRONG'} |")
    for line in lines(folder, "golden.jsonl"):
        rows.append(
            f"| golden, {line['device']}: {line['what']} | {line['worst']:.2e} in {line['in']} |"
            f" {'right' if line['ok'] else 'WRONG'} |")
    for line in lines(folder, "faults.jsonl"):
        rows.append(f"| fault, {line['device']}: {line['what']} | {line['said'][:160]} | {'right' if line['ok'] else 'WRONG'} |".replace("\n", " "))
    if rows:
        out += ["| check | found | |", "|---|---|---|"] + rows + [""]
    worst = [line for line in lines(folder, "ops.jsonl") if "op" in line and not line["ok"]]
    for line in worst[:20]:
        out.append(f"- off: {line['op']} on {line['device']}: {line['error']}")
    broken = [line for line in lines(folder, "ops.jsonl") if "problem" in line]
    for line in broken[:10]:
        out.append(f"- failed: {line['case']} on {line['device']}: {line['problem'][:200]}")


def main():
    folder, out = sys.argv[1], []
    speed(folder, out)
    checks(folder, out)
    profile(folder, out)
    for name in ("about.txt", "smi.txt", "parts.txt"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            out += ["```", open(path).read().rstrip(), "```"]
    text = "\n".join(out) + "\n"
    with open(os.path.join(folder, "table.md"), "w") as file:
        file.write(text)
    print(text)


main()
