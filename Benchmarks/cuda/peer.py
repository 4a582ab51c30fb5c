"""Plain PyTorch on the cases that `flow-gpu-check speed` runs: the same sizes, random weights and data.

    peer.py [--cases a,b,...] [--budget SECONDS] [--out FILE] [--tiny] [--cpu]

Appends a line of JSON to FILE as each case ends: case, median and all times in milliseconds, peak memory. Groups of cases
run one after the other in a process of their own, which is ended when the budget is spent. Where PyTorch has more than
one way, each is tried and the fastest is timed.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

import peer_transformer as transformer
import peer_vocoder as vocoder

# Most valuable first; a group shares a process.
GROUPS = [
    ["machine", "dit-train/eager"], ["dit-train/compile"], ["dit-lora/eager", "sample/eager", "vocoder-train/eager"],
    ["dit-lora/compile"], ["vocoder-train/compile"], ["dit-train/compile-flex"], ["vocoder-train/compile-blocks"],
]


class Bench:
    def __init__(self, options):
        self.tiny, self.out, self.end = options.tiny, options.out, time.monotonic() + options.budget
        self.device = torch.device("cpu" if options.cpu else "cuda")
        self.on_gpu = not options.cpu
        self.warm, self.runs = (1, 2) if options.tiny else (3, 10)

    def wait(self):
        if self.on_gpu:
            torch.cuda.synchronize()

    def times(self, body, warm=None, runs=None):
        """Milliseconds of each run, by device events; as many as there is time for, at least one."""
        for _ in range(self.warm if warm is None else warm):
            body()
        self.wait()
        result = []
        for _ in range(runs or self.runs):
            if self.on_gpu:
                start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                start.record()
                body()
                stop.record()
                stop.synchronize()
                result.append(start.elapsed_time(stop))
            else:
                start = time.perf_counter()
                body()
                result.append((time.perf_counter() - start) * 1e3)
            if time.monotonic() > self.end:
                break
        return result

    def fastest(self, ways):
        """Of several bodies by name the fastest that works, and each one's milliseconds."""
        found = {}
        for name, body in ways.items():
            try:
                found[name] = statistics.median(self.times(body, 2, 3))
            except Exception as error:  # an attention kernel that doesn't take these sizes is no way
                found[name] = None
                print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
        return min((n for n in found if found[n] is not None), key=lambda n: found[n]), found

    def record(self, case, times=None, **more):
        line = {"case": case, "by": "torch " + torch.__version__, "tiny": self.tiny, **more}
        if times:
            line.update(ms=statistics.median(times), all_ms=[round(t, 4) for t in times])
        if self.on_gpu:
            free, total = torch.cuda.mem_get_info()
            line.update(
                device=torch.cuda.get_device_name(), peak_allocated=torch.cuda.max_memory_allocated(),
                peak_reserved=torch.cuda.max_memory_reserved(), used=total - free)
        with open(self.out, "a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def fresh(self):
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        torch.manual_seed(1)


def machine(bench):
    n = 256 if bench.tiny else 8192
    a, b = (torch.randn(n, n, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    times = bench.times(lambda: a @ b, 5, 20)
    bench.record("machine/gemm", times, tflops=2 * n**3 / statistics.median(times) / 1e9)
    count = 1 << (18 if bench.tiny else 30)
    source, target = torch.empty(count, device=bench.device), torch.empty(count, device=bench.device)
    source.normal_()
    times = bench.times(lambda: target.copy_(source), 3, 10)
    bench.record("machine/copy", times, gbs=8 * count / statistics.median(times) / 1e6)


def attention(bench, s):
    """The fastest way to attend under the boolean mask, forward and backward."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    mask = transformer.may_attend(s, bench.device)
    shape = (s.batch, s.heads, mask.shape[-1], s.dim // s.heads)
    q, k, v = (torch.randn(shape, device=bench.device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    gradient = torch.randn_like(q)

    def under(backends):
        def attend(q, k, v):
            with sdpa_kernel(backends):
                return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return attend

    ways = {"default": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)}
    if bench.on_gpu:
        ways["efficient"] = under([SDPBackend.EFFICIENT_ATTENTION])
        ways["cudnn"] = under([SDPBackend.CUDNN_ATTENTION])
    bodies = {n: (lambda way=way: torch.autograd.grad(way(q, k, v), (q, k, v), gradient)) for n, way in ways.items()}
    name, found = bench.fastest(bodies)
    return ways[name], {"attention": name, "attention_ms": found}


def flex(s, device):
    """Attention that skips blocks of the mask in which nobody attends."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    n, text, frames = s.text + 2 * s.frames, s.text, s.frames
    mask = transformer.may_attend(s, device)[0, 0]
    blocks = create_block_mask(lambda b, h, q, k: mask[q, k], None, None, n, n, device=device)
    return lambda q, k, v: flex_attention(q, k, v, block_mask=blocks)


def training(bench, case, way):
    s = transformer.Sizes(bench.tiny)
    attend, notes = (flex(s, bench.device), {}) if way == "compile-flex" else attention(bench, s)
    bench.fresh()
    with torch.device(bench.device):
        model = transformer.DiT(s)
    parameters = transformer.adapted(model, s.rank) if case == "dit-lora" else list(model.parameters())
    data = transformer.flow_batch(model, s, bench.device)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01, fused=True)
    if way != "eager":
        # The layers are alike: one is compiled for all, as PyTorch advises for repeated regions.
        for layer in model.blocks:
            layer.compile()
    start = time.monotonic()

    def step():
        with torch.autocast(bench.device.type, torch.bfloat16):
            loss = transformer.flow_loss(model, s, data, [attend] * s.depth)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    loss = float(step().detach())
    notes["first_step_s"] = round(time.monotonic() - start, 2)
    times = bench.times(step)
    count = sum(p.numel() for p in model.parameters())
    bench.record(f"{case}/{way}", times, loss=loss, parameters=count, trained=sum(p.numel() for p in parameters), **notes)


def sampling(bench, case, way):
    s = transformer.Sizes(bench.tiny)
    bench.fresh()
    with torch.device(bench.device):
        model = transformer.DiT(s).bfloat16()
    model.frequencies = model.frequencies.float()
    transformer.sample(model, s, 2 * s.block, bench.device, lambda block: None)
    times = bench.times(lambda: transformer.sample(model, s, s.frames, bench.device, lambda block: None), 0, 1)
    bench.record(f"{case}/{way}", times)


def vocoding(bench, case, way):
    s = vocoder.Sizes(bench.tiny)
    forms = {"grouped": vocoder.grouped, "shifted": vocoder.shifted}
    if way != "eager":
        torch._dynamo.config.recompile_limit = 64
        forms = {name: torch.compile(form, dynamic=False) for name, form in forms.items()}
    x = torch.randn(s.batch, s.channels // 16, 24000 if not bench.tiny else 64, device=bench.device)
    x = x.bfloat16().requires_grad_()
    a, gradient = torch.rand(x.shape[1], 1, device=bench.device).bfloat16().requires_grad_(), torch.randn_like(x)
    bodies = {n: (lambda form=form: torch.autograd.grad(form(x, a, a), (x, a), gradient)) for n, form in forms.items()}
    name, found = bench.fastest(bodies)
    vocoder.Activation.form = staticmethod(forms[name])
    bench.fresh()
    if bench.on_gpu:
        torch.backends.cudnn.benchmark = True
    with torch.device(bench.device):
        generator, judges, mel = vocoder.Vocoder(s), vocoder.Discriminators(s), vocoder.MelLoss(s)
    latents = torch.randn(s.batch, 64, s.frames, device=bench.device)
    real = torch.randn(s.batch, 1, s.frames * s.hop, device=bench.device) * 0.3
    if way == "compile-blocks":
        for blocks in generator.blocks:
            for block in blocks:
                block.compile(dynamic=False)
    settings = dict(lr=1e-4, betas=(0.8, 0.99), weight_decay=0.01, fused=True)
    own, theirs = list(generator.parameters()), list(judges.parameters())
    making, judging = torch.optim.AdamW(own, **settings), torch.optim.AdamW(theirs, **settings)
    start = time.monotonic()

    def judge(wave):
        with torch.autocast(bench.device.type, torch.bfloat16):
            return judges(wave)

    def step():
        with torch.autocast(bench.device.type, torch.bfloat16):
            made = generator(latents)
        judges.requires_grad_(True)
        truth, fake = judge(real), judge(made.detach())
        loss = sum((1 - t).float().square().mean() + f.float().square().mean() for (t, _), (f, _) in zip(truth, fake))
        loss.backward()
        nn.utils.clip_grad_norm_(theirs, 10.0, foreach=True)
        judging.step()
        judging.zero_grad(set_to_none=True)
        judges.requires_grad_(False)
        with torch.no_grad():
            truth = judge(real)
        fake = judge(made)
        loss = sum((1 - f).float().square().mean() for f, _ in fake)
        pairs = [pair for (_, t), (_, f) in zip(truth, fake) for pair in zip(t, f)]
        loss = loss + 2 * sum((t - f).float().abs().mean() for t, f in pairs)
        loss = loss + mel(real, made) + (real - made).abs().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(own, 10.0, foreach=True)
        making.step()
        making.zero_grad(set_to_none=True)
        return loss

    loss = float(step().detach())
    first = round(time.monotonic() - start, 2)
    times = bench.times(step)
    bench.record(
        f"{case}/{way}", times, loss=loss, filters=name, filters_ms=found, first_step_s=first,
        parameters=sum(p.numel() for p in own), judges=sum(p.numel() for p in theirs))


CASES = {"dit-train": training, "dit-lora": training, "sample": sampling, "vocoder-train": vocoding}


def run(bench, cases):
    for case in cases:
        try:
            if case == "machine":
                machine(bench)
            else:
                name, way = case.split("/")
                CASES[name](bench, name, way)
        except Exception as error:
            bench.record(case, error=f"{type(error).__name__}: {error}"[:500])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", default=",".join(case for group in GROUPS for case in group))
    parser.add_argument("--budget", type=float, default=600, help="seconds for all cases")
    parser.add_argument("--out", default="peer.jsonl")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--here", action="store_true", help="run the cases in this process")
    options = parser.parse_args()
    wanted = options.cases.split(",")
    if options.here:
        run(Bench(options), wanted)
        return
    end = time.monotonic() + options.budget
    for group in GROUPS:
        cases = [case for case in group if case in wanted]
        left = end - time.monotonic()
        if not cases:
            continue
        if left < 1:
            print(f"no time left for {','.join(cases)}", file=sys.stderr)
            continue
        flags = [flag for flag, on in (("--tiny", options.tiny), ("--cpu", options.cpu)) if on]
        command = [sys.executable, os.path.abspath(__file__), "--here", "--cases", ",".join(cases)]
        command += ["--budget", str(left), "--out", options.out] + flags
        # A session of its own, so that the compiler's helpers end with it.
        child = subprocess.Popen(command, start_new_session=True)
        try:
            child.wait(left)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)
            child.wait()
            print(f"out of time in {','.join(cases)}", file=sys.stderr)


if __name__ == "__main__":
    main()
