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


def rates(folder):
    """The machine's GEMM in TFLOP/s, its copy in GB/s read and written, and its cache in bytes; flow's own where the peer has none."""
    peer = {line["case"]: line for line in lines(folder, "peer.jsonl")}
    own = [line for line in lines(folder, "profiled.jsonl") if line.get("part") == "copy"]
    copy = peer.get("machine/copy", {}).get("gbs") or max((line["gbs"] for line in own if "gbs" in line), default=None)
    return peer.get("machine/gemm", {}).get("tflops"), copy, max((line["cache"] for line in own), default=64 << 20), own


def profile(folder, out):
    """Kinds of steps beside their floors: operations at the GEMM's rate, or bytes at the copy's."""
    gemm, copy, cache, own = rates(folder)
    found = [line for line in lines(folder, "profiled.jsonl") if line.get("part") == "profile"]
    if not found:
        return
    for line in own:
        out.append(f"- copy {line['bytes'] / 2e6:.1f} MB: {line['gbs']:.0f} GB/s, read and written" if "gbs" in line else
                   f"- no copy was timed: {line['skipped']}")
    def ms(value):
        return "-" if value is None else f"{value:.3f}"
    rows, slow, bound, little = [], [], 0, 0
    for line in found:
        isKind = "op" in line
        flop = line["flop"] / gemm / 1e9 if gemm and line.get("product") else None
        data = line["bytes"] / copy / 1e6 if copy else None
        floor = max(flop or 0, data or 0) if isKind else 0
        alone, together, cold = line["ms"], line.get("together_ms"), line.get("cold_ms")
        number = line.get("count", line.get("steps"))
        merged = f" ({line['steps']} in {number})" if isKind and line.get("steps", number) != number else ""
        name = f"{line['op'][:90]}{merged}: {line['inputs'][:150]} → {line['outputs'][:100]}" if isKind else "all, one by one"
        def share(value):
            return f"{floor / value:.0%}" if floor and value and value > 0 else "-"
        rows.append(f"| {line['case']} | {name} | {number} | {ms(alone)} | {ms(together)} | {ms(cold)} | {ms(flop)} | {ms(data)} |"
                    f" {share(alone)} | {share(together)} | {share(cold)} |")
        if not (isKind and data) or line["product"] or line["bytes"] < cache:
            continue
        # Less than 2 us' worth is bound by being launched.
        if data / number < 2e-3:
            little += 1
            continue
        bound += 1
        ways = [(together, "one after another"), (cold, "nothing cached")]
        ways = [way for way in ways if way[0]] or [(alone, "alone, launching included")]
        if data < 0.8 * max(way[0] for way in ways):
            why = ", bound by instructions" if line["op"].startswith("snake") else ""
            shares = ", ".join(f"{share(value)} {how}" for value, how in ways)
            slow.append(f"- {line['case']}: {shares}: {ways[0][0] / number * 1e3:.0f} µs each, {number} times{why}: {name}")
    if copy:
        out.append(f"- of {bound} kinds of memory-bound steps (no product, more than the cache's {cache / 2**20:.0f} MiB in all;"
                   f" {little} more move too little at a time), {len(slow)} take less than 80 % of {copy:.0f} GB/s{':' if slow else ''}")
    out += ["  " + line for line in slow]
    out += ["", "| case | step | number | ms, each alone | ms together | ms cold | FLOP floor ms | byte floor ms |"
            " of the floor alone | together | cold |", "|---|---|---|---|---|---|---|---|---|---|---|"] + rows + [""]


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
