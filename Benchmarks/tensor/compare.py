"""Runs flow-bench and peer.py in turns, a process per case, and prints a line per case with the ratios of medians."""
import argparse
import json
import os
import statistics
import subprocess
import sys

MODELS = ["dit-256", "dit-512", "vocoder-4800", "vocoder-256"]
KERNELS = [
    "gemm-512", "gemm-1024", "gemm-2048", "gemm-4096", "linear-1024x4096x1024", "linear-1024x1024x4096",
    "qk-64x512x512x64", "pv-64x512x64x512", "attention-16x512x64", "conv-256x256x7", "conv-32x32x11-dilated",
    "rmsnorm", "swiglu", "softmax", "snake", "adamw", "stft",
]
PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer.py")


def measure(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def together(parts):
    """The runs of several rounds as one."""
    whole = dict(parts[0])
    for key in ("wall", "cpu"):
        whole[key] = [t for part in parts for t in part[key]]
    for key in ("peak", "empty"):
        whole[key] = statistics.median(part[key] for part in parts)
    return whole


def main():
    parser = argparse.ArgumentParser(prog="Benchmarks/tensor/run")
    parser.add_argument("flow")
    parser.add_argument("python")
    parser.add_argument("cases", nargs="*", help=", ".join(["models", "kernels"] + MODELS + KERNELS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5, help="timed runs of a process")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side, in turns")
    given = parser.parse_intermixed_args()
    names = []
    for case in given.cases or ["models", "kernels"]:
        names += {"models": MODELS, "kernels": KERNELS}.get(case, [case])

    numbers = [str(given.threads), str(given.runs)]
    flow_environment = dict(os.environ)
    # torch at its best: freed memory is kept, and where others load the machine its threads sleep instead of spinning.
    environment = dict(
        os.environ, MALLOC_MMAP_THRESHOLD_="4294967296", MALLOC_TRIM_THRESHOLD_="4294967296", PYTHONWARNINGS="ignore")
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    busy = load > 0.3 * cpus
    if busy:
        environment.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="0")
    version = subprocess.run(
        [given.python, "-W", "ignore", "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True,
        check=True).stdout.strip()
    gemm = measure([given.flow, "tensor", "gemm-2048"] + numbers, flow_environment)
    # FLOP per CPU second, so that a noisy neighbour doesn't count.
    rate = gemm["flop"] / statistics.median(gemm["cpu"])
    print(
        f"{given.threads} threads, {given.rounds} x {given.runs} runs in turns, torch {version}, load {load:.1f} on {cpus} CPUs"
        + (" (busy: look at CPU time)" if busy else ""))
    print(f"sgemm 2048: {rate / 1e9:.0f} GFLOP/s per CPU second; best of the clock {gemm['flop'] / min(gemm['wall']) / 1e9:.0f} GFLOP/s")
    print()
    print("| case | flow ms | torch ms | time | CPU time | peak MB | above empty process | at GEMM speed, flow / torch | results differ by |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        ours, theirs = [], []
        for _ in range(given.rounds):
            ours.append(measure([given.flow, "tensor", name] + numbers, flow_environment))
            theirs.append(measure([given.python, PEER, name] + numbers, environment))
        a, b = together(ours), together(theirs)
        median = {key: (statistics.median(a[key]), statistics.median(b[key])) for key in ("wall", "cpu")}
        net = (a["peak"] - a["empty"], b["peak"] - b["empty"])
        share = "-"
        if a["flop"] and name != "stft":  # whose products the peer does by FFT
            share = " / ".join(f"{a['flop'] / rate / cpu:.0%}" for cpu in median["cpu"])
        # The last value of a training depends on how many steps the peer's trials took; the first doesn't.
        x, y = a["check"][0], b["check"][0]
        print(
            f"| {name} | {median['wall'][0] * 1e3:.1f} | {median['wall'][1] * 1e3:.1f} "
            f"| {median['wall'][0] / median['wall'][1]:.2f} | {median['cpu'][0] / median['cpu'][1]:.2f} "
            f"| {a['peak'] / 1e6:.0f} / {b['peak'] / 1e6:.0f} = {a['peak'] / b['peak']:.2f} "
            f"| {net[0] / 1e6:.0f} / {net[1] / 1e6:.0f} = {net[0] / net[1]:.2f} | {share} | {abs(x - y) / abs(y):.0e} |",
            flush=True)


main()
